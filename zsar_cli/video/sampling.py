"""From seconds and counts to the instants to look at, and from instants to the frames shown then. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import UsageError
from zsar_cli.video.types import Sampling

__all__ = ["check_sampling", "frames_shown", "nearest", "repeats", "sample_times"]

# An instant this close (seconds) before a frame's start counts as that frame: frame times are sums of rounded
# fractions, and which frame is meant must not hang on the last bit of a float.
_TOLERANCE = 1e-6


def check_sampling(sampling: Sampling) -> None:
    """Refuse a sampling that asks for nothing or for times that do not exist.

    Raises:
        UsageError: a count below 1, or a stride or frame rate that is not a positive number.
    """
    for name, count in (("clips", sampling.clips), ("frames", sampling.frames)):
        if count < 1:
            raise UsageError(f"{name} is {count}: it must be 1 or more")
    for name, value in (("stride", sampling.stride), ("frame rate", sampling.frame_rate)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value}: it must be a positive number")


def sample_times(duration: float, sampling: Sampling) -> NDArray[np.float64]:
    """The instants to look at, clip after clip.

    The video [0, duration) is divided into N equal segments, one clip each. Without a stride a segment is
    divided into T equal cells and the instant is the centre of its cell. With a stride the T instants are
    `stride` seconds apart, centred in the segment and clamped to the video.

    Args:
        duration: seconds, positive.
        sampling: N clips of T frames.

    Returns:
        float64 [N * T], seconds, each in [0, duration).
    """
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration is {duration}: it must be a positive number of seconds")
    clips, frames = sampling.clips, sampling.frames
    segment = duration / clips
    step = segment / frames if sampling.stride is None else sampling.stride
    centres = segment * (np.arange(clips) + 0.5)
    offsets = step * (np.arange(frames) - (frames - 1) / 2)
    times = (centres[:, None] + offsets[None, :]).ravel()
    return np.clip(times, 0.0, np.nextafter(duration, 0.0))


def frames_shown(starts: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which frame is on the screen at each wanted instant: the last one that started by then.

    Args:
        starts: float64 [F], seconds, sorted, F >= 1.
        wanted: float64 [K], seconds.

    Returns:
        int64 [K], indices into `starts`; 0 for an instant before the first frame.
    """
    shown = np.searchsorted(starts, wanted + _TOLERANCE, side="right") - 1
    return np.maximum(shown, 0).astype(np.int64)


def nearest(starts: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which frame starts nearest to each wanted instant; the earlier one of two equally near.

    Args:
        starts: float64 [F], seconds, sorted, F >= 1.
        wanted: float64 [K], seconds.

    Returns:
        int64 [K], indices into `starts`.
    """
    after = np.clip(np.searchsorted(starts, wanted), 1, max(len(starts) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(starts) - 1)
    return np.where(wanted - starts[before] <= starts[after] - wanted, before, after).astype(np.int64)


def repeats(times: NDArray[np.float64]) -> tuple[str, ...]:
    """The note a result carries where one frame stands for several instants.

    Args:
        times: float64 [K], when the chosen frames are first shown.
    """
    different = len(np.unique(times))
    if different == len(times):
        return ()
    if different == 1:
        return (f"one frame for all {len(times)} instants asked for",)
    return (f"{different} different frames for the {len(times)} instants asked for: some are repeated",)
