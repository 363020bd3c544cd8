"""The values that travel between sampling, decoders, workers and models. All immutable, all picklable, no torch.

Shape letters: N windows per video, T frames per window, S output side in pixels. Times are seconds from the
first frame a player shows (0 = first frame).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DecodedVideo",
    "Excerpt",
    "Geometry",
    "Made",
    "Partial",
    "Piece",
    "Sampling",
    "VideoFacts",
    "VideoInfo",
    "View",
    "Window",
    "WindowBatch",
]


@dataclass(frozen=True)
class Window:
    """A span of a video, [start, end) in seconds from its first frame."""

    start: float
    end: float


@dataclass(frozen=True)
class Excerpt:
    """A part of a file, as an input in the place of a path: as if the file began and ended there, with its own times.

    Args:
        path: of the file.
        within: what is looked at; the part of it behind the end of the video is left out.

    Raises:
        ValueError: it has no length, or begins before the video.
    """

    path: str
    within: Window

    def __post_init__(self) -> None:
        if not (math.isfinite(self.within.end) and 0 <= self.within.start < self.within.end):
            raise ValueError(f"{self.path}: {self.within} is no part of a video")


@dataclass(frozen=True)
class Sampling:
    """Which windows of a video to look at, and which instants of each.

    Args:
        windows: N windows, equal parts of the whole video; not used where `window` is given.
        frames: T, frames per window.
        window: seconds a window lasts; None divides the whole video into `windows`.
        stride: seconds from the start of a window to the start of the next; None places them end to end. Only with
            `window`.
        frame_step: seconds between neighbouring frames of a window, centred in it; None spreads the T frames uniformly
            over the window.
        exact: True gives the frames shown at those instants; False snaps each to the nearest key frame,
            which is many times cheaper.
        frame_rate: frames per second given to a folder of images, which has no times of its own.
    """

    windows: int = 1
    frames: int = 16
    window: float | None = None
    stride: float | None = None
    frame_step: float | None = None
    exact: bool = True
    frame_rate: float = 25.0


@dataclass(frozen=True)
class Geometry:
    """How frames are shaped while decoding.

    Args:
        size: S, the side of the square the model sees, in pixels.
        resize: the shorter side is scaled to this many pixels (swscale bicubic), then the centre S x S is cut
            out; None scales both sides to S without keeping the aspect ratio.
        letterbox: the longer side is scaled to S and the rest of the square is black: the whole frame, undistorted.
            Then `resize` is None.
    """

    size: int
    resize: int | None = None
    letterbox: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a file, as a player would show it (rotation applied).

    `duration` is in seconds, `frame_rate` the average in frames per second; None where it is not known.
    """

    width: int
    height: int
    duration: float | None
    frame_rate: float | None
    codec: str
    container: str
    rotation: int = 0


@dataclass(frozen=True)
class Partial:
    """Only part of a damaged video could be decoded. `share` is in 0..1 of its duration."""

    share: float
    reason: str


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a file once it was read: the one value that travels from the decoder to the record.

    Args:
        path: the input as the user named it.
        info: of the whole file.
        sampling: as it was asked for.
        decoder: "pyav", "decord" or "images".
        decoder_version: for example "18.1.0 (FFmpeg 8.0)".
        times: seconds, when each frame that was looked at is first shown (its own presentation time, not the wanted
            one), N * T of them; empty for windows of a given length, whose spans say where they are.
        partial: set where the file is damaged and only part of it was read.
        notes: what the user should know: fewer frames than asked for, key-frame snap and how far off, ...
        content: what tells the file from others, whatever it is called (see `content.content_digest`), from before it
            was read; None where it is not known.
    """

    path: str
    info: VideoInfo
    sampling: Sampling
    decoder: str
    decoder_version: str
    times: tuple[float, ...] = ()
    partial: Partial | None = None
    notes: tuple[str, ...] = ()
    content: str | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VideoFacts:
        """From what `dataclasses.asdict` made of facts, and JSON perhaps of that."""
        made = {
            **values,
            "info": VideoInfo(**values["info"]),
            "sampling": Sampling(**values["sampling"]),
            "partial": Partial(**values["partial"]) if values["partial"] else None,
            "times": tuple(values["times"]),
            "notes": tuple(values["notes"]),
        }
        return cls(**made)


@dataclass(frozen=True)
class View:
    """What a model looks at: which frames, in which shape."""

    sampling: Sampling
    geometry: Geometry


@dataclass(frozen=True)
class WindowBatch:
    """Consecutive windows of a video. A frame that several instants or windows show is there once.

    Args:
        windows: n spans.
        frames: F distinct frames, uint8 [S, S, 3] each, RGB, upright.
        shown: int64 [n, T], which of the frames is shown at each instant of each window.
    """

    windows: tuple[Window, ...]
    frames: Sequence[NDArray[np.uint8]]
    shown: NDArray[np.int64]

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [n, T, S, S, 3]."""
        pixels: NDArray[np.uint8] = np.stack(self.frames)[self.shown]
        return pixels


@dataclass(frozen=True)
class DecodedVideo:
    """All windows of a short video at once.

    Args:
        facts: of the file.
        windows: N spans.
        frames: uint8 [N, T, S, S, 3].
    """

    facts: VideoFacts
    windows: tuple[Window, ...]
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class Piece:
    """A part of a video that is to be a file of its own.

    Args:
        path: of the video.
        start, end: seconds from its first frame; what lies outside of the video is left out.
        target: the file to write.
        copy: copy packets, from a key frame on, and encode nothing.
    """

    path: str
    start: float
    end: float
    target: str
    copy: bool = False


@dataclass(frozen=True)
class Made:
    """A piece that was written.

    Args:
        start, end: seconds from the first frame of the video, what it really holds.
        suffix: of its container, such as ".mp4".
        notes: what the user should know.
    """

    start: float
    end: float
    suffix: str
    notes: tuple[str, ...] = ()
