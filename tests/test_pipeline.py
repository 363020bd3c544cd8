"""Files in, embeddings out: order, batching, failures, and the cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_model import FakeModel
from videos import corrupted, folder, read_code, truncated, write_video

from zsar_cli.engine.encoding import stacked
from zsar_cli.engine.pipeline import Embedding, EmbedSettings, Pipeline
from zsar_cli.errors import InputError
from zsar_cli.models.base import FrameModel
from zsar_cli.store.cache import EmbeddingCache
from zsar_cli.video import workers as workers_module
from zsar_cli.video.content import BLOCK, SAMPLES, content_digest
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import Excerpt, Sampling, Window


def embed(
    inputs: Iterable[str | Excerpt | InputError],
    model: FakeModel,
    settings: EmbedSettings,
    cache: EmbeddingCache | None = None,
) -> Iterator[Embedding | InputError]:
    """What one model sees; decode processes and cache are closed at the end."""
    pipeline = Pipeline([model], settings, cache)
    try:
        for item in pipeline.embed(inputs):
            yield item if isinstance(item, InputError) else item[0]
    finally:
        pipeline.close()


def path_of(item: Embedding | InputError) -> str:
    return item.path if isinstance(item, InputError) else item.facts.path


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Seven videos of different frames, one of them damaged, and one file that is no video, in the middle."""
    home = tmp_path_factory.mktemp("videos")
    paths = [str(write_video(home / f"{index}.mp4", first=100 * index, frames=20 + index).path) for index in range(5)]
    bad = home / "bad.mp4"
    bad.write_text("this is text")
    cut = truncated(home / "cut.mkv", 0.6)
    return [*paths[:2], str(bad), *paths[2:], str(cut.path), str(folder(home / "frames", frames=6).path)]


def reference(path: str, model: FakeModel, sampling: Sampling) -> torch.Tensor:
    """The embedding of one file, read in this process."""
    decoded = read_video(path, sampling, model.geometry)
    return model.encode_video(torch.from_numpy(decoded.frames))


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_order_and_numbers_do_not_depend_on_workers_or_batch(videos: list[str], workers: int, batch_size: int) -> None:
    model = FakeModel()
    results = list(embed(videos, model, EmbedSettings(workers=workers, batch_size=batch_size)))
    assert [path_of(item) for item in results] == videos
    assert max(model.batches) <= batch_size
    for item in results:
        if isinstance(item, InputError):
            assert item.path.endswith("bad.mp4")
            continue
        torch.testing.assert_close(item.windows, reference(item.facts.path, model, model.sampling))
        assert len(item.facts.times) == 6
    assert sum(isinstance(item, InputError) for item in results) == 1
    (partial,) = (item for item in results if isinstance(item, Embedding) and item.facts.partial)
    assert partial.facts.path.endswith("cut.mkv")


def test_failures_found_earlier_keep_their_place(videos: list[str]) -> None:
    missing = InputError("gone.mp4", "find", "no such file or folder")
    results = list(embed([videos[0], missing, videos[1]], FakeModel(), EmbedSettings(workers=1)))
    assert [path_of(item) for item in results] == [videos[0], "gone.mp4", videos[1]]
    assert results[1] is missing


def test_a_second_run_decodes_nothing_and_gives_the_same(videos: list[str], tmp_path: Path) -> None:
    first_model, second_model = FakeModel(), FakeModel()
    settings = EmbedSettings(workers=2)
    first = list(embed(videos, first_model, settings, EmbeddingCache(tmp_path)))
    second = list(embed(videos, second_model, settings, EmbeddingCache(tmp_path)))
    assert first_model.batches and not second_model.batches
    assert [str(item) for item in second if isinstance(item, InputError)] == [
        str(item) for item in first if isinstance(item, InputError)
    ]
    for before, after in zip(first, second, strict=True):
        if isinstance(before, Embedding) and isinstance(after, Embedding):
            assert torch.equal(before.windows, after.windows) and torch.equal(before.spans, after.spans)
            assert after.facts == before.facts


def test_a_copy_under_another_name_is_known_and_changed_content_is_not(videos: list[str], tmp_path: Path) -> None:
    cache, settings = EmbeddingCache(tmp_path / "cache"), EmbedSettings(workers=1)
    list(embed([videos[0]], FakeModel(), settings, cache))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(Path(videos[0]).read_bytes())
    model = FakeModel()
    (item,) = embed([str(copy)], model, settings, cache)
    assert not model.batches
    assert path_of(item) == str(copy)
    write_video(copy, first=999)
    (changed,) = embed([str(copy)], model, settings, cache)
    assert model.batches == [1, 1]
    assert isinstance(changed, Embedding)
    torch.testing.assert_close(changed.windows, reference(str(copy), FakeModel(), FakeModel.sampling))


