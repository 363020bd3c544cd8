"""Which files are videos, which are images, what is opened of either, and in what order images follow each other."""

from __future__ import annotations

from typing import Any

from natsort import natsort_keygen, ns

__all__ = ["IMAGE_FORMATS", "IMAGE_SUFFIXES", "VIDEO_FORMATS", "VIDEO_SUFFIXES", "natural_order"]

# What a folder scan takes for a video. A file named explicitly is opened whatever its suffix.
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".flv", ".mkv", ".webm", ".ogv", ".ogg"}
    | {".avi", ".divx", ".wmv", ".asf", ".rm", ".rmvb", ".mxf", ".y4m", ".gif", ".apng"}
    | {".mpg", ".mpeg", ".m2v", ".vob", ".ts", ".mts", ".m2ts", ".h264", ".264", ".h265", ".265", ".hevc"}
)
# What a folder of frames is made of. A ".webp" alone can also be an animation.
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})

# What a file may be, whatever its suffix says: formats that hold their own pictures, by FFmpeg's names. Formats that
# name other files (concat, hls, dash, imf, sdp, vobsub, ...) would read those; image lists, devices and the formats
# of old games are left out because nobody needs them here.
VIDEO_FORMATS = (
    *("mov", "matroska", "avi", "flv", "live_flv", "kux", "asf", "asf_o", "rm", "ogg", "mpeg", "mpegts"),
    *("mxf", "gxf", "nut", "nsv", "nuv", "swf", "wtv", "dv", "ivf", "yuv4mpegpipe", "gif", "apng"),
    *("mpegvideo", "m4v", "h261", "h263", "h264", "hevc", "vvc", "vc1", "vc1test", "av1", "obu", "dirac", "mjpeg"),
)
# By Pillow's names. Others can run programs (EPS) or are no pictures of a video.
IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

_NATURAL = natsort_keygen(alg=ns.INT | ns.IGNORECASE)


def natural_order(name: str) -> tuple[Any, str]:
    """A key that puts "img2" before "IMG10": numbers by value, letters without case; equal ones by the name itself."""
    return _NATURAL(name), name
