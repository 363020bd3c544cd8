"""Animated images (GIF, WebP, PNG) and folders of images, read with Pillow.

FFmpeg cannot decode animated WebP, and Pillow composes each animation frame with what was left of the one
before. Transparent parts are black, as in a video player.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zsar_cli.errors import InputError
from zsar_cli.video.assembly import by_frame, windows_of
from zsar_cli.video.geometry import centre_square, scaled_size
from zsar_cli.video.kinds import IMAGE_SUFFIXES, natural_order
from zsar_cli.video.sampling import frames_shown, repeats, sample_times, spans
from zsar_cli.video.types import Geometry, Partial, Sampling, VideoFacts, VideoInfo, WindowBatch

__all__ = ["read", "version"]

NAME = "images"
# Browsers show a frame that claims 10 ms or less for 100 ms: such files mean "as fast as is sensible".
_SHORTEST, _INSTEAD = 0.011, 0.1


def version() -> str:
    """Pillow's version."""
    return f"Pillow {PIL.__version__}"


def read(path: str, sampling: Sampling, geometry: Geometry) -> Iterator[WindowBatch | VideoFacts]:
    """Read a folder of images or an animated image; see `zsar_cli.video.reader.read_windows`.

    Every frame counts as exact: there is nothing to be gained from key frames.

    Raises:
        InputError: no image there, a still image, or nothing that can be decoded.
    """
    yield from (_read_folder if os.path.isdir(path) else _read_animation)(path, sampling, geometry)


def _shape(image: Image.Image, geometry: Geometry) -> NDArray[np.uint8]:
    """uint8 [S, S, 3] of an upright image of any mode."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    scaled = image.convert("RGB").resize(scaled_size(image.width, image.height, geometry), Image.Resampling.BICUBIC)
    return centre_square(np.asarray(scaled, dtype=np.uint8), geometry.size)


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


def _read_folder(path: str, sampling: Sampling, geometry: Geometry) -> Iterator[WindowBatch | VideoFacts]:
    names = [e.name for e in os.scandir(path) if e.is_file() and Path(e.name).suffix.lower() in IMAGE_SUFFIXES]
    names = sorted((name for name in names if not name.startswith(".")), key=natural_order)
    if not names:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise InputError(path, "open", f"the folder holds no images ({kinds})", NAME)
    starts = np.arange(len(names)) / sampling.frame_rate
    duration = len(names) / sampling.frame_rate
    chosen = frames_shown(starts, sample_times(duration, sampling))
    folder = _Folder(path, names, geometry)
    yield from windows_of(by_frame(chosen, folder.image), spans(duration, sampling), sampling.frames)
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
            with Image.open(os.path.join(self.path, self.names[index])) as image:
                upright = ImageOps.exif_transpose(image)
                self.size = upright.size
                return _shape(upright, self.geometry)
        except Exception as error:  # damaged data makes Pillow raise almost anything
            self.broken[index] = str(error) or type(error).__name__
            return None


# --- an animated image ---


def _read_animation(path: str, sampling: Sampling, geometry: Geometry) -> Iterator[WindowBatch | VideoFacts]:
    try:
        image = Image.open(path)
    except Exception as error:
        raise InputError(path, "open", "not an image that Pillow recognises", NAME) from error
    with image:
        if getattr(image, "n_frames", 1) < 2:
            reason = "a still image is not a video: give a video, an animation or a folder of images"
            raise InputError(path, "open", reason, NAME)
        ends, partial = _frame_ends(path, image)
        starts = np.append(0.0, ends[:-1])
        duration = float(ends[-1])
        chosen = frames_shown(starts, sample_times(duration, sampling))

        def fetch(index: int) -> NDArray[np.uint8]:
            image.seek(index)
            return _shape(image, geometry)

        yield from windows_of(by_frame(chosen, fetch), spans(duration, sampling), sampling.frames)
        kind = (image.format or "").lower()
        info = VideoInfo(image.width, image.height, duration, len(ends) / duration, kind, kind)
    yield _facts(path, sampling, starts[chosen], info, partial)


def _frame_ends(path: str, image: Image.Image) -> tuple[NDArray[np.float64], Partial | None]:
    """When each frame's time on the screen ends, up to the first frame that cannot be decoded."""
    count = getattr(image, "n_frames", 1)
    lengths: list[float] = []
    partial = None
    for index in range(count):
        try:
            image.seek(index)
            image.load()
        except Exception as error:  # damaged data makes Pillow raise almost anything
            if not lengths:
                raise InputError(path, "decode", f"no frame can be decoded ({error})", NAME) from error
            reason = f"only the first {index} of {count} frames can be decoded ({error})"
            partial = Partial(index / count, reason)
            break
        seconds = float(image.info.get("duration", 0)) / 1000
        lengths.append(seconds if seconds >= _SHORTEST else _INSTEAD)
    return np.cumsum(lengths), partial