@pytest.mark.parametrize(
    "other",
    [
        {"sampling": {"windows": 1}},
        {"sampling": {"exact": False}},
        {"decoder": "decord"},
    ],
)
def test_other_settings_find_nothing_in_the_cache(videos: list[str], tmp_path: Path, other: dict[str, object]) -> None:
    cache = EmbeddingCache(tmp_path)
    list(embed([videos[0]], FakeModel(), EmbedSettings(workers=1), cache))
    model = FakeModel()
    list(embed([videos[0]], model, EmbedSettings(workers=1, **other), cache))  # type: ignore[arg-type]
    assert model.batches


def test_parts_of_a_file_are_each_read_and_known_by_themselves(videos: list[str], tmp_path: Path) -> None:
    path, model, settings = videos[0], FakeModel(), EmbedSettings(workers=2)
    parts = [Window(0.0, 0.3), Window(0.3, 0.7), Window(0.3, 0.5)]
    inputs = [path, *(Excerpt(path, within) for within in parts)]
    found = list(embed(inputs, model, settings, EmbeddingCache(tmp_path)))
    for item, within in zip(found, [None, *parts], strict=True):
        assert isinstance(item, Embedding) and item.facts.path == path
        decoded = read_video(path, FakeModel.sampling, model.geometry, within=within)
        expected = FakeModel().encode_video(torch.from_numpy(decoded.frames))
        torch.testing.assert_close(item.windows, expected)
        assert item.spans.tolist() == [[window.start, window.end] for window in decoded.windows]
    again = FakeModel()
    second = list(embed([*inputs, Excerpt(path, Window(0.1, 0.3))], again, settings, EmbeddingCache(tmp_path)))
    assert again.batches == [1, 1]  # the windows of the new part
    for before, after in zip(found, second[:4], strict=True):
        assert isinstance(before, Embedding) and isinstance(after, Embedding)
        assert torch.equal(before.windows, after.windows) and before.facts == after.facts
    (gone,) = embed([Excerpt(path, Window(50.0, 51.0))], FakeModel(), settings)
    assert isinstance(gone, InputError) and gone.path == path and "before the part from 50 to 51 s" in gone.reason


def test_another_model_finds_nothing_in_the_cache(videos: list[str], tmp_path: Path) -> None:
    cache, other = EmbeddingCache(tmp_path), FakeModel("fake-2")
    list(embed([videos[0]], FakeModel(), EmbedSettings(workers=1), cache))
    list(embed([videos[0]], other, EmbedSettings(workers=1), cache))
    assert other.batches


def test_inputs_are_read_as_they_are_needed(videos: list[str]) -> None:
    read: list[str] = []

    def source() -> object:
        for index in range(40):
            read.append(videos[index % 2])
            yield videos[index % 2]

    results = embed(source(), FakeModel(), EmbedSettings(workers=1))  # type: ignore[arg-type]
    next(results)
    assert len(read) < 10
    results.close()  # type: ignore[attr-defined]


def test_windows_do_not_depend_on_workers_batch_or_company(videos: list[str]) -> None:
    sampling = {"window": 0.3, "stride": 0.1}
    alone = {path: next(iter(embed([path], FakeModel(), EmbedSettings(sampling, workers=1)))) for path in videos}
    for workers, batch_size in ((1, 7), (3, 2)):
        settings = EmbedSettings(sampling, workers=workers, batch_size=batch_size)
        for item in embed(videos, FakeModel(), settings):
            if isinstance(item, Embedding):
                before = alone[item.facts.path]
                assert isinstance(before, Embedding)
                assert len(item.windows) > 1 or item.facts.path.endswith("frames")
                assert torch.equal(before.spans, item.spans) and before.facts == item.facts
                torch.testing.assert_close(before.windows, item.windows, atol=1e-5, rtol=0)


def test_windows_are_seen_as_they_are_encoded(videos: list[str]) -> None:
    seen: dict[str, list[torch.Tensor]] = {}
    pipeline = Pipeline([FakeModel()], EmbedSettings({"window": 0.3}, workers=2))
    try:
        results = list(pipeline.embed(videos, lambda path, model, spans, rows: seen.setdefault(path, []).append(spans)))
    finally:
        pipeline.close()
    for result in results:
        if not isinstance(result, InputError):
            assert torch.equal(torch.cat(seen[result[0].facts.path]), result[0].spans)


