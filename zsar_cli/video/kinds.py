"""Which files are videos, which are images, and in what order images follow each other."""

from __future__ import annotations

import re

__all__ = ["IMAGE_SUFFIXES", "VIDEO_SUFFIXES", "natural_order"]

# What a folder scan takes for a video. A file named explicitly is opened whatever its suffix.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".flv", ".mkv", ".webm", ".ogv", ".ogg"}
    | {".avi", ".divx", ".wmv", ".asf", ".rm", ".rmvb", ".mxf", ".y4m", ".gif", ".apng"}
    | {".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".h264", ".264", ".h265", ".265", ".hevc"}
)
# What a folder of frames is made of. A ".webp" alone can also be an animation.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def natural_order(name: str) -> tuple[list[str | int], str]:
    """A key that puts "img2" before "IMG10": numbers by value, letters without case; equal ones by the name itself."""
    parts = re.split(r"(\d+)", name.casefold())  # the numbers stand at the odd places
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name
