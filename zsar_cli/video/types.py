"""The values that travel between sampling, decoders, workers and models. All immutable, all picklable, no torch.

Shape letters: N clips per video, T frames per clip, S output side in pixels. Times are seconds from the
first frame a player shows (0 = first frame).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecodedVideo", "Geometry", "Partial", "Sampling", "VideoInfo"]


@dataclass(frozen=True)
class Sampling:
    """Which instants of a video to look at.

    Args:
        clips: N, number of clips, spread over the whole video in equal segments.
        frames: T, frames per clip.
        stride: seconds between neighbouring frames of a clip, the clip centred in its segment; None spreads
            the T frames uniformly over the segment.
        exact: True gives the frames shown at those instants; False snaps each to the nearest key frame,
            which is many times cheaper.
        frame_rate: frames per second given to a folder of images, which has no times of its own.
    """

    clips: int = 1
    frames: int = 16
    stride: float | None = None
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
class DecodedVideo:
    """The frames that were asked for.

    Args:
        path: the input as the user named it.
        frames: uint8 [N * T, S, S, 3], RGB, upright.
        times: float64 [N * T], seconds, when each frame is first shown (its own presentation time, not the wanted one).
        info: of the whole file.
        sampling: as it was asked for.
        decoder: "pyav", "decord" or "images".
        decoder_version: for example "18.1.0 (FFmpeg 8.0)".
        partial: set where the file is damaged and only part of it was read.
        notes: what the user should know: fewer frames than asked for, key-frame snap and how far off, ...
    """

    path: str
    frames: NDArray[np.uint8]
    times: NDArray[np.float64]
    info: VideoInfo
    sampling: Sampling
    decoder: str
    decoder_version: str
    partial: Partial | None = None
    notes: tuple[str, ...] = ()

    def clips(self) -> NDArray[np.uint8]:
        """The frames as uint8 [N, T, S, S, 3]."""
        count = self.sampling.clips
        return self.frames.reshape(count, -1, *self.frames.shape[1:])
