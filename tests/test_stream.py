"""Segments that are written as they close: where they are, when they come, what is held, and who reads them."""

from __future__ import annotations

import csv
import io
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_runner import Finished, label_options
from fake_model import FakeModel
from numpy.typing import NDArray
from videos import write_video

from zsar_cli.data.timed import read_moments, read_results
from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.engine.localizing import localize_stream
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.records import Segment
from zsar_cli.transfer.scenes import scene_borders
from zsar_cli.transfer.segments import SegmentSettings, cells, find_segments
from zsar_cli.transfer.stream import AHEAD, LONGEST, SegmentStream
from zsar_cli.video.workers import DecodePool

Here = Callable[..., Finished]
Array = NDArray[np.float64]
HOW = SegmentSettings()


def video(count: int, happens: list[tuple[int, int, int]], labels: int = 2) -> tuple[Array, Array, Array]:
    """Vectors [N, 3], similarity [N, U] and spans of windows of a video, in which labels happen in some windows."""
    rng = np.random.default_rng(0)
    visual, similarity = rng.normal(0, 0.1, (count, 3)), rng.normal(0, 0.5, (count, labels))
    for label, first, end in happens:
        visual[first:end, label] += 3
        similarity[first:end, label] += 6
    starts = 2.0 * np.arange(count)
    return visual, similarity, np.stack([starts, starts + 4], axis=1)


def streamed(visual: Array, similarity: Array, spans: Array, how: SegmentSettings = HOW) -> Iterator[list[Segment]]:
    """What each window closes, and last what the end does."""
    stream = SegmentStream(["a", "b"], how)
    for row, values, (start, end) in zip(visual, similarity, spans, strict=True):
        yield list(stream.add(row, values, start, end))
    yield list(stream.end())


def times(segments: list[Segment]) -> list[tuple[str, float, float]]:
    return [(one.label, one.start, one.end) for one in sorted(segments, key=lambda one: (one.start, one.label))]


@pytest.mark.parametrize(
    "how", [HOW, SegmentSettings(pad=3.0), SegmentSettings(min_gap=30.0), SegmentSettings(min_length=25.0)]
)
def test_what_stands_out_is_found_where_the_whole_video_has_it(how: SegmentSettings) -> None:
    shown = video(200, [(0, 0, 8), (1, 50, 60), (0, 55, 70), (0, 78, 90), (1, 195, 200)])
    found = [one for some in streamed(*shown, how) for one in some]
    visual, similarity, spans = shown
    whole = find_segments(similarity, cells(spans), scene_borders([visual], how.change), ["a", "b"], how)
    assert whole and times(found) == times(list(whole))


def test_a_segment_comes_when_it_is_over_and_not_at_the_end() -> None:
    found = list(streamed(*video(1000, [(0, 40, 50), (1, 60, 64)])))
    (closed,) = [number for number, some in enumerate(found) if any(one.label == "a" for one in some)]
    assert 50 + AHEAD <= closed < 100 + AHEAD


def test_a_label_that_never_goes_is_written_in_parts() -> None:
    visual, similarity, spans = video(3 * LONGEST, [])
    similarity[:, 0] += np.linspace(0, 10, len(similarity)) ** 3  # always far above what was before
    found = [one for some in streamed(visual, similarity, spans) for one in some if one.label == "a"]
    assert len(found) >= 3 and max(one.end - one.start for one in found) <= 2.0 * (LONGEST + 61)


