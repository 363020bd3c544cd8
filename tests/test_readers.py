"""Every decoder reads every kind of file; the numbers in the frames are the truth."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import videos
from videos import Clip, read_code

from zsar_cli.video.reader import read_video
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling

SQUASH = Geometry(size=64)
X265 = {"x265-params": "log-level=none"}
VARIABLE = [0, 0.1, 0.13, 0.5, 0.52, 0.54, 1.0, 1.7, 1.74, 1.78, 2.5, 3.1]


def _video(name: str, *args: object, **how: object) -> Callable[[Path], Clip]:
    return lambda folder: videos.write_video(folder / name, *args, **how)


KINDS: dict[str, Callable[[Path], Clip]] = {
    "h264_mp4": _video("a.mp4", b_frames=0),
    "h264_b_frames_mp4": _video("a.mp4", b_frames=3),
    "h264_b_frames_mkv": _video("a.mkv", b_frames=3),
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
    limits = {kind: pytest.mark.xfail(reason=why, strict=True) for kind, why in DECORD_LIMITS.items()}
    with_pyav = [pytest.param("pyav", kind, id=f"pyav-{kind}") for kind in KINDS]
    return with_pyav + [pytest.param("decord", kind, id=f"decord-{kind}", marks=limits.get(kind, ())) for kind in KINDS]


def wanted(end: float, count: int) -> list[float]:
    """The centres of `count` equal cells of [0, end)."""
    return [end * (i + 0.5) / count for i in range(count)]


def codes(video: DecodedVideo) -> list[int]:
    return [read_code(frame) for frame in video.frames]


@pytest.mark.parametrize(("decoder", "kind"), every_decoder_and_kind())
def test_gives_the_frames_shown(decoder: str, kind: str, tmp_path: Path) -> None:
    clip = KINDS[kind](tmp_path)
    video = read_video(str(clip.path), Sampling(frames=16), SQUASH, decoder)

    expected = [clip.shown(instant) for instant in wanted(clip.end, 16)]
    assert codes(video) == expected
    starts = [clip.starts[clip.codes.index(code)] for code in expected]
    np.testing.assert_allclose(video.times, starts, atol=1e-3)
    assert video.info.duration == pytest.approx(clip.end, abs=2e-3)
    assert video.partial is None
