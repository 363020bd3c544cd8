"""The one door to videos: a path in, upright RGB frames with true times out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.assembly import joined
from zsar_cli.video.geometry import check_geometry
from zsar_cli.video.kinds import IMAGE_SUFFIXES
from zsar_cli.video.sampling import Allot, BehindTheEnd, check_sampling
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling, VideoFacts, VideoInfo, Window, WindowBatch

__all__ = ["DECODERS", "decoder_versions", "is_images", "probe", "read_video", "read_windows", "reader_of"]

# Each a module whose `read` yields windows and facts, and the package whose version a result names.
_READERS = {"pyav": ("pyav_reader", "av"), "decord": ("decord_reader", "decord"), "images": ("image_reader", "pillow")}
DECODERS = tuple(name for name in _READERS if name != "images")  # what a user chooses from
PICTURES = IMAGE_SUFFIXES | {".gif", ".apng"}  # read by Pillow, whatever the decoder


def read_windows(
    path: str,
    sampling: Sampling,
    geometry: Geometry,
    decoder: str = "pyav",
    within: Window | None = None,
    allot: Allot | None = None,
) -> Iterator[WindowBatch | VideoFacts]:
    """Read the frames shown at the wanted instants of a video file, an animated image or a folder of images.

    Args:
        path: a video file, a GIF or animated WebP, or a folder of images in natural order.
        sampling: which instants. Frames repeat where the video has fewer than are asked for.
        geometry: the shape of each frame.
        decoder: "pyav" (exact) or "decord" (its limits: see `decord_reader`). Images are read by Pillow
            whatever is chosen here.
        within: only this part of the video, see `Excerpt`; None is all of it.
        allot: says which of the windows to read. Not asked where they can only be read one after the other.

    Yields:
        N windows in order, each as soon as it is complete, so that memory does not grow with the length of the video;
        last what is known of the file, `partial` set where damage kept part of it from being read.

    Raises:
        InputError: the file is missing, not a video, nothing in it can be decoded, or it ends before the part.
        UsageError: an unknown decoder, one that is not installed, or a value that is not allowed.
        Indivisible: `allot` left windows out, and those that are wanted cannot be read by themselves.
    """
    if decoder not in DECODERS:
        raise UsageError(f"decoder '{decoder}' is unknown: choose one of {', '.join(DECODERS)}")
    check_sampling(sampling)
    check_geometry(geometry)
    name = "images" if is_images(path) else decoder
    read = import_module(f"zsar_cli.video.{_READERS[name][0]}").read
    more = {"allot": allot} if name == "pyav" and allot is not None else {}
    try:
        for part in read(path, sampling, geometry, within, **more):
            yield _cut_short(part, within) if isinstance(part, VideoFacts) and within is not None else part
    except BehindTheEnd as error:
        raise InputError(path, "decode", str(error), name) from error


def _cut_short(facts: VideoFacts, within: Window) -> VideoFacts:
    """With a note where the video ends within the part."""
    end = facts.info.duration
    if end is None or within.end <= end:
        return facts
    return replace(facts, notes=(*facts.notes, f"it ends at {end:.2f} s, before the {within.end:g} s asked for"))


def read_video(
    path: str, sampling: Sampling, geometry: Geometry, decoder: str = "pyav", within: Window | None = None
) -> DecodedVideo:
    """All windows of a short video at once: see `read_windows`, which has the arguments and the errors."""
    *windows, facts = read_windows(path, sampling, geometry, decoder, within)
    assert isinstance(facts, VideoFacts)
    return joined(facts, [one for one in windows if isinstance(one, WindowBatch)])


def probe(path: str) -> VideoInfo:
    """What is known of a video file, animated image or folder of images.

    Raises:
        InputError: as `read_video`.
    """
    if is_images(path):
        from zsar_cli.video import image_reader

        *_, facts = image_reader.read(path, Sampling(frames=1), Geometry(size=16))
        assert isinstance(facts, VideoFacts)
        return facts.info
    from zsar_cli.video import pyav_reader

    return pyav_reader.probe(path)


def decoder_versions() -> dict[str, str | None]:
    """Version of each decoder's package, None where it is not installed. Imports none of them."""
    return {name: _version(package) for name, (_, package) in _READERS.items()}


def reader_of(path: str, decoder: str) -> str:
    """Which of the decoders reads a path where `decoder` is asked for: "images" for what Pillow reads."""
    return "images" if os.path.isdir(path) or Path(path).suffix.lower() in PICTURES else decoder


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def is_images(path: str) -> bool:
    """True for what Pillow reads: folders, animations, and still images, which it refuses.

    Raises:
        InputError: nothing there, no permission, not a regular file, empty.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(path, "find", _os_reason(error)) from error
    except ValueError as error:  # NUL, or half of a surrogate pair
        raise InputError(path, "find", "no file can have this name") from error
    if stat.S_ISDIR(status.st_mode):
        return True
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe or a device could wait for ever.
        raise InputError(path, "open", "not a regular file (a pipe, socket or device): save it to a file")
    if status.st_size == 0:
        raise InputError(path, "open", "the file is empty (0 bytes)")
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(path, "open", _os_reason(error)) from error
    return Path(path).suffix.lower() in PICTURES


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return error.strerror or str(error)