class Overflowing(FakeModel):
    """Gives numbers that are not finite for one of the videos, in its second window."""

    def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
        rows = super().encode_video(clips)
        for number, clip in enumerate(clips):
            if read_code(clip[0].numpy()) >= 200 and read_code(clip[0].numpy()) < 300:
                rows[number, 3] = torch.inf if len(clips) > 1 else torch.nan
        return rows


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_number_that_is_not_finite_is_the_failure_of_its_file(videos: list[str], batch_size: int) -> None:
    items = list(embed(videos, Overflowing(), EmbedSettings(workers=2, batch_size=batch_size)))
    failed = [item for item in items if isinstance(item, InputError) and item.stage == "model"]
    assert [Path(item.path).name for item in failed] == ["2.mp4"] and "not finite" in failed[0].reason
    assert [path_of(item) for item in items] == videos


class Small(FakeModel):
    """A device on which one window fits at a time, and not those of one video."""

    def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(clips))
        if len(clips) > 1 or 300 <= read_code(clips[0, 0].numpy()) < 400:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
        return FakeModel().encode_video(clips)


def test_what_does_not_fit_is_tried_in_halves_and_then_is_the_failure_of_its_file(videos: list[str]) -> None:
    model = Small()
    items = list(embed(videos, model, EmbedSettings(workers=1, batch_size=4)))
    failed = [item for item in items if isinstance(item, InputError) and item.stage == "model"]
    assert [Path(item.path).name for item in failed] == ["3.mp4"]
    assert "too little memory for one window (CUDA out of memory. Tried to allocate 2 GiB)" in failed[0].reason
    assert max(model.batches) > 1 and sum(isinstance(item, Embedding) for item in items) == 6
    with pytest.raises(RuntimeError, match="another"):
        model.encode_video = lambda clips: (_ for _ in ()).throw(RuntimeError("another"))  # type: ignore[method-assign]
        list(embed(videos[:1], model, EmbedSettings(workers=1)))


class OneByOne(FrameModel, FakeModel):
    """As `FakeModel`, but sees frame by frame; remembers which, and fails where it is told to."""

    def __init__(self, most: int = 1000, bad: int | None = None) -> None:
        super().__init__()
        self.seen: list[int] = []
        self.most, self.bad = most, bad

    def encode_frames(self, frames: torch.Tensor) -> torch.Tensor:
        if len(frames) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        codes = [read_code(frame.numpy()) for frame in frames]
        self.seen += codes
        rows = FakeModel().encode_video(frames[:, None])
        rows[[code == self.bad for code in codes]] = torch.nan
        return rows


OVERLAPPING = {"window": 0.4, "stride": 0.1, "frames": 4}


def test_a_frame_that_several_windows_show_is_encoded_once(videos: list[str]) -> None:
    path = videos[1]
    model = OneByOne()
    settings = EmbedSettings(OVERLAPPING, workers=1)
    (found,) = embed([path], model, settings)
    (expected,) = embed([path], FakeModel(), settings)
    assert isinstance(found, Embedding) and isinstance(expected, Embedding)
    assert torch.equal(found.spans, expected.spans) and len(found.windows) >= 3
    torch.testing.assert_close(found.windows, expected.windows, atol=1e-6, rtol=0)
    assert len(model.seen) == len(set(model.seen)) < found.windows.shape[0] * 4


def test_a_frame_without_a_row_fails_the_file_and_halves_are_tried(videos: list[str]) -> None:
    settings = EmbedSettings(OVERLAPPING, workers=1, batch_size=4)
    few = OneByOne(most=1)
    (found,) = embed([videos[1]], few, settings)
    (expected,) = embed([videos[1]], FakeModel(), settings)
    assert isinstance(found, Embedding) and isinstance(expected, Embedding)
    torch.testing.assert_close(found.windows, expected.windows, atol=1e-6, rtol=0)
    (failed,) = embed([videos[1]], OneByOne(bad=few.seen[-1]), settings)
    assert isinstance(failed, InputError) and failed.stage == "model" and "not finite" in failed.reason


