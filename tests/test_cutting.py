"""Pieces of videos whose every frame carries its number: begin and end, times, turns, sound, and what is refused."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import videos
from test_readers import KINDS
from videos import Clip, read_code

from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.video import cutting, exact_cut
from zsar_cli.video.cut_process import Cutter
from zsar_cli.video.cutting import cut
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import Geometry, Made, Piece, Sampling

# Where a reader without edit lists reads the same as one with them, nothing in the file depends on them.
NO_EDITS = {"ignore_editlist": "1"}
PIECES = [(0.48, 1.6), (0.0, 0.3), (0.71, 0.9), (1.0, 99.0), (0.5, 0.5)]


def look(path: Path, options: dict[str, str] | None = None) -> list[tuple[float, int]]:
    """When each frame of a file is shown, and its number, by decoding all of it with nothing of ours."""
    with av.open(str(path), options=options or {}) as source:
        frames = list(source.decode(video=0))
        turned = [np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)) for frame in frames]
        return [(frame.time, read_code(image)) for frame, image in zip(frames, turned, strict=True)]


def boxes(path: Path) -> list[bytes]:
    """The names of an mp4's outermost boxes."""
    data, names, at = path.read_bytes(), [], 0
    while at < len(data):
        names.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return names


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        assert (stream.sample_aspect_ratio or 1) == 1
        return stream.width, stream.height


def ends_of(clip: Clip) -> list[float]:
    return [*clip.starts[1:], clip.end]


def check_exact(clip: Clip, made: Made, path: Path, start: float, end: float) -> None:
    """The frames shown between the piece's own ends, at their times; and those ends are within a frame."""
    shown = [
        (max(begin, made.start) - made.start, code)
        for begin, until, code in zip(clip.starts, ends_of(clip), clip.codes, strict=True)
        if begin < made.end - 1e-4 and until > made.start + 1e-4
    ]
    for found in (look(path), look(path, NO_EDITS)):
        assert [code for _, code in found] == [code for _, code in shown]
        assert [at for at, _ in found] == pytest.approx([at for at, _ in shown], abs=2e-3)
    lengths = np.subtract(ends_of(clip), clip.starts)
    # Half a usual frame, and a piece has one frame at least.
    near = np.median(lengths) / 2 + 2e-3
    assert made.start == pytest.approx(min(start, clip.end), abs=near)
    assert made.end == pytest.approx(min(max(end, made.start), clip.end), abs=2 * near)
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p"
        assert stream.width % 2 == stream.height % 2 == 0
        assert float(stream.duration * stream.time_base) == pytest.approx(made.end - made.start, abs=2e-3)
    order = boxes(path)
    assert order.index(b"moov") < order.index(b"mdat")


# Not AV1: its encoder shows frames twice.
EXACT = [kind for kind, make in KINDS.items() if not kind.startswith(("animated", "folder", "av1", "one", "five"))]


@pytest.mark.parametrize("kind", EXACT)
def test_exact_pieces_show_what_is_on_the_screen_between_their_ends(kind: str, tmp_path: Path) -> None:
    clip = KINDS[kind](tmp_path)
    for number, (start, end) in enumerate(PIECES):
        target = tmp_path / f"{number}.part"
        made = cut(Piece(str(clip.path), start, end, str(target)))
        check_exact(clip, made, target, start, end)


def test_a_rate_of_29_97_stays_constant(tmp_path: Path) -> None:
    times = [i * 1001 / 30000 for i in range(90)]
    clip = videos.write_video(tmp_path / "a.mp4", times=times)
    made = cut(Piece(str(clip.path), 1.0, 2.0, str(tmp_path / "out")))
    found = look(tmp_path / "out")
    assert [code for _, code in found] == list(range(30, 60))
    assert np.diff([at for at, _ in found]) == pytest.approx(1001 / 30000, abs=1.1e-3)  # the file has milliseconds
    assert (made.start, made.end) == (pytest.approx(1.001, abs=1e-3), pytest.approx(2.002, abs=1e-3))


def test_a_frame_that_is_shown_for_long_is_cut_within(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.3, 10.0, 10.1, 10.2]
    clip = videos.write_video(tmp_path / "a.mp4", times=times)
    made = cut(Piece(str(clip.path), 4.0, 6.0, str(tmp_path / "out")))
    assert (made.start, made.end) == (4.0, 6.0)
    check_exact(clip, made, tmp_path / "out", 4.0, 6.0)


