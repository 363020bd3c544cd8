"""Files in, embeddings out: order, batching, failures, and the cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from fake_model import FakeModel
from videos import folder, truncated, write_video

from zsar_cli.engine.pipeline import Embedding, EmbedSettings, Pipeline
from zsar_cli.errors import InputError
from zsar_cli.store.cache import EmbeddingCache
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import Sampling


def embed(
    inputs: Iterable[str | InputError], model: FakeModel, settings: EmbedSettings, cache: EmbeddingCache | None = None
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