def test_a_fresh_video_among_many_cached_ones_is_not_kept_waiting(videos: list[str], tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    known = videos[1]
    os.utime(known, (1, 1))  # old enough for its digest to be remembered
    list(embed([known], FakeModel(), EmbedSettings(workers=1), cache))
    taken = 0

    def inputs() -> Iterator[str]:
        nonlocal taken
        yield videos[0]
        for _ in range(5000):
            taken += 1
            yield known

    model = FakeModel()
    results = embed(inputs(), model, EmbedSettings(workers=1, batch_size=100), cache)
    first = next(results)
    assert path_of(first) == videos[0] and taken < 20_000  # the results that wait are bounded in bytes
    results.close()  # type: ignore[attr-defined]


def test_a_file_that_changes_while_it_is_read_is_not_kept(videos: list[str], tmp_path: Path) -> None:
    cache, path = EmbeddingCache(tmp_path / "cache"), tmp_path / "a.mp4"
    path.write_bytes(Path(videos[0]).read_bytes())

    class Meddling(FakeModel):
        def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
            os.utime(path, (5, 5))
            return super().encode_video(clips)

    list(embed([str(path)], Meddling(), EmbedSettings(workers=1), cache))
    model = FakeModel()
    list(embed([str(path)], model, EmbedSettings(workers=1), cache))
    assert model.batches


@pytest.mark.parametrize("cached", [True, False])
def test_facts_name_the_content_of_the_file(videos: list[str], tmp_path: Path, cached: bool) -> None:
    with EmbeddingCache(tmp_path) as cache:
        settings = EmbedSettings(workers=1, hashes="full")
        pipeline = Pipeline([FakeModel()], settings, cache if cached else None)
        for _ in range(2):  # the second time from the cache
            found = [item[0].facts.content for item in pipeline.embed(videos[:2]) if not isinstance(item, InputError)]
            assert found == [content_digest(path, "full") for path in videos[:2]]
        assert pipeline.content(videos[0]) == found[0] and pipeline.content(str(tmp_path / "none")) is None
        if cached:
            copy = tmp_path / "copy.mp4"
            copy.write_bytes(Path(videos[1]).read_bytes())
            os.utime(copy, (1, 1))
            assert pipeline.content(str(copy)) == found[1]
            assert cache.file_digest(copy, "full") == found[1], "it need not be read again"
        pipeline.close()


def test_a_full_digest_sees_what_a_sampled_one_may_not(tmp_path: Path) -> None:
    data = bytearray(os.urandom(BLOCK * 200))
    first, second = tmp_path / "a.mp4", tmp_path / "b.mp4"
    first.write_bytes(data)
    step = (len(data) - BLOCK) / (SAMPLES + 1)
    data[int(step / 2) + BLOCK] ^= 1  # between two of the blocks
    second.write_bytes(data)
    assert content_digest(str(first)) == content_digest(str(second))
    assert content_digest(str(first), "full") != content_digest(str(second), "full")
    for place in (0, len(data) - 1, int(step * 7) + 5):
        changed = bytearray(first.read_bytes())
        changed[place] ^= 1
        second.write_bytes(changed)
        assert content_digest(str(first)) != content_digest(str(second)), place
    second.write_bytes(first.read_bytes() + b"x")
    assert content_digest(str(first)) != content_digest(str(second))


@pytest.mark.parametrize(("limit", "expected"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_a_container_decodes_with_its_share_of_the_processors(
    limit: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr("zsar_cli.engine.machine.CPU_LIMIT", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(64), raising=False)
    assert EmbedSettings().decode_workers == expected
    assert EmbedSettings(workers=3).decode_workers == 3


@pytest.mark.parametrize("damaged", [False, True])
def test_vectors_do_not_depend_on_how_many_processes_share_a_long_file(
    damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.mkv"
    clip = corrupted(path, frames=201, gop=10) if damaged else write_video(path, frames=201, gop=10)
    settings = EmbedSettings({"window": 0.3, "frames": 2}, workers=1)
    (alone,) = embed([str(clip.path)], FakeModel(), settings)
    monkeypatch.setattr(workers_module, "_WORTH", 1.0)
    (shared,) = embed([str(clip.path)], FakeModel(), replace(settings, workers=4))
    assert isinstance(alone, Embedding) and isinstance(shared, Embedding)
    assert shared.facts == alone.facts and torch.equal(shared.spans, alone.spans)
    torch.testing.assert_close(shared.windows, alone.windows)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_frames_become_one_tensor_that_a_gpu_copies_at_once(device: str) -> None:
    frames = [np.full((4, 4, 3), number, np.uint8) for number in range(3)]
    whole = stacked(frames, torch.device(device))
    assert whole.dtype == torch.uint8 and whole.device.type == "cpu"
    assert torch.equal(whole, torch.from_numpy(np.stack(frames))) and whole.is_pinned() == (device == "cuda")


def test_pinned_memory_is_asked_for_on_cuda_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def empty(*shape: object, pin_memory: bool, **more: object) -> torch.Tensor:
        asked.append(pin_memory)
        return torch.zeros(*shape, **more)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(torch, "empty", empty)
    for device in ("cpu", "cuda:0", "mps"):
        stacked([np.ones((4, 4, 3), np.uint8)], torch.device(device))
    assert asked == [False, True, False]
