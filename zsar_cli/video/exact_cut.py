"""The pictures of a piece of a video encoded anew: upright, with square pixels, at their own times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, takewhile
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.geometry import displayed_size
from zsar_cli.video.pyav_source import (
    ANY_SHAPE,
    NAME,
    Source,
    Timed,
    Timeline,
    in_order,
    open_source,
    upright_by,
    why_no_frame,
)

__all__ = ["add_pictures", "check_encoder", "encode_pictures", "frames_between"]

_ENCODER = "libx264"
# Without B-frames times begin at 0 and need no edit list, of which some readers take no notice.
_QUALITY = {"crf": "18", "preset": "veryfast", "bf": "0"}
_BT601 = 6  # AVCOL_SPC_SMPTE170M: what swscale makes of RGB
_LIMITED = 1  # AVCOL_RANGE_MPEG

Shown = tuple[Source, Timed]


def check_encoder() -> None:
    """Refuse what cannot be made here.

    Raises:
        UsageError: this build of FFmpeg has no encoder for H.264.
    """
    try:
        av.Codec(_ENCODER, "w")
    except ValueError:
        raise UsageError(
            f"this build of PyAV {av.__version__} has no encoder {_ENCODER}, which exact cuts need; "
            "--copy cuts at key frames without it"
        ) from None


def frames_between(path: str, line: Timeline, begin: int, end: int, alive: Callable[[], None]) -> Iterator[Shown]:
    """The frame on the screen at `begin` and those shown after it, before `end`; in units of the timeline.

    Args:
        alive: called for each frame that is decoded, also for those that lie before.

    Raises:
        InputError: none of them can be decoded.
    """
    first = line.shown_at(begin)
    for key in line.starts_for(first):
        with open_source(path, ANY_SHAPE) as source:
            if key is not None:
                source.seek(key)
            frames = _counted(in_order(source, line), alive)
            head = next((timed for timed in frames if timed[0] >= first), None)
            if key is not None and (head is None or head[0] != first or source.damage.errors):
                continue
            if head is None or head[0] >= end:
                raise InputError(path, "decode", why_no_frame(source), NAME)
            for timed in chain([head], takewhile(lambda timed: timed[0] < end, frames)):
                yield source, timed
            return


def _counted(frames: Iterator[Timed], alive: Callable[[], None]) -> Iterator[Timed]:
    for timed in frames:
        alive()
        yield timed


def add_pictures(out: OutputContainer, source: Source, frame: av.VideoFrame, line: Timeline) -> Any:
    """A stream of H.264 in 4:2:0, which everything plays, of the size that a first frame has on the screen."""
    context = source.stream.codec_context
    stream: Any = out.add_stream(_ENCODER, rate=1 / (line.usual * line.unit), options=_QUALITY)
    rotation = upright_by(frame)
    # A size must be even; half of the pixels' columns or rows carry colour.
    stream.width, stream.height = (
        max(2, side // 2 * 2) for side in displayed_size(frame.width, frame.height, source.aspect, rotation)
    )
    stream.pix_fmt = "yuv420p"
    made = stream.codec_context
    made.time_base = line.unit
    made.color_range = _LIMITED
    made.colorspace = _BT601 if _is_rgb(frame) else context.colorspace
    made.color_primaries, made.color_trc = context.color_primaries, context.color_trc
    return stream


def encode_pictures(stream: Any, shown: Iterator[Shown], begin: int) -> Iterator[Any]:
    """The packets of the frames, the first of which is shown from the start."""
    at = 0
    for _, (pts, frame) in shown:
        picture = _upright(frame, stream.width, stream.height, upright_by(frame))
        # What is shown at the start began before it, or, where frames were lost, begins after it.
        picture.pts, picture.time_base, picture.pict_type = at and pts - begin, stream.codec_context.time_base, 0
        at = 1
        yield from stream.encode(picture)
    yield from stream.encode(None)


def _upright(frame: av.VideoFrame, width: int, height: int, rotation: int) -> av.VideoFrame:
    """The frame in 4:2:0 of a size, turned as it is to be shown."""
    if rotation % 180:
        width, height = height, width
    space = "ITU601" if _is_rgb(frame) else None
    flat = frame.reformat(
        width, height, "yuv420p", None, space, interpolation="BICUBIC", dst_color_range="MPEG", threads=1
    )
    if not rotation:
        return flat
    planes: NDArray[Any] = flat.to_ndarray()
    return av.VideoFrame.from_ndarray(_turned(planes, width, height, rotation // 90), format="yuv420p")


def _turned(planes: NDArray[np.uint8], width: int, height: int, quarters: int) -> NDArray[np.uint8]:
    """Quarter turns counterclockwise of a picture whose planes Y, U and V follow each other: uint8 [H * 3/2, W]."""
    colour = planes[height:].reshape(2, height // 2, width // 2)
    turned = [np.rot90(plane, quarters) for plane in (planes[:height], *colour)]
    whole: NDArray[np.uint8] = np.concatenate([plane.ravel() for plane in turned]).reshape(-1, turned[0].shape[1])
    return whole


def _is_rgb(frame: av.VideoFrame) -> bool:
    return bool(frame.format.is_rgb or frame.format.has_palette)