@pytest.mark.parametrize("kind", ["busy", "still", "rising"])
def test_what_is_held_does_not_grow_with_the_length(kind: str) -> None:
    stream, alive, most = SegmentStream(["a", "b"], HOW), 0, [0, 0]
    rng = np.random.default_rng(0)

    def gone() -> None:
        nonlocal alive
        alive -= 1

    count = 12_000
    for number in range(count):
        vector, similarity = rng.normal(0, 1, 3) * (kind == "busy"), rng.normal(0, 0.5, 2)
        similarity[0] += (number / 1000) ** 3 if kind == "rising" else 6.0 * (number % 100 < 10)
        for one in (vector, similarity):
            alive += 1
            weakref.finalize(one, gone)
        stream.add(vector, similarity, 2.0 * number, 2.0 * number + 4)
        del vector, similarity, one
        half = int(number >= count // 2)
        most[half] = max(most[half], alive)
    assert most[1] < 1.1 * most[0] < 1500


class Lit(ZeroShotClassifier):
    """To its label a window is as similar as the left half of its frames is bright."""

    def __init__(self, workers: int = 1) -> None:
        model = FakeModel()
        settings = EmbedSettings({"window": 4.0, "stride": 2.0, "frames": 1}, workers=workers)
        super().__init__(model, model.bank(), embedding=settings)

    def score(self, rows, labelled):  # type: ignore[no-untyped-def]
        left = rows[0].reshape(-1, 4, 2, 2).mean(dim=(1, 3))[:, :1]
        return torch.cat([5 * left, torch.zeros(len(left), 1)], dim=1)


def of_three_hours(classifier: Lit, folder: Path) -> Path:
    """A file that the classifier takes for one of three hours; it has a byte for each window that was read."""
    film, pipeline = folder / "film.mp4", classifier.pipeline
    film.touch()
    pipeline._pool = DecodePool(1, 60.0, pipeline.views, read="faulty_readers:three_hours")
    return film


def test_the_first_segment_leaves_before_a_fiftieth_of_the_file_is_read(tmp_path: Path) -> None:
    with Lit() as classifier:
        film = of_three_hours(classifier, tmp_path)
        records = localize_stream(classifier, [str(film)], classifier.prepare(LabelSet.from_names(["a", "b"])), HOW)
        first = next(records)
        read = film.stat().st_size
        records.close()  # type: ignore[attr-defined]
    assert first.segments is not None and first.goes_on and first.windows is None
    assert read < 0.02 * 5400


def test_records_of_a_video_are_its_segments_and_last_what_is_known_of_it(tmp_path: Path) -> None:
    with Lit() as classifier:
        film = of_three_hours(classifier, tmp_path)
        labelled = classifier.prepare(LabelSet.from_names(["a", "b"]))
        gone = InputError("gone.mp4", "find", "not there")
        missing, *some, last = localize_stream(classifier, [gone, str(film)], labelled, HOW)
    assert missing.error is not None and not missing.goes_on
    assert all(record.goes_on and record.segments for record in some)
    assert last.facts is not None and last.windows == 5400 and last.facts.content is not None
    found = [one for record in (*some, last) for one in record.segments or ()]
    assert len(found) == 360 and {one.label for one in found} == {"a"}
    for number, one in enumerate(found):
        assert (one.start, one.end) == (30 * number + 9, 30 * number + 19)


def test_what_fails_in_the_middle_keeps_what_was_found(tmp_path: Path) -> None:
    with Lit() as classifier:
        good = classifier.pipeline.encode
        calls = iter(range(1000))
        bad = "its numbers are not finite"
        classifier.pipeline.encode = lambda *given: [bad] if next(calls) > 20 else good(*given)  # type: ignore[method-assign]
        film = of_three_hours(classifier, tmp_path)
        labelled = classifier.prepare(LabelSet.from_names(["a", "b"]))
        *some, last = localize_stream(classifier, [str(film)], labelled, HOW)
    assert some and last.error is not None and (last.error.stage, last.error.reason) == ("model", bad)


def test_several_decode_processes_are_refused() -> None:
    with Lit(workers=2) as classifier, pytest.raises(UsageError, match="one model and one decode process, not 1 and 2"):
        next(classifier.pipeline.stream("film.mp4"))


def test_few_windows_have_a_note(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", frames=20)
    with Lit() as classifier:
        labelled = classifier.prepare(LabelSet.from_names(["a", "b"]))
        (record,) = localize_stream(classifier, [str(clip.path)], labelled, HOW)
    assert record.segments == () and "too few to compare" in record.notes[0]


# --- the command ---

OPTIONS = (*label_options(), "--window", 0.4, "--onset", 0.2, "--change", 0.5, "--stream")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", frames=250).path


@pytest.fixture
def written(zsar_here: Here, clip: Path, tmp_path: Path) -> Path:
    target = tmp_path / "film.jsonl"
    zsar_here("localize", clip, *OPTIONS, "-q", "-o", target, code=0)
    return target


def test_the_command_writes_lines_that_others_read_as_one_record(written: Path, clip: Path) -> None:
    *some, last = map(json.loads, written.read_text(encoding="utf-8").splitlines())
    assert some and all(line["video"] is None and line["segments"] and not line["predictions"] for line in some)
    assert last["video"] is not None and last["windows"] == 49 and last["run"]["settings"]["stream"] is True
    assert set(last) == set(some[0])
    found = [one for line in (*some, last) for one in line["segments"]]
    (video,) = read_results(written).items()
    assert video[0] == clip.stem and len(video[1]) == len(found)
    assert [(path, one.label) for path, one in read_moments(written)] == [(str(clip), one["label"]) for one in found]


def test_the_report_shows_it_as_one_video(zsar_here: Here, written: Path, tmp_path: Path) -> None:
    zsar_here("report", written, "-o", tmp_path / "page.html", "--no-thumbnails", code=0)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count('"path":"') == 1


def test_rows_are_written_as_segments_close(zsar_here: Here, written: Path, clip: Path) -> None:
    run = zsar_here("localize", clip, *OPTIONS, "-q", "-f", "csv", code=0)
    *rows, last = csv.DictReader(io.StringIO(run.stdout))
    lines = map(json.loads, written.read_text(encoding="utf-8").splitlines())
    found = [one for line in lines for one in line["segments"]]
    if last["answer"]:
        rows.append(last)
    assert [(row["answer"], float(row["start"])) for row in rows] == [(one["label"], one["start"]) for one in found]


def test_no_other_job_goes_on_with_a_stream(zsar_here: Here, written: Path, clip: Path) -> None:
    options = [one for one in OPTIONS if one != "--stream"]
    run = zsar_here("localize", clip, *options, "-o", written, "--resume", code=2)
    assert "was written by --stream, and no other job goes on with it" in run.prose


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("-f", "table"), "table is written in one piece: give -f or -o one of jsonl"),
        (("-f", "vtt"), "vtt is written in one piece"),
        (("-o", "a.jsonl", "--resume"), "--resume goes on behind whole videos"),
        (("-f", "jsonl", "--max-per-label", 2), "--max-per-label compares all segments"),
        (("-f", "jsonl", "--shots"), "--shots reads all of a video before"),
        (("-f", "jsonl", "--model", "builtin", "--model", "clip"), "2 models may read a video one after the other"),
        (("-f", "jsonl", "--workers", 2), "--workers 2 would share a video out"),
        (("-f", "jsonl", "--reject", "auto"), "--reject and --calibration are for whole videos"),
    ],
)
def test_what_asks_for_the_whole_is_refused(zsar_here: Here, clip: Path, options: tuple[object, ...], why: str) -> None:
    run = zsar_here("localize", clip, *OPTIONS, *options, code=2)
    assert f"--stream: {why}" in run.prose
