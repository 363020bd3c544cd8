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

__all__ = ["centre_square", "check_geometry", "displayed_size", "scaled_size", "shape_frame"]


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
    width, height = scaled_size(*displayed_size(frame.width, frame.height, aspect, rotation), geometry)
    if rotation % 180:
        width, height = height, width
    scaled = frame.reformat(width, height, format="rgb24", interpolation="BICUBIC", threads=1)
    image = np.rot90(scaled.to_ndarray(), rotation // 90)
    return centre_square(image.astype(np.uint8, copy=False), geometry.size)
