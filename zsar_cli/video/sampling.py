"""From seconds and counts to the instants to look at, and from instants to the frames shown then. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import UsageError
from zsar_cli.video.types import Sampling, Window

__all__ = [
    "Allot",
    "BehindTheEnd",
    "Indivisible",
    "check_sampling",
    "frames_shown",
    "nearest",
    "repeats",
    "sample_times",
    "spans",
]

# An instant this close (seconds) before a frame's start counts as that frame: frame times are sums of rounded
# fractions, and which frame is meant must not hang on the last bit of a float.
_TOLERANCE = 1e-6


# Asked with the number of windows and the seconds they last, once both are known: which of the windows to read.
Allot = Callable[[int, float], range]


class BehindTheEnd(ValueError):
    """The part of a video that is asked for begins where the video has ended."""


class Indivisible(Exception):
    """Some windows of a file cannot be read by themselves: it must be decoded from its start."""


def check_sampling(sampling: Sampling) -> None:
    """Refuse a sampling that asks for nothing or for times that do not exist.

    Raises:
        UsageError: a count below 1, a length, stride, step or frame rate that is not a positive number, or a stride
            without a length of the windows.
    """
    for name, count in (("windows", sampling.windows), ("frames", sampling.frames)):
        if count < 1:
            raise UsageError(f"{name} is {count}: it must be 1 or more")
    for name, value in (
        ("window", sampling.window),
        ("stride", sampling.stride),
        ("frame step", sampling.frame_step),
        ("frame rate", sampling.frame_rate),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{name} is {value}: it must be a positive number")
    if sampling.window is None and sampling.stride is not None:
        raise UsageError(f"stride is {sampling.stride}, but windows have no length: give --window SECONDS as well")
    if sampling.window is not None and sampling.windows != 1:
        raise UsageError(
            f"window is {sampling.window} s and windows is {sampling.windows}: give the length or the number"
        )


def spans(duration: float, sampling: Sampling, within: Window | None = None) -> NDArray[np.float64]:
    """The windows of a video, or of a part of it.

    A number N of windows divides [0, duration) into equal parts. Windows of a given length begin every `stride`
    seconds from 0; the last is the first that reaches the end of the video, where it is cut off.

    Args:
        duration: seconds, positive.
        within: the part in whose place [0, duration) stands above; None is all of it.

    Returns:
        float64 [N, 2], start and end in seconds, in order.

    Raises:
        BehindTheEnd: the part begins there.
    """
    first, last = _borders(duration, within)
    if sampling.window is None:
        borders = np.linspace(first, last, sampling.windows + 1)
        return np.stack([borders[:-1], borders[1:]], axis=1)
    stride = sampling.stride or sampling.window
    count = 1 + math.ceil(max(0.0, last - first - sampling.window) / stride - _TOLERANCE)
    starts = first + stride * np.arange(count)
    starts = starts[starts < last]  # a stride beyond the length can step over the end
    return np.stack([starts, np.minimum(starts + sampling.window, last)], axis=1)


def _borders(duration: float, within: Window | None) -> tuple[float, float]:
    """Start and end in seconds of all that is looked at."""
    if not (math.isfinite(duration) and duration > 0):
        raise ValueError(f"duration is {duration}: it must be a positive number of seconds")
    if within is None:
        return 0.0, duration
    if within.start >= duration:
        raise BehindTheEnd(f"it ends at {duration:.2f} s, before the part from {within.start:g} to {within.end:g} s")
    return within.start, min(within.end, duration)


def sample_times(duration: float, sampling: Sampling, within: Window | None = None) -> NDArray[np.float64]:
    """The instants to look at, window after window.

    Without a step a window is divided into T equal cells and the instant is the centre of its cell. With a step the T
    instants are that many seconds apart, centred in the window and clamped to the video, or the part of it.

    Args:
        duration: seconds, positive.
        sampling: N windows of T frames.
        within: as in `spans`.

    Returns:
        float64 [N, T], seconds, each in [0, duration), or in the part.

    Raises:
        BehindTheEnd: as `spans`.
    """
    first, last = _borders(duration, within)
    windows, frames = spans(duration, sampling, within), sampling.frames
    lengths = windows[:, 1] - windows[:, 0]
    steps = lengths / frames if sampling.frame_step is None else np.full_like(lengths, sampling.frame_step)
    times = windows.mean(axis=1)[:, None] + steps[:, None] * (np.arange(frames) - (frames - 1) / 2)
    inside: NDArray[np.float64] = np.clip(times, first, np.nextafter(last, first))
    return inside


def frames_shown(starts: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which frame is on the screen at each wanted instant: the last one that started by then.

    Args:
        starts: float64 [F], seconds, sorted, F >= 1.
        wanted: float64 of any shape, seconds.

    Returns:
        int64 of that shape, indices into `starts`; 0 for an instant before the first frame.
    """
    shown = np.searchsorted(starts, wanted + _TOLERANCE, side="right") - 1
    return np.maximum(shown, 0).astype(np.int64)


def nearest(starts: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which frame starts nearest to each wanted instant; the earlier one of two equally near.

    Args:
        starts: float64 [F], seconds, sorted, F >= 1.
        wanted: float64 of any shape, seconds.

    Returns:
        int64 of that shape, indices into `starts`.
    """
    after = np.clip(np.searchsorted(starts, wanted), 1, max(len(starts) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(starts) - 1)
    return np.where(wanted - starts[before] <= starts[after] - wanted, before, after).astype(np.int64)


def repeats(times: NDArray[np.float64]) -> tuple[str, ...]:
    """The note a result carries where one frame stands for several instants.

    Args:
        times: float64 of any shape, when the chosen frames are first shown.
    """
    different = len(np.unique(times))
    if different == times.size:
        return ()
    if different == 1:
        return (f"one frame for all {times.size} instants asked for",)
    return (f"{different} different frames for the {times.size} instants asked for: some are repeated",)
