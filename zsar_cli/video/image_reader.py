"""Animated images (GIF, WebP, PNG) and folders of images, read with Pillow.

FFmpeg cannot decode animated WebP, and Pillow composes each animation frame with what was left of the one
before. Transparent parts are black, as in a video player. Of Pillow's many formats those of `IMAGE_FORMATS` are
read, whatever the suffix says: others run programs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from zsar_cli.errors import InputError
from zsar_cli.video.assembly import by_frame, windows_of
from zsar_cli.video.geometry import centre_square, is_thin, scaled_size, thin_square
from zsar_cli.video.kinds import IMAGE_FORMATS, IMAGE_SUFFIXES, natural_order
from zsar_cli.video.limits import MAX_PIXELS, check_pixels
from zsar_cli.video.sampling import frames_shown, repeats, sample_times, spans
from zsar_cli.video.types import Geometry, Partial, Sampling, VideoFacts, VideoInfo, Window, WindowBatch

__all__ = ["read", "version"]

NAME = "images"
# Pixels of a photo that is decoded at a part of its size; libjpeg needs six bytes for each where it is progressive.
_MAX_PHOTO = 100_000_000
# Browsers show a frame that claims 10 ms or less for 100 ms: such files mean "as fast as is sensible".
_SHORTEST, _INSTEAD = 0.011, 0.1


def version() -> str:
    """Pillow's version."""
    return f"Pillow {PIL.__version__}"


def read(
    path: str, sampling: Sampling, geometry: Geometry, within: Window | None = None
) -> Iterator[WindowBatch | VideoFacts]:
    """Read a folder of images or an animated image; see `zsar_cli.video.reader.read_windows`.

    Every frame counts as exact: there is nothing to be gained from key frames.

    Raises:
        InputError: no image there, a still image, or nothing that can be decoded.
    """
    yield from (_read_folder if os.path.isdir(path) else _read_animation)(path, sampling, geometry, within)


