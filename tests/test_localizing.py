"""When labels happen in real files: times, notes, workers, and the command."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import videos
from cli_runner import LABELS, Finished, Runner, label_options
from fake_model import FakeModel
from videos import read_code, write_video

from zsar_cli.cli.localize import SegmentOptions
from zsar_cli.engine.classifier import Labelled, ZeroShotClassifier
from zsar_cli.engine.localizing import localize_each
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError
from zsar_cli.labels import LabelSet
from zsar_cli.transfer.segments import SegmentSettings

Here = Callable[..., Finished]


@pytest.fixture
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


class Light(ZeroShotClassifier):
    """To its labels a window is as similar as the left and the right half of its frames are bright."""

    def __init__(self, workers: int = 1) -> None:
        model = FakeModel()
        settings = EmbedSettings({"window": 1.0, "stride": 0.5, "frames": 4}, workers=workers)
        super().__init__(model, model.bank(), embedding=settings)

    def score(self, rows, labelled):  # type: ignore[no-untyped-def]
        if labelled is self.background:
            return torch.zeros(len(rows[0]), len(labelled.labels))
        halves = rows[0].reshape(-1, 4, 2, 2).mean(dim=(1, 3))
        return torch.cat([halves * 5, torch.zeros(len(halves), 1)], dim=1)


LIGHTS = ("left", "right", "never")


def film(path: Path, lit: dict[str, tuple[float, float]], steps: list[float], seconds: float = 20.0) -> str:
    """Dark frames `steps` seconds apart in turn, in which halves are white for a while."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        now = 0.0
        for step in itertools.cycle(steps):
            if now >= seconds:
                break
            image = np.full((64, 64, 3), 20, dtype=np.uint8)
            for side, (start, end) in lit.items():
                if start <= now < end:
                    image[:, slice(0, 32) if side == "left" else slice(32, 64)] = 235
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(now * 1000), Fraction(1, 1000)
            out.mux(stream.encode(frame))
            now += step
        out.mux(stream.encode(None))
    return str(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A plain film, one of a variable rate, one in which nothing happens, no video, and a short one."""
    home = tmp_path_factory.mktemp("films")
    (home / "bad.mp4").write_text("no video")
    return [
        film(home / "plain.mp4", {"left": (4.0, 8.0), "right": (6.0, 12.0)}, [0.1]),
        film(home / "variable.mkv", {"right": (3.0, 7.0)}, [0.04, 0.2, 0.1]),
        film(home / "dark.mp4", {}, [0.1]),
        str(home / "bad.mp4"),
        film(home / "short.mp4", {"left": (0.5, 1.0)}, [0.1], 2.0),
    ]


def localize(paths: list[str], workers: int = 1) -> list:
    with Light(workers) as classifier:
        labelled = classifier.prepare(LabelSet.from_names(LIGHTS))
        return list(localize_each(classifier, classifier.embed(paths), labelled, SegmentSettings()))


def test_segments_are_where_things_happen(films: list[str]) -> None:
    plain, variable, dark, bad, short = localize(films)
    assert [one.label for one in plain.segments] == ["left", "right"]
    assert [one.label for one in variable.segments] == ["right"]
    for one, (start, end) in zip((*plain.segments, *variable.segments), [(4, 8), (6, 12), (3, 7)], strict=True):
        assert abs(one.start - start) <= 0.5 and abs(one.end - end) <= 0.5 and start < one.peak < end
    assert dark.segments == () and dark.error is None
    assert bad.error is not None and bad.segments is None
    assert short.segments == () and short.notes == (
        "3 windows, too few to compare with each other: 5 are needed, of a shorter --window and "
        "--stride (a library has those that it was made with)",
    )


def test_other_workers_and_files_change_nothing(films: list[str]) -> None:
    together = localize(films, workers=3)
    for path, record in zip(films, together, strict=True):
        (alone,) = localize([path])
        assert (alone.segments, alone.notes) == (record.segments, record.notes)


class Coded(ZeroShotClassifier):
    """Its only label happens while frames of some numbers are on the screen."""

    class Model(FakeModel):
        def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[float(20 <= read_code(clip[0].numpy()) < 30)] for clip in clips])

    def __init__(self) -> None:
        model = self.Model()
        settings = EmbedSettings({"window": 0.08, "stride": 0.04, "frames": 1}, workers=1)
        super().__init__(model, model.bank(), embedding=settings)

    def score(self, rows, labelled):  # type: ignore[no-untyped-def]
        return rows[0] * 5 if labelled is not self.background else torch.zeros(len(rows[0]), len(labelled.labels))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: videos.rotated(path, 90),
        lambda path: videos.edit_list(path, cut=17),
        lambda path: write_video(path, times=[0.03 * i + 0.1 * (i // 3) for i in range(40)]),
        lambda path: write_video(path, frames=60, times=[i * 1001 / 30000 for i in range(60)]),
        lambda path: write_video(path, start=5.0),
    ],
    ids=["rotated", "edit list", "variable rate", "29.97", "late start"],
)
def test_times_are_those_at_which_frames_are_shown(make: Callable[[Path], videos.Clip], tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4")
    shown = [start for start, code in zip(clip.starts, clip.codes, strict=True) if 20 <= code < 30]
    end = next((start for start, code in zip(clip.starts, clip.codes, strict=True) if code >= 30), clip.end)
    with Coded() as classifier:
        (record,) = localize_each(
            classifier, classifier.embed([str(clip.path)]), Labelled(LabelSet.from_names(["shown"])), SegmentSettings()
        )
    assert record.segments is not None
    (found,) = record.segments
    assert abs(found.start - shown[0]) <= 0.04 and abs(found.end - end) <= 0.04


def test_failures_found_before_keep_their_place() -> None:
    with Light() as classifier:
        labelled = classifier.prepare(LabelSet.from_names(LIGHTS))
        (record,) = localize_each(classifier, [InputError("x", "find", "gone")], labelled, SegmentSettings())
    assert record.error is not None and record.error.reason == "gone"


# --- the command ---


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4").path


def test_the_command_writes_segments(zsar_here: Here, clip: Path, tmp_path: Path) -> None:
    options = ("--window", 0.4, "--onset", 0.2, "--change", 0.5, "--no-cache")
    run = zsar_here("localize", clip, *label_options(), *options, "-f", "jsonl", code=0)
    assert run.stderr.endswith("windows of 0.4 s, one every 0.2 s (--window, --stride)\n")
    (record,) = run.records
    assert record["segments"] and {one["label"] for one in record["segments"]} <= set(LABELS)
    assert len(record["predictions"]) == len(LABELS)
    assert record["run"]["settings"]["segments"]["onset"] == 0.2 and record["sampling"]["stride"] == 0.2
    duration = record["video"]["duration"]
    for one in record["segments"]:
        assert 0 <= one["start"] <= one["peak"] <= one["end"] <= duration + 1e-6
    target = tmp_path / "segments.csv"
    zsar_here("localize", clip, *label_options(), *options, "-q", "-f", "csv-long", "-o", target, code=0)
    rows = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"))))
    names = ("start", "end", "peak", "score", "similarity")
    assert [[float(row[name]) for name in names] for row in rows] == [
        pytest.approx([one[name] for name in names], abs=1e-4) for one in record["segments"]
    ]


def test_a_number_of_windows_is_taken_as_it_is(zsar_here: Here, clip: Path) -> None:
    run = zsar_here("localize", clip, *label_options(), "--windows", 6, "-f", "jsonl", code=0)
    assert "windows of" not in run.stderr and run.records[0]["windows"] == 6


def test_wrong_settings_are_named_before_any_work(zsar_here: Here, clip: Path) -> None:
    run = zsar_here("localize", clip, *label_options(), "--offset", 2, code=2)
    assert "offset is 2.0; it is a share" in run.prose


def test_the_options_have_the_settings_own_defaults() -> None:
    assert SegmentOptions().settings() == SegmentSettings()
    assert {field.name for field in fields(SegmentSettings)} - {field.name for field in fields(SegmentOptions)} == {
        "floor"
    }


def test_classify_says_where_few_frames_stand_for_a_long_video(zsar_here: Here, tmp_path: Path) -> None:
    for name in ("a.mkv", "b.mkv"):
        write_video(tmp_path / name, frames=4, times=[0.0, 600.0, 1200.0, 2400.0])
    run = zsar_here("classify", tmp_path / "a.mkv", tmp_path / "b.mkv", *label_options(), "-f", "jsonl", code=0)
    said = [line for line in run.stderr.splitlines() if "stand for" in line]
    assert said == [f"warning: {tmp_path / 'a.mkv'}: 16 frames stand for 40 minutes; try zsar localize, or --windows"]


def test_what_a_format_cannot_hold_is_refused_before_any_work(zsar_here: Here, clip: Path) -> None:
    options = (*label_options(), "--format", "vtt")
    run = zsar_here("localize", clip, clip.parent / "other.mp4", *options, code=2)
    assert "holds one video, and 2 were given" in run.prose
    run = zsar_here("classify", clip, *options, code=2)
    assert "segments are written by zsar localize" in run.prose
