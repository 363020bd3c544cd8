"""From a frame of any size to the square a model sees: scale, crop or pad, turn upright."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import UsageError
from zsar_cli.video.types import Geometry

if TYPE_CHECKING:
    from av import VideoFrame
    from PIL import Image

__all__ = [
    "centre_square",
    "check_geometry",
    "displayed_size",
    "is_thin",
    "scaled_size",
    "shape_frame",
    "thin_square",
]

_BICUBIC = 3  # Image.Resampling.BICUBIC, without importing Pillow
_LONGEST = 16  # times the shorter side: beyond any panorama
_NARROWEST = 1 / 64  # pixels: Pillow counts in single precision, in which a narrower part has no width


def check_geometry(geometry: Geometry) -> None:
    """Refuse a geometry that no frame can have.

    Raises:
        UsageError: a size below 1, a shorter side that is smaller than the square cut out of it, or a frame that is
            to be both cut and padded.
    """
    if geometry.size < 1:
        raise UsageError(f"size is {geometry.size}: it must be 1 or more")
    if geometry.resize is not None and geometry.resize < geometry.size:
        raise UsageError(f"resize is {geometry.resize}: it must be at least the size cut out of it, {geometry.size}")
    if geometry.letterbox and geometry.resize is not None:
        raise UsageError(f"resize is {geometry.resize}: a letterboxed frame is not cut, so it must be None")


def displayed_size(width: int, height: int, aspect: Fraction, rotation: int) -> tuple[int, int]:
    """Width and height on the screen: pixels made square by changing the width, then turned upright.

    Args:
        width, height: as stored.
        aspect: width of a stored pixel over its height (the "sample aspect ratio").
        rotation: counterclockwise degrees that turn the frame upright, a multiple of 90.
    """
    width = max(1, round(width * aspect))
    return (height, width) if rotation % 180 else (width, height)


def scaled_size(width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """Width and height after scaling, before cutting or padding; the side that follows is rounded down."""
    if geometry.letterbox:
        long = max(width, height)
        return max(1, geometry.size * width // long), max(1, geometry.size * height // long)
    if geometry.resize is None:
        return geometry.size, geometry.size
    short = min(width, height)
    return geometry.resize * width // short, geometry.resize * height // short


def centre_square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The centre of an image, cut where it is too long and padded with black where it is too short.

    Args:
        image: uint8 [H, W, 3].
        size: S.

    Returns:
        uint8 [S, S, 3], contiguous.
    """
    spare = [side - size for side in image.shape[:2]]
    top, left = (max(0, more) // 2 for more in spare)
    image = image[top : top + size, left : left + size]
    if min(spare) < 0:
        above, before = (max(0, -more) // 2 for more in spare)
        below, after = (size - side - first for side, first in zip(image.shape, (above, before), strict=False))
        image = np.pad(image, ((above, below), (before, after), (0, 0)))
    return np.ascontiguousarray(image)


def is_thin(size: tuple[int, int], geometry: Geometry) -> bool:
    """Is a picture so long and thin that scaling its shorter side would make the longer one explode?

    Args:
        size: `scaled_size` of the picture.
        geometry: what it is scaled for.
    """
    return geometry.resize is not None and max(size) > _LONGEST * geometry.resize


def thin_square(image: Image.Image, size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """What `centre_square` of the scaled picture is, without scaling the rest of it.

    Pillow's filter reaches over the edge of the part that is scaled, so nothing changes at the border.

    Args:
        image: upright, RGB.
        size: width and height that the whole picture would be scaled to, at least `side` each.
        side: S.

    Returns:
        uint8 [S, S, 3].
    """
    spans = [_centre_span(*lengths, side) for lengths in zip(image.size, size, strict=True)]
    box = (spans[0][0], spans[1][0], spans[0][1], spans[1][1])
    return np.asarray(image.resize((side, side), resample=_BICUBIC, box=box), dtype=np.uint8)


def _centre_span(length: int, scaled: int, side: int) -> tuple[float, float]:
    """The part of `length` that becomes the central `side` of `scaled`."""
    first = (scaled - side) // 2
    low, high = first * length / scaled, (first + side) * length / scaled
    if high - low < _NARROWEST:
        low = min(low, length - _NARROWEST)
        high = low + _NARROWEST
    return low, high


def shape_frame(frame: VideoFrame, geometry: Geometry, aspect: Fraction, rotation: int) -> NDArray[np.uint8]:
    """One decoded frame as the model sees it. Scaling is swscale's bicubic, straight from the decoded planes.

    Args:
        frame: of any pixel format and size.
        geometry: what to make of it.
        aspect: as in `displayed_size`.
        rotation: as in `displayed_size`.

    Returns:
        uint8 [S, S, 3], RGB, upright.
    """
    upright = scaled_size(*displayed_size(frame.width, frame.height, aspect, rotation), geometry)
    if is_thin(upright, geometry):
        from PIL import Image

        whole = np.rot90(frame.reformat(format="rgb24", threads=1).to_ndarray(), rotation // 90)
        return thin_square(Image.fromarray(whole), upright, geometry.size)
    width, height = upright[::-1] if rotation % 180 else upright
    scaled = frame.reformat(width, height, format="rgb24", interpolation="BICUBIC", threads=1)
    image = np.rot90(scaled.to_ndarray(), rotation // 90)
    return centre_square(image.astype(np.uint8, copy=False), geometry.size)
