"""Every decoder reads every kind of file; the numbers in the frames are the truth."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import PIL
import pytest
import videos
from PIL import Image, ImageOps
from videos import Clip, read_code

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video import pyav_index, pyav_reader, pyav_source
from zsar_cli.video.reader import DECODERS, decoder_versions, probe, read_video, read_windows
from zsar_cli.video.sampling import Indivisible, sample_times, spans
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling, Window, WindowBatch

SQUASH = Geometry(size=64)
X265 = {"x265-params": "log-level=none"}
VARIABLE = [0, 0.1, 0.13, 0.5, 0.52, 0.54, 1.0, 1.7, 1.74, 1.78, 2.5, 3.1]


def _video(name: str, *args: object, **how: object) -> Callable[[Path], Clip]:
    return lambda folder: videos.write_video(folder / name, *args, **how)


KINDS: dict[str, Callable[[Path], Clip]] = {
    "h264_mp4": _video("a.mp4", b_frames=0),
    "h264_b_frames_mp4": _video("a.mp4", b_frames=3),
    "h264_b_frames_mkv": _video("a.mkv", b_frames=3),
    "h264_long_mp4": _video("a.mp4", frames=101, gop=30),
    "h264_one_gop_mov": _video("a.mov", gop=250),
    "h264_open_gop_mp4": _video("a.mp4", b_frames=3, options={"x264-params": "open-gop=1:b-adapt=0"}),
    "h264_interlaced_mp4": _video("a.mp4", options={"x264-params": "tff=1"}),
    "h264_10_bit_mkv": _video("a.mkv", pix_fmt="yuv420p10le"),
    "h264_full_range_mp4": _video("a.mp4", pix_fmt="yuvj420p"),
    "h264_gray_mkv": _video("a.mkv", pix_fmt="gray"),
    "h264_odd_size_mkv": _video("a.mkv", pix_fmt="yuv444p", size=(161, 127)),
    "h264_pixels_not_square_mp4": _video("a.mp4", aspect=Fraction(4, 3)),
    "h264_avi": _video("a.avi", b_frames=0),
    "h264_b_frames_avi": _video("a.avi", b_frames=2),
    "h264_b_frames_ts": _video("a.ts", b_frames=2),
    "h264_raw": _video("a.h264", container="h264", b_frames=2),
    "hevc_mp4": _video("a.mp4", "libx265", options=X265),
    "hevc_10_bit_mkv": _video("a.mkv", "libx265", options=X265, pix_fmt="yuv420p10le"),
    "vp8_webm": _video("a.webm", "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "10"}),
    "vp9_webm": _video("a.webm", "libvpx-vp9", options={"cpu-used": "8", "lag-in-frames": "10"}),
    "vp9_alpha_webm": _video("a.webm", "libvpx-vp9", options={"cpu-used": "8"}, pix_fmt="yuva420p"),
    "av1_mp4": _video("a.mp4", "libsvtav1", options={"preset": "12"}),
    "mpeg4_avi": _video("a.avi", "mpeg4", b_frames=0),
    "mpeg4_b_frames_avi": _video("a.avi", "mpeg4", b_frames=2),
    "mpeg4_packed_b_frames_avi": lambda folder: videos.packed_b_frames(folder / "a.avi"),
    "mpeg4_b_frames_mp4": _video("a.mp4", "mpeg4", b_frames=2),
    "mpeg2_b_frames_mpg": _video("a.mpg", "mpeg2video", b_frames=2),
    "mpeg2_b_frames_ts": _video("a.ts", "mpeg2video", b_frames=2),
    "mjpeg_avi": _video("a.avi", "mjpeg", pix_fmt="yuvj420p"),
    "prores_alpha_mov": _video("a.mov", "prores_ks", pix_fmt="yuva444p10le"),
    "ffv1_mkv": _video("a.mkv", "ffv1"),
    "variable_rate_mp4": _video("a.mp4", times=VARIABLE),
    "variable_rate_mkv": _video("a.mkv", times=VARIABLE, b_frames=2),
    "rotated_90_mp4": lambda folder: videos.rotated(folder / "a.mp4", 90),
    "rotated_180_mp4": lambda folder: videos.rotated(folder / "a.mp4", 180),
    "rotated_270_mp4": lambda folder: videos.rotated(folder / "a.mp4", 270),
    "edit_list_mp4": lambda folder: videos.edit_list(folder / "a.mp4", cut=17),
    "late_start_mkv": _video("a.mkv", start=5.0),
    "changing_size_ts": lambda folder: videos.changing_size(folder / "a.ts"),
    "one_frame_mp4": _video("a.mp4", frames=1),
    "five_frames_mp4": _video("a.mp4", frames=5),
    "animated_gif": lambda folder: videos.animation(folder / "a.gif"),
    "animated_webp": lambda folder: videos.animation(folder / "a.webp"),
    "animated_png": lambda folder: videos.animation(folder / "a.png"),
    "folder_of_jpg": lambda folder: videos.folder(folder / "frames"),
    "folder_of_bmp": lambda folder: videos.folder(folder / "frames", suffix=".bmp"),
}

_OPEN = "decord seeks to key frames whose leading frames need the group before"
_TIMES = "decord gives no times for it, so it is refused"
_WRONG = "decord counts from the wrong frame after seeking"
DECORD_LIMITS = {
    "h264_open_gop_mp4": _OPEN,
    "hevc_mp4": _OPEN,
    "hevc_10_bit_mkv": _OPEN,
    "mpeg4_b_frames_mp4": _OPEN,
    "h264_b_frames_ts": _WRONG,
    "mpeg2_b_frames_ts": _WRONG,
    "edit_list_mp4": "decord takes no notice of edit lists",
    "variable_rate_mp4": "decord does not know how long the last frame is shown",
    "av1_mp4": "decord's FFmpeg has no AV1 decoder",
    "h264_avi": _TIMES,
    "h264_b_frames_avi": _TIMES,
    "mpeg4_b_frames_avi": _TIMES,
    "mpeg4_packed_b_frames_avi": _TIMES,
    "mpeg2_b_frames_mpg": _TIMES,
    "h264_raw": _TIMES,
}


def every_decoder_and_kind() -> list[object]:
    limits = {("decord", kind): pytest.mark.xfail(reason=why, strict=True) for kind, why in DECORD_LIMITS.items()}
    return [
        pytest.param(decoder, kind, id=f"{decoder}-{kind}", marks=limits.get((decoder, kind), ()))
        for decoder in DECODERS
        for kind in KINDS
    ]


def wanted(end: float, count: int) -> list[float]:
    """The centres of `count` equal cells of [0, end)."""
    return [end * (i + 0.5) / count for i in range(count)]


def codes(video: DecodedVideo) -> list[int]:
    return [read_code(frame) for frame in video.frames.reshape(-1, *video.frames.shape[2:])]


@pytest.fixture(scope="session")
def clip_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clip]:
    """A clip of a kind, encoded once."""
    return cache(lambda kind: KINDS[kind](tmp_path_factory.mktemp(kind)))


@pytest.mark.parametrize(("decoder", "kind"), every_decoder_and_kind())
def test_gives_the_frames_shown(decoder: str, kind: str, clip_of: Callable[[str], Clip]) -> None:
    clip = clip_of(kind)
    video = read_video(str(clip.path), Sampling(frames=16), SQUASH, decoder)

    expected = [clip.shown(instant) for instant in wanted(clip.end, 16)]
    assert codes(video) == expected
    starts = [clip.starts[clip.codes.index(code)] for code in expected]
    np.testing.assert_allclose(video.facts.times, starts, atol=1e-3)
    assert video.facts.info.duration == pytest.approx(clip.end, abs=2e-3)
    assert video.facts.partial is None


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [("pyav", kind) for kind in KINDS] + [("decord", kind) for kind in KINDS if kind not in DECORD_LIMITS],
)
def test_a_part_gives_the_frames_shown_in_it(decoder: str, kind: str, clip_of: Callable[[str], Clip]) -> None:
    clip, sampling = clip_of(kind), Sampling(windows=2, frames=4)
    within = Window(clip.end * 0.311, clip.end * 0.787)
    video = read_video(str(clip.path), sampling, SQUASH, decoder, within)

    instants = [within.start + instant for instant in wanted(within.end - within.start, 8)]
    assert codes(video) == [clip.shown(instant) for instant in instants]
    assert video.windows[0].start == within.start and video.windows[1].end == within.end
    assert video.facts.info.duration == pytest.approx(clip.end, abs=2e-3)
    assert video.facts.sampling == sampling and not any("it ends" in note for note in video.facts.notes)


@pytest.mark.parametrize(
    ("decoder", "kind"),
    [("pyav", "h264_long_mp4"), ("decord", "h264_long_mp4"), ("pyav", "h264_raw"), ("pyav", "animated_gif")],
)
def test_a_part_ends_with_the_video_and_begins_before_its_end(
    decoder: str, kind: str, clip_of: Callable[[str], Clip]
) -> None:
    clip = clip_of(kind)
    video = read_video(str(clip.path), Sampling(frames=1), SQUASH, decoder, Window(clip.end / 2, clip.end + 5))
    assert codes(video) == [clip.shown(clip.end * 3 / 4)] and video.windows[0].end == pytest.approx(clip.end, abs=2e-3)
    assert f"it ends at {clip.end:.2f} s, before the {clip.end + 5:g} s asked for" in video.facts.notes
    with pytest.raises(InputError, match=rf"it ends at {clip.end:.2f} s, before the part from 60 to 61 s"):
        read_video(str(clip.path), Sampling(frames=1), SQUASH, decoder, Window(60.0, 61.0))


# --- other ways to sample ---


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(windows=3, frames=4),
        Sampling(windows=1, frames=1),
        Sampling(windows=2, frames=5, frame_step=0.1),
        Sampling(windows=3, frames=4, frame_step=0.9),  # windows overlap: the instants are not sorted
        Sampling(frames=3, window=1.5),
        Sampling(frames=4, window=1.0, stride=0.3),
        Sampling(frames=2, window=0.5, stride=1.1),
        Sampling(frames=2, window=60.0),
    ],
    ids=str,
)
def test_every_sampling_gives_the_frames_shown(
    sampling: Sampling, decoder: str, clip_of: Callable[[str], Clip]
) -> None:
    clip = clip_of("h264_long_mp4")
    video = read_video(str(clip.path), sampling, SQUASH, decoder)

    times = sample_times(clip.end, sampling)
    assert codes(video) == [clip.shown(instant) for instant in times.ravel()]
    assert video.frames.shape == (*times.shape, 64, 64, 3)
    np.testing.assert_allclose([[one.start, one.end] for one in video.windows], spans(clip.end, sampling), atol=1e-5)


def test_windows_come_while_the_file_is_still_read(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=200, gop=25)
    parts = read_windows(str(clip.path), Sampling(frames=2, window=1.0), SQUASH)
    first = next(parts)
    assert isinstance(first, WindowBatch) and (first.windows[0].start, first.windows[0].end) == (0, 1)
    clip.path.write_bytes(b"")  # what is open stays readable; nothing was read ahead into memory
    assert [read_code(frame) for frame in first.pixels[0]] == [clip.shown(0.25), clip.shown(0.75)]
    parts.close()  # type: ignore[attr-defined]


def test_windows_before_a_damaged_place_are_exact_and_those_after_it_are_there(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mkv", frames=200, gop=25, b_frames=0)
    data = bytearray(clip.path.read_bytes())
    middle = len(data) * 6 // 10
    data[middle : middle + 3000] = os.urandom(3000)
    clip.path.write_bytes(data)
    sampling = Sampling(frames=2, window=1.0)
    video = read_video(str(clip.path), sampling, SQUASH)
    wanted_codes = [clip.shown(instant) for instant in sample_times(clip.end, sampling).ravel()]
    assert video.facts.partial is not None and 0.5 < video.facts.partial.share < 1
    assert len(video.windows) == 8
    assert codes(video)[:8] == wanted_codes[:8]  # four seconds before the damage
    assert codes(video)[-2:] == wanted_codes[-2:]


def decoded_in_order(path: Path) -> list[tuple[float, int]]:
    """Time and number of every frame, by plain decoding from start to end."""
    with av.open(str(path)) as container:
        frames = [(frame.time, read_code(frame.to_ndarray(format="rgb24"))) for frame in container.decode(video=0)]
    return [(time - frames[0][0], code) for time, code in frames]


@pytest.mark.parametrize("kind", ["h264_open_gop_mp4", "hevc_mp4", "h264_b_frames_ts", "variable_rate_mkv"])
def test_seeking_agrees_with_decoding_everything(kind: str, tmp_path: Path) -> None:
    clip = KINDS[kind](tmp_path)
    everything = decoded_in_order(clip.path)
    for count in (1, 2, 3, 7, 50, 120):
        video = read_video(str(clip.path), Sampling(frames=count), SQUASH)
        expected = []
        for instant in wanted(video.facts.info.duration or 0, count):
            expected.append([code for time, code in everything if time <= instant + 1e-6][-1])
        assert codes(video) == expected


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_key_frames_are_nearest_and_the_result_says_how_far_off(decoder: str, tmp_path: Path) -> None:
    scene_cuts_off = {"x264-params": "scenecut=0"}
    clip = videos.write_video(tmp_path / "a.mp4", frames=101, gop=20, options=scene_cuts_off)
    video = read_video(str(clip.path), Sampling(frames=8, exact=False), SQUASH, decoder)

    instants = wanted(clip.end, 8)
    keys = [i / 25 for i in range(0, 101, 20)]
    expected = [min(keys, key=lambda key: abs(key - instant)) for instant in instants]
    assert codes(video) == [round(key * 25) for key in expected]
    off = max(abs(key - instant) for key, instant in zip(expected, instants, strict=True))
    assert f"key frames: up to {off:.1f} s from the instants asked for" in video.facts.notes


# What the index of an MP4 or MOV tells, and what it does not: a list that cuts frames off, open groups, gaps.
IN_INDEX = ("h264_mp4", "h264_b_frames_mp4", "h264_long_mp4", "rotated_90_mp4", "prores_alpha_mov")
NOT_IN_INDEX = ("edit_list_mp4", "one_frame_mp4", "h264_one_gop_mov", "h264_b_frames_mkv", "h264_b_frames_ts")


def test_the_times_of_many_packets_take_little_memory() -> None:
    about = {"size": 1, "duration": 1, "is_keyframe": False, "is_discard": False}
    packets = (SimpleNamespace(pts=10**9 + number, dts=10**9 + number, **about) for number in range(100_000))
    tracemalloc.start()
    found = pyav_source._Packets(packets)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.pts) == 100_000 and peak < 10_000_000



@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.endswith(("_mp4", "_mov", "_mkv", "_ts"))])
def test_the_index_tells_what_all_packets_tell_or_nothing(kind: str, clip_of: Callable[[str], Clip]) -> None:
    path = str(clip_of(kind).path)
    with pyav_source.open_source(path, SQUASH) as source:
        by_index = pyav_index.scan_index(source)
    with pyav_source.open_source(path, SQUASH) as source:
        by_packets = pyav_source.scan(source)
    assert by_index is not None or kind not in IN_INDEX
    assert by_index is None or kind not in NOT_IN_INDEX
    if by_index is not None:
        np.testing.assert_array_equal(by_index.starts, by_packets.starts)
        np.testing.assert_array_equal(by_index.keys, by_packets.keys)
        # Python 3.13 compares arrays field by field, and finds their truth ambiguous.
        assert replace(by_index, starts=None, keys=None) == replace(by_packets, starts=None, keys=None)


@pytest.mark.parametrize(
    "write",
    [
        lambda path: videos.write_video(path, times=[i / 10 + (i % 3) / 40 for i in range(60)], b_frames=3),
        lambda path: videos.write_video(path, container_options={"movflags": "frag_keyframe+empty_moov"}),
        lambda path: videos.truncated(path, 0.7, frames=100),
    ],
    ids=["variable rate with B-frames", "in fragments", "cut off"],
)
def test_where_the_index_does_not_tell_all_packets_are_read(write: Callable[[Path], Clip], tmp_path: Path) -> None:
    with pyav_source.open_source(str(write(tmp_path / "a.mp4").path), SQUASH) as source:
        assert pyav_index.scan_index(source) is None


@pytest.mark.parametrize("sampling", [Sampling(frames=6, exact=False), Sampling(window=0.7, frames=2, exact=False)])
def test_key_frames_of_an_mp4_need_its_index_alone(
    sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=101, gop=12, b_frames=3)
    with monkeypatch.context() as patch:
        patch.setattr(pyav_reader, "scan_index", lambda source: None)
        expected = read_video(str(clip.path), sampling, SQUASH)
    monkeypatch.setattr(pyav_reader, "scan", None)
    video = read_video(str(clip.path), sampling, SQUASH)
    assert (video.facts, video.windows) == (expected.facts, expected.windows)
    np.testing.assert_array_equal(video.frames, expected.frames)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_key_frame_that_stands_for_several_instants_is_decoded_once(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene_cuts_off = {"x264-params": "scenecut=0"}
    clip = videos.write_video(tmp_path / name, frames=120, gop=20, options=scene_cuts_off)
    decoded: list[int | None] = []
    decode = pyav_source.Source.decode

    def counted(self: pyav_source.Source, packet: object) -> list[av.VideoFrame]:
        frames = decode(self, packet)
        decoded.extend(frame.pts for frame in frames)
        return frames

    monkeypatch.setattr(pyav_source.Source, "decode", counted)
    batch, _ = read_windows(str(clip.path), Sampling(frames=16, exact=False), SQUASH)
    assert isinstance(batch, WindowBatch)
    assert len(decoded) == len(set(decoded)) == len(batch.frames) == 6


def test_an_index_that_was_wrong_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=101, gop=12, b_frames=3)
    sampling = Sampling(frames=6, exact=False)
    expected = read_video(str(clip.path), sampling, SQUASH)
    tell = pyav_index.scan_index

    def wrong(source: pyav_source.Source) -> pyav_source.Timeline | None:
        line = tell(source)
        assert line is not None
        return replace(line, starts=np.append(line.starts[:40], line.starts[40:] + 1), keys=line.keys + (line.keys > 0))

    monkeypatch.setattr(pyav_reader, "scan_index", wrong)
    video = read_video(str(clip.path), sampling, SQUASH)
    assert (video.facts, codes(video)) == (expected.facts, codes(expected))


def test_key_frames_that_cannot_be_told_are_replaced_by_exact_frames_and_noted(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.h264", container="h264")
    video = read_video(str(clip.path), Sampling(frames=4, exact=False), SQUASH)
    assert codes(video) == [clip.shown(instant) for instant in wanted(clip.end, 4)]
    assert any("exact frames were decoded instead" in note for note in video.facts.notes)


def test_a_file_without_times_says_so(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.h264", container="h264")
    (note,) = read_video(str(clip.path), Sampling(frames=4), SQUASH).facts.notes
    assert note == "the file holds no times: they follow from 25 frames per second"


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_short_video_repeats_frames_and_says_so(decoder: str, tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=1)
    video = read_video(str(clip.path), Sampling(frames=16), SQUASH, decoder)
    assert codes(video) == [0] * 16
    assert video.facts.notes == ("one frame for all 16 instants asked for",)


# --- shape, colour, description ---


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    "geometry", [Geometry(48), Geometry(48, 64), Geometry(64, 64), Geometry(64, None, True)], ids=str
)
def test_scales_cuts_and_pads_as_an_independent_resize_does(decoder: str, geometry: Geometry, tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=3, size=(320, 192), options={"qp": "5"})
    video = read_video(str(clip.path), Sampling(frames=3), geometry, decoder)

    image = Image.fromarray(videos.coded_image(0, (320, 192)))
    if geometry.letterbox:
        expected = ImageOps.pad(image, (64, 64), Image.Resampling.BICUBIC)
    elif geometry.resize is None:
        expected = image.resize((48, 48), Image.Resampling.BICUBIC)
    else:
        width, short = 320 * geometry.resize // 192, geometry.resize
        left, top = (width - geometry.size) // 2, (short - geometry.size) // 2
        box = (left, top, left + geometry.size, top + geometry.size)
        expected = image.resize((width, short), Image.Resampling.BICUBIC).crop(box)
    assert video.frames.shape == (1, 3, geometry.size, geometry.size, 3)
    assert np.abs(video.frames[0, 0].astype(int) - np.asarray(expected).astype(int)).mean() < 4


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_a_turned_video_equals_its_upright_twin(clockwise: int, decoder: str, tmp_path: Path) -> None:
    geometry = Geometry(64, 80)
    upright = videos.write_video(tmp_path / "upright.mp4", options={"qp": "5"})
    turned = videos.rotated(tmp_path / "turned.mp4", clockwise, options={"qp": "5"})
    a = read_video(str(upright.path), Sampling(frames=4), geometry, decoder)
    b = read_video(str(turned.path), Sampling(frames=4), geometry, decoder)

    assert np.abs(a.frames.astype(int) - b.frames.astype(int)).mean() < 2
    assert (b.facts.info.width, b.facts.info.height) == (a.facts.info.width, a.facts.info.height) == videos.SIZE
    assert b.facts.info.rotation == -clockwise % 360


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("clockwise", [0, 90])
def test_pixels_that_are_not_square_are_shown_as_players_do(decoder: str, clockwise: int, tmp_path: Path) -> None:
    # A 320 x 128 picture squeezed into 160 x 128 pixels that are twice as wide as high.
    wide = videos.write_video(tmp_path / "wide.mp4", size=(320, 128), options={"qp": "5"})
    squeezed = videos.write_video(tmp_path / "a.mp4", aspect=Fraction(2, 1), options={"qp": "5"})
    if clockwise:
        videos.turn_display(wide.path, clockwise)
        videos.turn_display(squeezed.path, clockwise)
    a = read_video(str(wide.path), Sampling(frames=2), Geometry(64, 64), decoder)
    b = read_video(str(squeezed.path), Sampling(frames=2), Geometry(64, 64), decoder)

    assert np.abs(a.frames.astype(int) - b.frames.astype(int)).mean() < 6
    assert (b.facts.info.width, b.facts.info.height) == ((128, 320) if clockwise else (320, 128))


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p10le"])
def test_colours_survive(decoder: str, pix_fmt: str, tmp_path: Path) -> None:
    colours = np.array([[250, 10, 10], [10, 250, 10], [10, 10, 250], [128, 128, 128]], np.uint8)
    image = np.repeat(np.repeat(colours.reshape(2, 2, 3), 64, 0), 64, 1)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "2"})
        stream.width, stream.height, stream.pix_fmt = 128, 128, pix_fmt
        out.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        out.mux(stream.encode(None))
    frame = read_video(str(path), Sampling(frames=1), Geometry(32), decoder).frames[0, 0]
    for i, colour in enumerate(colours):
        row, column = i // 2 * 16 + 8, i % 2 * 16 + 8
        assert np.abs(frame[row, column].astype(int) - colour).max() < 12


def test_a_frame_of_8k_is_read(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.avi", "mjpeg", frames=2, size=(7680, 4320), pix_fmt="yuvj420p")
    video = read_video(str(clip.path), Sampling(frames=2), Geometry(64, 80))
    assert (video.facts.info.width, video.facts.info.height) == (7680, 4320)
    assert read_code(read_video(str(clip.path), Sampling(frames=2), SQUASH).frames[0, 1]) == 1


def test_a_result_says_where_it_comes_from_and_can_cross_processes(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    video = read_video(str(clip.path), Sampling(frames=4), SQUASH)
    assert video.facts.decoder == "pyav" and video.facts.decoder_version.startswith(f"{av.__version__} (FFmpeg ")
    assert (video.facts.info.codec, video.facts.info.frame_rate) == ("h264", pytest.approx(25))
    assert "mp4" in video.facts.info.container
    again = pickle.loads(pickle.dumps(video))
    assert again.facts.info == video.facts.info and (again.frames == video.frames).all()
    assert probe(str(clip.path)) == video.facts.info


def test_the_door_imports_no_decoder() -> None:
    heavy = "{'av', 'decord', 'PIL', 'torch'}"
    code = f"import sys, zsar_cli.video.reader; assert not {heavy} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_versions_are_those_of_the_packages() -> None:
    assert decoder_versions() == {"pyav": av.__version__, "decord": "0.6.0", "images": PIL.__version__}


# --- damaged files ---


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4"), ("a.flv", "libx264")],
)
def test_the_part_before_a_cut_is_read(name: str, codec: str, tmp_path: Path) -> None:
    clip = videos.truncated(tmp_path / name, 0.6, codec=codec, frames=203)
    video = read_video(str(clip.path), Sampling(frames=8), SQUASH)

    assert video.facts.partial is not None and video.facts.info.duration is not None
    assert 0.3 < video.facts.partial.share < 0.75
    assert video.facts.partial.share == pytest.approx(video.facts.info.duration / clip.end, abs=0.02)
    assert f"nothing can be read after {video.facts.info.duration:.2f} s" in video.facts.partial.reason
    expected = [clip.shown(instant) for instant in wanted(video.facts.info.duration, 8)]
    assert codes(video)[:-1] == expected[:-1]  # the very last frame may be the one that is cut


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_damage_in_the_middle_costs_only_the_middle(name: str, tmp_path: Path) -> None:
    clip = videos.corrupted(tmp_path / name, frames=203)
    video = read_video(str(clip.path), Sampling(frames=16), SQUASH)

    expected = [clip.shown(instant) for instant in wanted(clip.end, 16)]
    found = codes(video)
    assert found[:5] == expected[:5] and found[-3:] == expected[-3:]
    assert found != expected
    assert video.facts.partial is not None and 0.5 < video.facts.partial.share < 0.95
    assert "damaged place" in video.facts.partial.reason


def test_a_cut_open_recording_starts_with_its_first_key_frame(tmp_path: Path) -> None:
    whole = videos.write_video(tmp_path / "whole.ts", gop=12, options={"x264-params": "scenecut=0"})
    content = whole.path.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(content[len(content) // 188 // 3 * 188 :])
    video = read_video(str(cut), Sampling(frames=4), SQUASH)

    everything = decoded_in_order(cut)
    assert everything[0][1] % 12 == 0 and everything[0][1] > 0
    assert video.facts.info.duration == pytest.approx(len(everything) / 25, abs=1e-3)
    assert codes(video) == [everything[int(t * 25)][1] for t in wanted(len(everything) / 25, 4)]


def test_an_mp4_cut_before_its_index_says_so(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")
    clip.path.write_bytes(clip.path.read_bytes()[:2000])
    assert_refused(clip.path, "open", "index (moov), often written last, is missing")


def test_a_video_that_cannot_be_sought_is_decoded_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoSeeking:
        def __init__(self, container: av.container.InputContainer) -> None:
            self.container = container

        def seek(self, *_: object, **__: object) -> None:
            raise av.error.PermissionError(1, "Operation not permitted")  # what damaged indices bring about

        def __getattr__(self, name: str) -> object:
            return getattr(self.container, name)

    @contextmanager
    def opened(*arguments: object) -> Iterator[pyav_source.Source]:
        with pyav_source.open_source(*arguments) as source:
            source.container = NoSeeking(source.container)
            yield source

    monkeypatch.setattr(pyav_reader, "open_source", opened)
    clip = videos.write_video(tmp_path / "a.mp4")
    for exact in (True, False):
        video = read_video(str(clip.path), Sampling(frames=4, exact=exact), SQUASH)
        assert codes(video) == [clip.shown(instant) for instant in wanted(clip.end, 4)]


def test_a_video_of_noise_alone_cannot_be_decoded(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", container_options={"movflags": "faststart"})
    content = clip.path.read_bytes()
    data = content.index(b"mdat") + 4
    clip.path.write_bytes(content[:data] + bytes(len(content) - data))
    assert_refused(clip.path, "decode", "no frame can be decoded")


# --- what is not a video, and awkward names ---


def assert_refused(path: Path, stage: str, words: str, decoder: str = "pyav") -> None:
    with pytest.raises(InputError) as caught:
        read_video(str(path), Sampling(), SQUASH, decoder)
    assert (caught.value.path, caught.value.stage) == (str(path), stage)
    assert words in caught.value.reason


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_what_is_not_a_video_is_refused_with_its_reason(decoder: str, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("archery\nbowling\n" * 40)
    (tmp_path / "labels.txt").write_text("archery\nbowling\n" * 40)
    (tmp_path / "folder.mp4").mkdir()
    Image.fromarray(videos.coded_image(1)).save(tmp_path / "still.png")
    Image.fromarray(videos.coded_image(1)).save(tmp_path / "still.gif")
    (tmp_path / "still.mp4").write_bytes((tmp_path / "still.png").read_bytes())
    videos.audio_only(tmp_path / "sound.m4a")
    videos.audio_only(tmp_path / "song.mp4", picture=True)
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, stage, words in [
        ("missing.mp4", "find", "no such file or folder"),
        ("empty.mp4", "open", "empty (0 bytes)"),
        ("text.mp4", "open", "not a video"),
        ("labels.txt", "open", "not a video"),
        ("folder.mp4", "open", "holds no images"),
        ("still.png", "open", "still image"),
        ("still.gif", "open", "still image"),
        ("still.mp4", "open", "not a video"),
        ("sound.m4a", "open", "no video stream, only audio"),
        ("song.mp4", "open", "no video stream, only audio and a cover picture"),
        ("pipe.mp4", "open", "not a regular file"),
    ]:
        assert_refused(tmp_path / name, stage, words, decoder)


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = videos.write_video(tmp_path / "a.mp4")

    def no_entry(*args: object, **how: object) -> None:
        raise PermissionError(13, "Permission denied")  # file modes do not stop root

    monkeypatch.setattr("builtins.open", no_entry)
    assert_refused(clip.path, "open", "no permission to read it")


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize(
    "name", ["with space.mp4", "håndball 手球.mp4", "-i.mp4", "rtmp:a.mp4", "frame%d.mp4", "a'\"$&.mp4", "noend"]
)
def test_awkward_names_are_only_names(name: str, decoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    videos.write_video(tmp_path / "a.mp4", frames=5).path.rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    video = read_video(name, Sampling(frames=2), SQUASH, decoder)
    assert video.facts.path == name and codes(video) == [1, 3]


@pytest.mark.parametrize("name", ["a\0b.mp4", "a\ud800.mp4"])
def test_a_name_that_no_file_can_have_is_a_failure_of_it(name: str) -> None:
    with pytest.raises(InputError, match="find failed: no file can have this name"):
        read_video(name, Sampling(frames=4), SQUASH)


def test_a_playlist_that_calls_itself_a_video_reaches_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.ts"
        path = tmp_path / "a.m3u8"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n")
        with pytest.raises(InputError):
            read_video(str(path), Sampling(), SQUASH)
        with pytest.raises(TimeoutError):
            server.accept()


def test_metadata_in_any_encoding_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    clip = videos.write_video(path, metadata={"title": "XXXX"})
    path.write_bytes(path.read_bytes().replace(b"XXXX", b"\xd3\xff\xfe\x80"))
    assert codes(read_video(str(path), Sampling(frames=1), SQUASH)) == [clip.shown(clip.end / 2)]


def test_an_unknown_decoder_or_geometry_is_a_usage_error(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=2)
    with pytest.raises(UsageError, match="'opencv' is unknown: choose one of pyav, decord"):
        read_video(str(clip.path), Sampling(), SQUASH, "opencv")
    with pytest.raises(UsageError, match="size is 0"):
        read_video(str(clip.path), Sampling(), Geometry(0))
    with pytest.raises(UsageError, match="resize is 100: it must be at least the size cut out of it, 224"):
        read_video(str(clip.path), Sampling(), Geometry(224, 100))
    with pytest.raises(UsageError, match="resize is 300: a letterboxed frame is not cut, so it must be None"):
        read_video(str(clip.path), Sampling(), Geometry(224, 300, letterbox=True))
    with pytest.raises(UsageError, match="frames is 0"):
        read_video(str(clip.path), Sampling(frames=0), SQUASH)


def test_decord_that_is_not_installed_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=2)
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UsageError, match=r"'decord' is not installed here .* choose the decoder 'pyav'"):
        read_video(str(clip.path), Sampling(), SQUASH, "decord")


# --- images ---


def test_broken_images_of_a_folder_are_replaced_by_their_neighbours(tmp_path: Path) -> None:
    clip = videos.folder(tmp_path / "frames", frames=10)
    (clip.path / "img4.jpg").write_bytes(b"not a picture")
    video = read_video(str(clip.path), Sampling(frames=10), SQUASH)
    assert codes(video) == [0, 1, 2, 3, 3, 5, 6, 7, 8, 9]
    assert video.facts.partial is not None and video.facts.partial.share == pytest.approx(0.9)
    assert "1 of 10 images cannot be read (img4.jpg" in video.facts.partial.reason


def test_only_the_images_that_are_needed_are_decoded(tmp_path: Path) -> None:
    clip = videos.folder(tmp_path / "frames", frames=10)
    (clip.path / "img4.jpg").write_bytes(b"not a picture")
    video = read_video(str(clip.path), Sampling(frames=2), SQUASH)
    assert codes(video) == [2, 7] and video.facts.partial is None


def test_a_folder_of_broken_images_cannot_be_decoded(tmp_path: Path) -> None:
    clip = videos.folder(tmp_path / "frames", frames=2)
    for image in clip.path.iterdir():
        image.write_bytes(b"not a picture")
    assert_refused(clip.path, "decode", "none of its 2 images can be read")


def test_the_frame_rate_gives_a_folder_its_times(tmp_path: Path) -> None:
    clip = videos.folder(tmp_path / "frames", frames=10)
    video = read_video(str(clip.path), Sampling(frames=5, frame_rate=2.0), SQUASH)
    assert list(video.facts.times) == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert (video.facts.info.duration, video.facts.info.frame_rate, video.facts.decoder) == (5.0, 2.0, "images")


def test_images_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    lying = Image.fromarray(np.rot90(videos.coded_image(7)))  # counterclockwise; 6 says: turn clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    lying.save(folder / "a.jpg", exif=exif)
    video = read_video(str(folder), Sampling(frames=1), SQUASH)
    assert codes(video) == [7]
    assert (video.facts.info.width, video.facts.info.height) == videos.SIZE


@pytest.mark.parametrize("name", ["a.gif", "a.png"])
def test_a_cut_animation_gives_the_frames_before_the_cut(name: str, tmp_path: Path) -> None:
    clip = videos.animation(tmp_path / name)
    content = clip.path.read_bytes()
    clip.path.write_bytes(content[: len(content) * 3 // 5])
    video = read_video(str(clip.path), Sampling(frames=4), SQUASH)
    assert video.facts.partial is not None and 0 < video.facts.partial.share < 1
    assert codes(video) == [clip.shown(instant) for instant in wanted(video.facts.info.duration or 0, 4)]


def test_a_cut_webp_cannot_be_opened(tmp_path: Path) -> None:
    clip = videos.animation(tmp_path / "a.webp")
    clip.path.write_bytes(clip.path.read_bytes()[:-10])
    assert_refused(clip.path, "open", "not an image that Pillow recognises")


def test_frames_of_no_length_are_shown_as_browsers_do(tmp_path: Path) -> None:
    clip = videos.animation(tmp_path / "a.gif", [0, 10, 50])
    assert probe(str(clip.path)).duration == pytest.approx(0.25)


def test_transparent_parts_are_black(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
    solid = Image.new("RGBA", (32, 32), (200, 100, 50, 255))
    clear.save(tmp_path / "a.webp", save_all=True, append_images=[solid], duration=100, lossless=True)
    video = read_video(str(tmp_path / "a.webp"), Sampling(frames=2), Geometry(8))
    assert video.frames[0, 0].max() == 0
    assert video.frames[0, 1, 4, 4].tolist() == [200, 100, 50]


@pytest.mark.parametrize("windows", [range(3, 6), range(10)], ids=["some", "all"])
def test_key_frames_that_fail_are_read_from_the_start_only_where_nobody_else_reads_a_share(
    windows: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(videos.write_video(tmp_path / "a.mp4", frames=50, gop=5, b_frames=0).path)
    sampling = Sampling(window=0.2, frames=1, exact=False)
    key_frame, scan, times = pyav_reader._key_frame, pyav_reader.scan, iter(range(100))
    monkeypatch.setattr(pyav_reader, "_key_frame", lambda *about: None if next(times) == 1 else key_frame(*about))
    monkeypatch.setattr(pyav_reader, "scan", lambda source: replace(scan(source), trusted=False))
    read = read_windows(path, sampling, SQUASH, "pyav", None, lambda count, _: windows)
    if windows != range(10):
        with pytest.raises(Indivisible):
            list(read)
        return
    *batches, _ = read
    assert [window for batch in batches for window in batch.windows] == [Window(*s) for s in spans(2.0, sampling)]