def _open(path: str) -> Image.Image:
    """An image whose pixels are not decoded yet.

    Raises:
        InputError: of another format, or too large.
    """
    _check_webp(path)
    try:
        image = Image.open(path, formats=IMAGE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(path, "open", f"its picture is too large: {error}", NAME) from error
    except MemoryError:
        raise
    except Exception as error:  # damaged data makes Pillow raise almost anything
        reason = f"not an image that Pillow recognises as {', '.join(IMAGE_FORMATS[:-1])} or {IMAGE_FORMATS[-1]}"
        raise InputError(path, "open", reason, NAME) from error
    if image.format != "JPEG" or image.width * image.height > _MAX_PHOTO:
        check_pixels(path, *image.size, NAME)
    return image


def _decode_smaller(image: Image.Image, geometry: Geometry) -> None:
    """Has a photo that is larger than any video decoded at a half, a quarter or an eighth of its size."""
    if image.width * image.height > MAX_PIXELS:
        side = geometry.resize or geometry.size
        image.draft(None, (side, side))


def _check_webp(path: str) -> None:
    """Refuse a WebP that is too large: Pillow allocates its canvas before it looks at the size.

    Raises:
        InputError: it is.
    """
    with open(path, "rb") as file:
        size = _webp_size(file.read(30))
    if size is not None:
        check_pixels(path, *size, NAME)


def _webp_size(header: bytes) -> tuple[int, int] | None:
    """Width and height by the first chunk (WebP Container Specification; RFC 6386, 9.1; RFC 9649, 3.4)."""
    if header[:4] != b"RIFF" or header[8:12] != b"WEBP" or len(header) < 30:
        return None
    if header[12:16] == b"VP8X":
        return int.from_bytes(header[24:27], "little") + 1, int.from_bytes(header[27:30], "little") + 1
    if header[12:16] == b"VP8L":
        bits = int.from_bytes(header[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if header[12:16] == b"VP8 ":
        return int.from_bytes(header[26:28], "little") & 0x3FFF, int.from_bytes(header[28:30], "little") & 0x3FFF
    return None


def _shape(image: Image.Image, geometry: Geometry) -> NDArray[np.uint8]:
    """uint8 [S, S, 3] of an upright image of any mode."""
    if image.has_transparency_data:
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    image, size = image.convert("RGB"), scaled_size(image.width, image.height, geometry)
    if is_thin(size, geometry):
        return thin_square(image, size, geometry.size)
    return centre_square(np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8), geometry.size)


def _why(error: Exception) -> str:
    """What went wrong with one image."""
    if isinstance(error, InputError):
        return error.reason
    return "out of memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__


def _facts(
    path: str, sampling: Sampling, times: NDArray[np.float64], info: VideoInfo, partial: Partial | None
) -> VideoFacts:
    whole = sampling.window is None
    return VideoFacts(
        path=path,
        info=info,
        sampling=sampling,
        decoder=NAME,
        decoder_version=version(),
        times=tuple(times.ravel().tolist()) if whole else (),
        partial=partial,
        notes=repeats(times) if whole else (),
    )


# --- a folder of images ---


def _read_folder(
    path: str, sampling: Sampling, geometry: Geometry, within: Window | None
) -> Iterator[WindowBatch | VideoFacts]:
    names = [e.name for e in os.scandir(path) if e.is_file() and Path(e.name).suffix.lower() in IMAGE_SUFFIXES]
    names = sorted((name for name in names if not name.startswith(".")), key=natural_order)
    if not names:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(path, "open", f"the folder holds no images ({kinds})", NAME)
    starts = np.arange(len(names)) / sampling.frame_rate
    duration = len(names) / sampling.frame_rate
    chosen = frames_shown(starts, sample_times(duration, sampling, within))
    folder = _Folder(path, names, geometry)
    yield from windows_of(by_frame(chosen, folder.image), spans(duration, sampling, within), sampling.frames)
    partial = None
    if folder.broken:
        first, reason = next(iter(folder.broken.items()))
        what = f"{len(folder.broken)} of {len(names)} images cannot be read ({names[first]}: {reason})"
        partial = Partial(1 - len(folder.broken) / len(names), f"{what}; their neighbours were taken")
    width, height = folder.size
    info = VideoInfo(width, height, duration, sampling.frame_rate, Path(names[0]).suffix[1:].lower(), "folder")
    taken = np.vectorize(lambda index: folder.taken[index], otypes=[np.int64])(chosen)
    yield _facts(path, sampling, starts[taken], info, partial)


class _Folder:
    """Decodes the images that are needed, and remembers which cannot be.

    Attributes:
        broken: why an image cannot be decoded, by its index.
        taken: the index of the image that stands for another, itself where it can be decoded.
        size: width and height of the last one decoded.
    """

    def __init__(self, path: str, names: list[str], geometry: Geometry) -> None:
        self.path, self.names, self.geometry = path, names, geometry
        self.broken: dict[int, str] = {}
        self.taken: dict[int, int] = {}
        self.size = (0, 0)

    def image(self, index: int) -> NDArray[np.uint8]:
        """The image, or the nearest that can be decoded, the earlier of two."""
        by_distance = sorted(range(len(self.names)), key=lambda other: abs(other - index))
        for other in by_distance:
            if (image := self._decodes(other)) is not None:
                self.taken[index] = other
                return image
        reason = f"none of its {len(self.names)} images can be read ({self.broken[index]})"
        raise InputError(self.path, "decode", reason, NAME)

    def _decodes(self, index: int) -> NDArray[np.uint8] | None:
        if index in self.broken:
            return None
        try:
            with _open(os.path.join(self.path, self.names[index])) as image:
                size = image.size
                _decode_smaller(image, self.geometry)
                lies = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
                ImageOps.exif_transpose(image, in_place=True)
                shaped = _shape(image, self.geometry)
                self.size = size[::-1] if lies else size
                return shaped
        except Exception as error:  # damaged data makes Pillow raise almost anything
            self.broken[index] = _why(error)
            return None


# --- an animated image ---


def _read_animation(
    path: str, sampling: Sampling, geometry: Geometry, within: Window | None
) -> Iterator[WindowBatch | VideoFacts]:
    with _open(path) as image:
        if _frame_count(path, image) < 2:
            reason = "a still image is not a video: give a video, an animation or a folder of images"
            raise InputError(path, "open", reason, NAME)
        ends, partial = _frame_ends(path, image)
        starts = np.append(0.0, ends[:-1])
        duration = float(ends[-1])
        chosen = frames_shown(starts, sample_times(duration, sampling, within))

        def fetch(index: int) -> NDArray[np.uint8]:
            image.seek(index)
            return _shape(image, geometry)

        yield from windows_of(by_frame(chosen, fetch), spans(duration, sampling, within), sampling.frames)
        kind = (image.format or "").lower()
        info = VideoInfo(image.width, image.height, duration, len(ends) / duration, kind, kind)
    yield _facts(path, sampling, starts[chosen], info, partial)


def _frame_count(path: str, image: Image.Image) -> int:
    try:
        return getattr(image, "n_frames", 1)
    except MemoryError:
        raise
    except Exception as error:  # a GIF is walked through to its end
        raise InputError(path, "decode", f"its frames cannot be counted ({_why(error)})", NAME) from error


def _frame_ends(path: str, image: Image.Image) -> tuple[NDArray[np.float64], Partial | None]:
    """When each frame's time on the screen ends, up to the first frame that cannot be decoded."""
    count = _frame_count(path, image)
    lengths: list[float] = []
    partial = None
    for index in range(count):
        try:
            image.seek(index)
            check_pixels(path, *image.size, NAME)  # a frame of a GIF may enlarge it
            image.load()
        except MemoryError:
            raise
        except Exception as error:  # damaged data makes Pillow raise almost anything
            if not lengths:
                raise InputError(path, "decode", f"no frame can be decoded ({_why(error)})", NAME) from error
            reason = f"only the first {index} of {count} frames can be decoded ({_why(error)})"
            partial = Partial(index / count, reason)
            break
        seconds = float(image.info.get("duration", 0)) / 1000
        lengths.append(seconds if seconds >= _SHORTEST else _INSTEAD)
    return np.cumsum(lengths), partial