def test_a_cut_open_recording_is_timed_as_it_is_read(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.ts", b_frames=0, frames=40)
    data = clip.path.read_bytes()
    clip.path.write_bytes(data[len(data) // 4 // 188 * 188 :])
    read = read_video(str(clip.path), Sampling(frames=1, window=0.04), Geometry(size=64))
    zero = read_code(read.frames[0, 0])
    cut(Piece(str(clip.path), 0.2, 0.4, str(tmp_path / "out")))
    assert zero > 0
    assert [code for _, code in look(tmp_path / "out")] == list(range(zero + 5, zero + 10))


def test_a_piece_has_the_colours_of_its_video(tmp_path: Path) -> None:
    colours = np.zeros((126, 161, 3), np.uint8)  # of an odd width
    colours[:63, :80], colours[:63, 80:], colours[63:, :80] = (200, 40, 40), (40, 180, 40), (40, 40, 220)
    for codec, pix_fmt in (("ffv1", "bgr0"), ("ffv1", "yuv444p"), ("mjpeg", "yuvj444p")):
        path = tmp_path / f"{pix_fmt}.mkv"
        with av.open(str(path), "w") as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 161, 126, pix_fmt
            for number in range(5):
                frame = av.VideoFrame.from_ndarray(colours, format="rgb24")
                frame.pts = number
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        cut(Piece(str(path), 0, 1, str(tmp_path / "out")))
        both = (read_video(str(file), Sampling(frames=1), Geometry(size=64)) for file in (path, tmp_path / "out"))
        wanted, found = (video.frames[0, 0] for video in both)
        for corner in (np.s_[8:24, 8:24], np.s_[8:24, 40:56], np.s_[40:56, 8:24], np.s_[40:56, 40:56]):
            assert found[corner].mean((0, 1)) == pytest.approx(wanted[corner].mean((0, 1)), abs=6), pix_fmt
        assert size_of(tmp_path / "out") == (160, 126)


def test_pixels_become_square(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", aspect=Fraction(4, 3))
    cut(Piece(str(clip.path), 0, 1, str(tmp_path / "out")))
    assert size_of(tmp_path / "out") == (160 * 4 // 3 // 2 * 2, 128)


# --- sound ---


def with_sound(path: Path, *, codec: str = "aac", rate: int = 48000, late: float = 0.0, layout: str = "stereo") -> Path:
    """Four seconds of frames, and a tone in the second and in the fourth; `late` of its start is not there."""
    plain = path.with_name("plain.mkv")
    videos.write_video(plain, frames=100, b_frames=0)
    channels = 1 if layout == "mono" else 2 if layout == "stereo" else 6
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        pictures = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream(codec, rate=rate, layout=layout)
        for start in range(round(late * rate), 4 * rate, 1000):
            instants = np.arange(start, start + 1000) / rate
            tone = np.sin(2 * np.pi * 440 * instants) * 0.5 * (instants % 2 >= 1)
            frame = av.AudioFrame.from_ndarray(
                np.tile(tone.astype(np.float32), (channels, 1)), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = pictures
                out.mux(packet)
    return path


def loud(path: Path) -> list[tuple[float, bool]]:
    """Whether there is a tone, for every hundredth of a second of the sound."""
    with av.open(str(path)) as source:
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16000)
        samples = np.zeros(16000 * 8, np.float32)
        last = 0
        for frame in source.decode(audio=0):
            for one in resampler.resample(frame):
                at = round(float(one.pts * one.time_base) * 16000)
                block = one.to_ndarray()[0]
                block, at = block[max(-at, 0) :], max(at, 0)
                samples[at : at + len(block)] = block
                last = at + len(block)
    return [(i / 100, bool(np.abs(samples[i * 160 : i * 160 + 160]).max() > 0.2)) for i in range(last // 160)]


def assert_tone(path: Path, spans: list[tuple[float, float]], end: float, slack: float = 0.03) -> None:
    found = loud(path)
    assert found[-1][0] == pytest.approx(end, abs=0.06)
    for at, tone in found:
        if all(abs(at - border) > slack for span in spans for border in span) and at < end - slack:
            assert tone == any(start <= at < stop for start, stop in spans), at


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.mp4", {}),
        ("a.mkv", {"codec": "libopus"}),
        ("a.mkv", {"rate": 44100}),
        ("a.ts", {"codec": "mp2"}),
        ("a.mp4", {"layout": "mono", "rate": 22050}),
        ("a.mkv", {"codec": "pcm_f32le", "layout": "5.1", "rate": 192000}),
    ],
)
def test_the_sound_of_an_exact_piece_fits_its_pictures(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    path = with_sound(tmp_path / name, **how)
    made = cut(Piece(str(path), 1.52, 3.4, str(tmp_path / "out")))
    assert_tone(tmp_path / "out", [(0.0, 0.48), (1.48, 1.88)], made.end - made.start)
    assert [code for _, code in look(tmp_path / "out")] == list(range(38, 85))
    assert made.notes == ()
    with av.open(str(tmp_path / "out")) as source:
        sound = source.streams.audio[0].codec_context
        assert (sound.name, sound.sample_rate) == ("aac", min(how.get("rate", 48000), 48000))
        assert sound.layout.nb_channels == (1 if how.get("layout") == "mono" else 2)


def test_sound_that_begins_late_is_silence_before(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mp4", late=1.5)
    cut(Piece(str(path), 1.0, 2.6, str(tmp_path / "out")))
    assert_tone(tmp_path / "out", [(0.5, 1.0)], 1.6, slack=0.05)


def test_sound_is_copied_with_its_pictures(tmp_path: Path) -> None:
    path = with_sound(tmp_path / "a.mp4")
    made = cut(Piece(str(path), 1.52, 3.4, str(tmp_path / "out"), copy=True))
    assert made.start <= 1.52 and made.suffix == ".mp4"
    spans = [(max(1 - made.start, 0), 2 - made.start), (3 - made.start, 3.4 - made.start)]
    assert_tone(tmp_path / "out", spans, 3.4 - made.start, slack=0.06)


# --- copies ---


def key_frames(path: Path) -> list[int]:
    with av.open(str(path)) as source:
        return [
            read_code(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
            for frame in source.decode(video=0)
            if frame.key_frame
        ]


COPIED = {
    "h264_mp4": ".mp4",
    "h264_b_frames_mp4": ".mp4",
    "h264_b_frames_mkv": ".mp4",
    "h264_open_gop_mp4": ".mp4",
    "h264_b_frames_ts": ".mp4",
    "hevc_mp4": ".mp4",
    "vp8_webm": ".mkv",
    "vp9_webm": ".mp4",
    "mpeg2_b_frames_mpg": ".mkv",
    "mpeg2_b_frames_ts": ".mkv",
    "ffv1_mkv": ".mkv",
    "variable_rate_mp4": ".mp4",
    "variable_rate_mkv": ".mp4",
    "rotated_90_mp4": ".mp4",
    "rotated_270_mp4": ".mp4",
    "late_start_mkv": ".mp4",
}


@pytest.mark.parametrize("kind", COPIED)
def test_a_copy_begins_at_the_key_frame_before_and_says_how_far(kind: str, tmp_path: Path) -> None:
    clip = KINDS[kind](tmp_path)
    keys = key_frames(clip.path)
    for start, end in ((0.6, 1.6), (0.0, 0.28), (1.0, 99.0)):
        made = cut(Piece(str(clip.path), start, end, str(tmp_path / "out"), copy=True))
        found = look(tmp_path / "out")
        key = max(code for code in keys if code <= clip.shown(start))
        zero = clip.starts[clip.codes.index(key)]
        assert found[0] == (pytest.approx(0, abs=2e-3), key)
        assert made.start == pytest.approx(zero, abs=2e-3)
        assert made.suffix == COPIED[kind]
        # All frames to the end; of those behind it perhaps some, which others needed.
        for at, code in found:
            assert at + zero == pytest.approx(clip.starts[clip.codes.index(code)], abs=2e-3)
        wanted = [code for at, code in zip(clip.starts, clip.codes, strict=True) if zero <= at < end - 0.01]
        assert [code for _, code in found][: len(wanted)] == wanted
        assert found[-1][0] + zero < made.end


def test_a_copy_may_begin_with_frames_that_an_edit_list_hides(tmp_path: Path) -> None:
    clip = videos.edit_list(tmp_path / "a.mp4", cut=17)
    made = cut(Piece(str(clip.path), 0.0, 0.4, str(tmp_path / "out"), copy=True))
    (zero, first), *_ = look(tmp_path / "out")
    assert first < 17 and zero == 0
    assert made.start == pytest.approx((first - 17) / 25)
    made = cut(Piece(str(clip.path), 1.2, 1.4, str(tmp_path / "out"), copy=True))
    assert look(tmp_path / "out")[0] == (0, 17 + round(made.start * 25))


@pytest.mark.parametrize("kind", ["h264_b_frames_avi", "h264_raw"])
def test_what_stores_no_times_is_cut_exactly_or_not_at_all(kind: str, tmp_path: Path) -> None:
    clip = KINDS[kind](tmp_path)
    with pytest.raises(InputError, match="does not store when frames are shown: cut it exactly, without --copy"):
        cut(Piece(str(clip.path), 0.5, 1.0, str(tmp_path / "out"), copy=True))


# --- what fails ---


def test_what_is_outside_of_the_video_is_refused_and_what_hangs_over_is_cut_off(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    for start, end in ((2.12, 3.0), (-3.0, 0.0)):
        with pytest.raises(InputError, match=r"outside of the video, which lasts 2\.12 s"):
            cut(Piece(str(clip.path), start, end, str(tmp_path / "out")))
    made = cut(Piece(str(clip.path), -1.0, 99.0, str(tmp_path / "out")))
    assert (made.start, made.end) == (0.0, pytest.approx(2.12))


@pytest.mark.parametrize("kind", ["animated_gif", "animated_webp", "folder_of_jpg"])
def test_images_are_refused(kind: str, tmp_path: Path) -> None:
    clip = KINDS[kind](tmp_path)
    with pytest.raises(InputError, match="only videos can be cut"):
        cut(Piece(str(clip.path), 0.0, 1.0, str(tmp_path / "out")))


def test_damage_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    clip = videos.corrupted(tmp_path / "a.mp4")
    made = cut(Piece(str(clip.path), 0.0, 2.12, str(tmp_path / "out")))
    assert any("damaged place" in note for note in made.notes)
    codes = [code for _, code in look(tmp_path / "out")]
    assert codes[:10] == list(range(10)) and codes[-1] == 52


def test_a_target_that_cannot_be_written_is_no_fault_of_the_video(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    if os.path.exists("/dev/full"):
        with pytest.raises(OutputError, match="/dev/full: cannot be written: No space left"):
            cut(Piece(str(clip.path), 0.0, 1.0, "/dev/full", copy=True))
    with pytest.raises((OutputError, InputError), match="No such file"):
        cut(Piece(str(clip.path), 0.0, 1.0, str(tmp_path / "no" / "out")))


def test_no_encoder_is_an_error_that_names_the_way_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exact_cut.check_encoder()
    monkeypatch.setattr(exact_cut, "_ENCODER", "libnothing")
    with pytest.raises(UsageError, match="no encoder libnothing, which exact cuts need; --copy"):
        exact_cut.check_encoder()


# --- in a process of its own ---


@pytest.fixture
def patched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces `cut` in processes that are started from now on."""

    def patch(body: str) -> None:
        folder = tmp_path / "site"
        folder.mkdir()
        code = f"import os, signal, sys, time\nimport zsar_cli.video.cutting as c\nreal = c.cut\n{body}\nc.cut = cut\n"
        (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
        paths = [str(folder), str(Path(cutting.__file__).parents[2])]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    return patch


def test_a_process_cuts_one_piece_after_another(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    with Cutter(60) as cutter:
        with pytest.raises(InputError, match="find failed"):
            cutter.cut(Piece(str(tmp_path / "no"), 0.0, 1.0, str(tmp_path / "0")))
        first = cutter._process
        for number in range(2):
            made = cutter.cut(Piece(str(clip.path), 0.2, 0.4 + number, str(tmp_path / str(number))))
            check_exact(clip, made, tmp_path / str(number), 0.2, 0.4 + number)
        assert cutter._process is first


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_crash_and_a_hang_cost_one_piece(tmp_path: Path, patched: Callable[[str], None]) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    patched(
        """
def cut(piece, alive):
    if piece.start == 1: os.kill(os.getpid(), signal.SIGSEGV)
    if piece.start == 2: time.sleep(60)
    if piece.start == 3: sys.exit(5)
    return real(piece, alive)"""
    )

    def piece(start: float) -> Piece:
        return Piece(str(clip.path), start, 9.0, str(tmp_path / "out"))

    with Cutter(6.0) as cutter:
        fails = {1: r"cutting crashed \(signal 11", 2: "nothing came of it within 6 s", 3: "SystemExit"}
        for start, message in fails.items():
            with pytest.raises(InputError, match=message):
                cutter.cut(piece(start))
            assert cutter.cut(piece(0.5)).start == pytest.approx(0.5, abs=0.021)


def test_slow_work_that_makes_progress_is_not_given_up(tmp_path: Path, patched: Callable[[str], None]) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    patched(
        """
def cut(piece, alive):
    for _ in range(70):
        time.sleep(0.1)
        alive()
    return real(piece, alive)"""
    )
    with Cutter(5.0) as cutter:
        assert cutter.cut(Piece(str(clip.path), 0.0, 9.0, str(tmp_path / "out"))).end == pytest.approx(2.12)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_the_process_ends_with_an_interrupt(tmp_path: Path, patched: Callable[[str], None]) -> None:
    patched("def cut(piece, alive): time.sleep(60)")
    cutter = Cutter(60)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        with pytest.raises(KeyboardInterrupt):
            cutter.cut(Piece("a.mp4", 0.0, 1.0, str(tmp_path / "out")))
        assert cutter._process is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        cutter.close()


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e9])
def test_a_time_limit_must_be_one(seconds: float) -> None:
    with pytest.raises(UsageError, match="time limit"):
        Cutter(seconds)
