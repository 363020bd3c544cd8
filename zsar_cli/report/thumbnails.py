"""Small pictures of videos: one of each, or some side by side, from the key frames that are nearest."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsar_cli.errors import InputError
from zsar_cli.video.geometry import scaled_size
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling, View
from zsar_cli.video.workers import DecodePool

__all__ = ["Picture", "pictures_of"]

_SIDE, _SIDE_OF_MANY = 176, 128  # pixels of the longer side of a frame
_TRIES = tuple((scale, quality) for scale in (1.0, 0.75, 0.5) for quality in (65, 50, 35, 25))


@dataclass(frozen=True)
class Picture:
    """Frames of one video side by side, from left to right.

    Args:
        jpeg: the bytes of the file.
        width, height: of one frame, in pixels.
        times: seconds, when each frame is first shown.
    """

    jpeg: bytes
    width: int
    height: int
    times: tuple[float, ...]


def pictures_of(
    paths: Sequence[str], frames: int, most: int, workers: int, timeout: float
) -> Iterator[tuple[str, Picture | InputError]]:
    """A picture of each video, or why there is none; in the order of the paths.

    Args:
        frames: how many of each video, evenly spread; a short one has fewer.
        most: bytes that a picture should not exceed; it is made coarser and smaller for that.
        workers: decode processes.
        timeout: seconds after which a file is given up.

    Raises:
        UsageError: `workers` or `timeout` is out of range.
    """
    geometry = Geometry(_SIDE if frames == 1 else _SIDE_OF_MANY, letterbox=True)
    view = View(Sampling(frames=frames, exact=False), geometry)
    with DecodePool(workers, timeout, [view]) as pool:
        for path, video in zip(paths, pool.decode(paths), strict=True):
            yield path, video if isinstance(video, InputError) else _picture(video, geometry, most)


def _picture(video: DecodedVideo, geometry: Geometry, most: int) -> Picture:
    width, height = scaled_size(video.facts.info.width, video.facts.info.height, geometry)
    left, top = (geometry.size - width) // 2, (geometry.size - height) // 2
    times, firsts = np.unique(np.round(video.facts.times, 2), return_index=True)
    frames = video.frames[0][firsts][:, top : top + height, left : left + width]
    for scale, quality in _TRIES:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        data = _jpeg(frames, size, quality)
        if len(data) <= most:
            break
    return Picture(data, *size, tuple(times.tolist()))


def _jpeg(frames: NDArray[np.uint8], size: tuple[int, int], quality: int) -> bytes:
    """Frames uint8 [n, height, width, 3], each brought to a size, in one row."""
    strip = Image.new("RGB", (size[0] * len(frames), size[1]))
    for number, frame in enumerate(frames):
        strip.paste(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS), (number * size[0], 0))
    file = io.BytesIO()
    strip.save(file, "JPEG", quality=quality, optimize=True)
    return file.getvalue()
