"""`zsar classify` on every kind of awkward input: one job over all of them, then a look at each record."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import videos
from cli_runner import Finished, Runner, label_options, preload
from PIL import Image
from videos import SIZE, Clip

from zsar_cli.video.kinds import VIDEO_SUFFIXES

LOSSLESS: dict[str, Any] = {
    "options": {"qp": "0"},
    "pix_fmt": "yuv444p",
}  # else a codec sees a turned picture differently
VARIABLE = [0, 0.1, 0.13, 0.5, 0.52, 0.54, 1.0, 1.7, 1.74, 1.78, 2.5, 3.1]
INDEX_LAST = "the file is cut off or damaged: its index (moov), often written last, is missing"
NO_VIDEOS = (
    f"no videos in this folder (looked for {', '.join(sorted(VIDEO_SUFFIXES | {'.webp'}))}, "
    "and for folders of images only)"
)


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


def cut(path: Path) -> None:
    """Half of an mp4 whose index stands at its end."""
    videos.write_video(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))  # such an address holds about 100 bytes


def still(path: Path) -> None:
    Image.new("RGB", SIZE).save(path)


# name: (how it comes to be, stage, reason, decoder)
BAD: dict[str, tuple[Callable[[Path], object], str, str, str | None]] = {
    "missing.mp4": (lambda path: None, "find", "no such file or folder", None),
    "empty folder": (lambda path: path.mkdir(), "find", NO_VIDEOS, None),
    "only text": (
        lambda path: (path.mkdir(), (path / "notes.txt").write_text("x")),
        "find",
        NO_VIDEOS,
        None,
    ),
    "nothing*.mp4": (lambda path: None, "find", "nothing matches this pattern", None),
    "link.mp4": (lambda path: path.symlink_to("gone"), "find", "a link to 'gone': no such file or folder", None),
    "fifo.mp4": (lambda path: os.mkfifo(path), "find", "not a regular file (a FIFO)", None),
    "socket.mp4": (bind, "find", "not a regular file (a socket)", None),
    "https://example.com/a.mp4": (
        lambda path: None,
        "find",
        "a web address is not a file: download it first",
        None,
    ),
    "zero.mp4": (lambda path: path.write_bytes(b""), "open", "the file is empty (0 bytes)", None),
    "text.mp4": (
        lambda path: path.write_text("not a video\n" * 100),
        "open",
        "its content is not a video that FFmpeg recognises",
        "pyav",
    ),
    "audio.mp4": (videos.audio_only, "open", "no video stream, only audio", "pyav"),
    "cover.mp4": (
        lambda path: videos.audio_only(path, picture=True),
        "open",
        "no video stream, only audio and a cover picture",
        "pyav",
    ),
    "cut.mp4": (cut, "open", INDEX_LAST, "pyav"),
    "still.png": (
        still,
        "open",
        "a still image is not a video: give a video, an animation or a folder of images",
        "images",
    ),
}

GOOD: dict[str, Callable[[Path], Clip]] = {
    "half.mp4": lambda path: videos.truncated(path, 0.5),
    "corrupt.mp4": videos.corrupted,
    "one.mp4": lambda path: videos.write_video(path, frames=1),
    "short.mp4": lambda path: videos.write_video(path, frames=5),  # 0.2 s
    "8k.mp4": lambda path: videos.write_video(path, frames=1, size=(7680, 4320), options={"preset": "ultrafast"}),
    "upright.mp4": lambda path: videos.write_video(path, **LOSSLESS),
    "turned 90.mp4": lambda path: videos.rotated(path, 90, **LOSSLESS),
    "turned 180.mp4": lambda path: videos.rotated(path, 180, **LOSSLESS),
    "turned 270.mp4": lambda path: videos.rotated(path, 270, **LOSSLESS),
    "variable.mp4": lambda path: videos.write_video(path, times=VARIABLE),
    "edited.mp4": lambda path: videos.edit_list(path, 17),
    "av1.mp4": lambda path: videos.write_video(path, "libsvtav1", options={"preset": "12"}),
    "hevc.mp4": lambda path: videos.write_video(path, "libx265", options={"x265-params": "log-level=none"}),
    "vp9.webm": lambda path: videos.write_video(path, "libvpx-vp9", options={"cpu-used": "8"}),
    "mpeg4.avi": lambda path: videos.write_video(path, "mpeg4"),
    "h264.mkv": videos.write_video,
    "h264.mov": videos.write_video,
    "with space.mp4": videos.write_video,
    "ünï 名前 🚴.mp4": videos.write_video,
    "-dash.mp4": videos.write_video,
    "with\nline end \x1b[31m.mp4": videos.write_video,
    os.fsdecode(b"latin \xe9.mp4"): videos.write_video,
    os.fsdecode(b"frames \xe9"): lambda path: videos.folder(path, frames=3),
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Clip]]:
    """All inputs in one folder, the working directory while they are made; the truth about the good ones."""
    folder = tmp_path_factory.mktemp("input")
    before = os.getcwd()
    os.chdir(folder)
    try:
        for name, (make, *_) in BAD.items():
            make(folder / name)
        yield {name: make(folder / name) for name, make in GOOD.items()}
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def job(clips: dict[str, Clip], zsar: Runner) -> Finished:
    """One run over everything, the bad between the good."""
    bad, good = list(BAD), list(GOOD)
    names = bad[: len(bad) // 2] + good + bad[len(bad) // 2 :]
    where = clips["one.mp4"].path.parent
    run = zsar("classify", *label_options(), "--format", "jsonl", "--workers", "2", "--", *names, cwd=where, code=3)
    assert [record["path"] for record in run.records] == names
    return run


def record_of(job: Finished, name: str) -> dict[str, Any]:
    (record,) = [record for record in job.records if record["path"] == name]
    return record


def scores(record: dict[str, Any]) -> dict[str, float]:
    return {prediction["label"]: prediction["score"] for prediction in record["predictions"]}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_named_with_stage_reason_and_decoder(job: Finished, name: str) -> None:
    _, stage, reason, decoder = BAD[name]
    record = record_of(job, name)
    assert record["error"] == {"stage": stage, "reason": reason, "decoder": decoder}
    assert record["predictions"] == []
    by = f" ({decoder})" if decoder else ""
    assert f"error: {name}: {stage} failed{by}: {reason}\n" in job.stderr


@pytest.mark.parametrize("name", GOOD)
def test_an_awkward_input_is_classified(job: Finished, name: str) -> None:
    record = record_of(job, name)
    assert record["error"] is None
    assert len(record["predictions"]) == 5
    assert sum(scores(record).values()) == pytest.approx(1.0, abs=1e-5)
    assert len(record["sampling"]["times"]) == 16


@pytest.mark.parametrize("name", sorted(set(GOOD) - {"half.mp4", "corrupt.mp4"}))
def test_the_frames_are_those_a_player_shows(job: Finished, clips: dict[str, Clip], name: str) -> None:
    clip, record = clips[name], record_of(job, name)
    assert record["partial"] is None
    duration = record["video"]["duration"]
    assert duration == pytest.approx(clip.end, abs=0.045)  # a variable rate says little of the last frame
    instants = [(i + 0.5) * duration / 16 for i in range(16)]
    start_of = dict(zip(clip.codes, clip.starts, strict=True))
    expected = [start_of[clip.shown(instant)] for instant in instants]
    assert np.allclose(record["sampling"]["times"], expected, atol=0.002)


def test_the_last_line_counts(job: Finished) -> None:
    last = job.stderr.splitlines()[-1]
    good, absent = len(GOOD), sum(stage == "find" for _, stage, _, _ in BAD.values())
    bad = len(BAD) - absent
    assert last == (
        f"{good + bad} videos: {good} classified, 2 of them only in part, {bad} failed; "
        f"nothing was found for {absent} paths"
    )
    assert "Traceback" not in job.stderr


def test_a_truncated_file_is_partial(job: Finished) -> None:
    partial = record_of(job, "half.mp4")["partial"]
    assert 0 < partial["share"] < 0.6
    assert partial["reason"].startswith("nothing can be read after 0.")
    assert partial["reason"].endswith(" s: the frames are spread over the part before")
    assert f"warning: half.mp4: only {partial['share']:.0%} was read: {partial['reason']}\n" in job.stderr


def test_a_corrupt_middle_is_partial(job: Finished) -> None:
    partial = record_of(job, "corrupt.mp4")["partial"]
    assert 0.2 < partial["share"] < 1
    assert partial["reason"].endswith(
        "(Invalid data found when processing input): where a frame is lost the nearest one was taken"
    )
    assert f"warning: corrupt.mp4: only {partial['share']:.0%} was read: {partial['reason']}\n" in job.stderr


def test_few_frames_are_noted(job: Finished) -> None:
    assert record_of(job, "one.mp4")["notes"] == ["one frame for all 16 instants asked for"]
    assert record_of(job, "short.mp4")["notes"] == [
        "5 different frames for the 16 instants asked for: some are repeated"
    ]
    assert record_of(job, "short.mp4")["video"]["duration"] == pytest.approx(0.2)


def test_a_frame_of_8k_has_its_size(job: Finished) -> None:
    video = record_of(job, "8k.mp4")["video"]
    assert (video["width"], video["height"]) == (7680, 4320)


@pytest.mark.parametrize(("degrees", "counterclockwise"), [(90, 270), (180, 180), (270, 90)])
def test_a_turned_video_equals_its_upright_twin(job: Finished, degrees: int, counterclockwise: int) -> None:
    turned, upright = record_of(job, f"turned {degrees}.mp4"), record_of(job, "upright.mp4")
    assert turned["video"] == {**upright["video"], "rotation": counterclockwise}
    assert turned["sampling"] == upright["sampling"]
    assert turned["predictions"][0]["label"] == upright["predictions"][0]["label"]
    assert scores(turned) == pytest.approx(scores(upright), abs=0.001)


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("av1.mp4", "av1", "mp4"),
        ("hevc.mp4", "hevc", "mp4"),
        ("vp9.webm", "vp9", "webm"),
        ("mpeg4.avi", "mpeg4", "avi"),
        ("h264.mkv", "h264", "matroska"),
        ("h264.mov", "h264", "mov"),
    ],
)
def test_codecs_and_containers_agree(job: Finished, name: str, codec: str, container: str) -> None:
    record = record_of(job, name)
    assert record["video"]["codec"] == codec
    assert container in record["video"]["container"]
    assert record["notes"] == []
    # The same pictures through another lossy codec.
    assert scores(record) == pytest.approx(scores(record_of(job, "upright.mp4")), abs=0.05)


def test_messages_show_odd_names_escaped(job: Finished, zsar: Runner, tmp_path: Path) -> None:
    name = "a\nb\x1b[31m" + os.fsdecode(b"\xe9") + ".mp4"
    (tmp_path / name).write_text("x")
    run = zsar("classify", name, *label_options(), cwd=tmp_path, code=1)
    shown = "a\\nb\\x1b[31m\\udce9.mp4"
    reason = "open failed (pyav): its content is not a video that FFmpeg recognises"
    assert run.stderr == f"error: {shown}: {reason}\n1 video: 0 classified, 1 failed\n"
    assert run.stdout == f"{shown}\n  {reason}\n"


def test_errors_show_odd_names_escaped(zsar_here: Callable[..., Finished], tmp_path: Path) -> None:
    run = zsar_here("classify", "a.mp4", "--labels", "a\x1b[31m\u202e.txt", cwd=tmp_path, code=2)
    assert run.stderr.startswith("error: a\\x1b[31m\\u202e.txt: no such label file; ")


def test_a_leading_dash_by_itself_is_an_option(zsar: Runner, clips: dict[str, Clip]) -> None:
    where = clips["one.mp4"].path.parent
    run = zsar("classify", "-dash.mp4", "--label", "swimming", cwd=where, code=2)
    assert "No such option" in run.prose


# Drops root's right to read everything (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH), then becomes another program.
WITHOUT_PRIVILEGE = """
import ctypes, os, sys
drop_from_bounding_set = 24
for capability in (1, 2):
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0):
        sys.exit("prctl failed")
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="capabilities are of Linux")
def test_what_may_not_be_read_is_named(zsar: Runner, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    videos.write_video(tmp_path / "secret.mp4", frames=2)
    for name in ("closed", "secret.mp4"):
        (tmp_path / name).chmod(0)
    before = [sys.executable, "-c", WITHOUT_PRIVILEGE]
    arguments = ["secret.mp4", "closed", "--label", "swimming", "--format", "jsonl"]
    run = zsar("classify", *arguments, cwd=tmp_path, code=1, before=before)
    assert [record["error"] for record in run.records] == [
        {"stage": "open", "reason": "no permission to read it", "decoder": None},
        {"stage": "find", "reason": "no permission to read it", "decoder": None},
    ]


FAULTS = """
import os, sys
import zsar_cli.video.reader as reader

good = reader.read_windows

def read_windows(path, *rest):
    if "hang" in path:
        with open(os.environ["FAULT_LOG"], "a") as log:
            log.write(f"{os.getpid()}\\n")
        import ctypes
        ctypes.PyDLL(None).sleep(3600)  # keeps the interpreter lock, as decoders do
    if "crash" in path:
        os.kill(os.getpid(), 11)
    yield from good(path, *rest)

reader.read_windows = read_windows
"""


@pytest.mark.skipif(os.name == "nt", reason="PyDLL(None) is of POSIX")
def test_a_decoder_that_hangs_or_crashes_costs_its_file_alone(zsar: Runner, tmp_path: Path) -> None:
    videos.write_video(tmp_path / "good.mp4", frames=4)
    for first, name in enumerate(("hang.mp4", "crash.mp4", "last.mp4"), start=1):
        videos.write_video(tmp_path / name, frames=4, first=first)  # no content is known from another
    log = tmp_path / "pids"
    variables = {**preload(tmp_path / "faults", FAULTS), "FAULT_LOG": str(log)}
    names = ["good.mp4", "hang.mp4", "crash.mp4", "last.mp4"]
    fresh = zsar.with_fresh_cache(tmp_path / "cache")
    options = [*label_options(), "--format", "jsonl", "--timeout", "4", "--workers", "1"]
    run = fresh("classify", *names, *options, cwd=tmp_path, code=3, variables=variables)
    assert [record["path"] for record in run.records] == names
    hang = "no result within 4 s; the decoder was stopped (--timeout raises the limit)"
    crash = "the decoder crashed (signal 11)"
    assert [record["error"] for record in run.records] == [
        None,
        {"stage": "timeout", "reason": hang, "decoder": "pyav"},
        {"stage": "decode", "reason": crash, "decoder": "pyav"},
        None,
    ]
    assert f"error: hang.mp4: timeout failed (pyav): {hang}\n" in run.stderr
    (process,) = map(int, log.read_text().split())
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
