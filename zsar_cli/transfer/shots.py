"""Where an edited film is cut, and scenes that begin there. Pure: differences of frames in, times out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["at_cuts", "find_cuts"]

Array = NDArray[np.float64]

LEAST = 12.0  # of 255: less than that changes within a shot
STANDS_OUT = 5.0  # times the usual difference of the frames around
AROUND = 0.5  # seconds, on both sides


def find_cuts(times: Array, differences: Array) -> Array:
    """The cuts of a film, where one frame differs far more from the last one than its neighbours do.

    A fade or a dissolve is none. A frame that is shown again is left out, so that the frame rate does not matter.

    Args:
        times: [M], seconds, in order, halfway between two frames.
        differences: [M], mean absolute difference of the two, of 255.

    Returns:
        [C], seconds.
    """
    times, differences = times[differences > 0], differences[differences > 0]
    cuts = []
    for place in np.flatnonzero(differences >= LEAST).tolist():
        first, end = np.searchsorted(times, (times[place] - AROUND, times[place] + AROUND))
        others = np.concatenate([differences[first:place], differences[place + 1 : end]])
        if not len(others) or differences[place] >= max(others.max(), STANDS_OUT * np.median(others)):
            cuts.append(times[place])
    return np.array(cuts, dtype=np.float64)


def at_cuts(scenes: NDArray[np.int64], borders: Array, cuts: Array, near: float) -> tuple[NDArray[np.int64], Array]:
    """Scenes that begin at the cuts, and besides only where no cut is near.

    Args:
        scenes: [K + 1], the first window of each scene, and N.
        borders: [N + 1], seconds, of the part of the video that each window stands for.
        cuts: [C], seconds.
        near: seconds.

    Returns:
        as `scenes` and `borders`; a border at which a scene begins for a cut is moved there.
    """
    inner = np.arange(1, len(borders) - 1)
    if not len(cuts) or not len(inner):
        return scenes, borders
    distances = np.abs(borders[inner, None] - cuts)
    moved, places = borders.copy(), inner[distances.argmin(axis=0)]
    moved[places] = cuts
    kept = [scene for scene in scenes[1:-1].tolist() if distances[scene - 1].min() > near]
    return np.unique([0, *kept, *places.tolist(), len(borders) - 1]), moved
