"""Where a video begins to look different, whatever the labels are. Pure: vectors in, borders out."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Division", "scene_borders"]

Array = NDArray[np.floating]
LONGEST = 60  # windows; what looks alike for longer is divided, so that the work grows with the length of a video


def scene_borders(visual: Sequence[Array], change: float) -> NDArray[np.int64]:
    """Divide a video into scenes, runs of windows that look alike.

    Of all divisions, that of the least sum of squared distances of windows to the mean of their scene, and of `change`
    for each scene (kernel temporal segmentation with a linear kernel: Potapov et al., ECCV 2014). Distances are in
    units of the video's own variance, so `change` is in windows as different from each other as those of the whole
    video are.

    Time grows with the number of windows, memory only by a few bytes for each.

    Args:
        visual: the embeddings of the N windows by each model, floating point [N, D] each; all models count alike.
        change: what a scene costs, positive; a larger one makes fewer.

    Returns:
        int64 [K + 1], the first window of each of the K scenes, and N.
    """
    division = Division(sum(rows.shape[1] for rows in visual))
    for row in _scaled(visual):
        division.add(row, change)
    return np.array(division.borders, dtype=np.int64)


class Division:
    """The best division into scenes of the windows so far, see `scene_borders`.

    Args:
        width: D, of the windows' vectors.

    Attributes:
        settled: the window before which borders do not change any more.
    """

    def __init__(self, width: int) -> None:
        self.settled = self._count = 0
        self._begins = array("q")  # of the last scene of the windows up to each, from the one behind `settled` on
        # Of the windows of each scene that could end next, and the cost of those before it; each has the place of its
        # first window.
        self._sums, self._squares, self._cost = np.zeros((LONGEST, width)), np.zeros(LONGEST), np.zeros(LONGEST)

    def add(self, row: NDArray[np.float64], change: float) -> None:
        """The next window: its vector [D], and what a scene costs in units of the squares of such vectors."""
        self._count = end = self._count + 1
        begins = np.arange(max(0, end - LONGEST), end)
        places = begins % LONGEST
        self._sums[places[-1]], self._squares[places[-1]] = 0.0, 0.0
        self._sums += row
        self._squares += row @ row
        apart = np.einsum("sd,sd->s", self._sums, self._sums)[places] / (end - begins)
        costs = self._cost[places] + self._squares[places] - apart + change
        best = int(np.argmin(costs))
        self._cost[end % LONGEST] = costs[best]
        self._begins.append(int(begins[best]))

    @property
    def borders(self) -> list[int]:
        """The first window of each scene from `settled` on, and the number of windows so far."""
        borders = [self._count]
        while borders[-1] > self.settled:
            borders.append(max(self._begins[borders[-1] - self.settled - 1], self.settled))
        return borders[::-1]

    def settle(self, border: int) -> None:
        """Let the borders up to this one be as they are, and forget what lies before it."""
        del self._begins[: border - self.settled]
        self.settled = border


def _scaled(visual: Sequence[Array]) -> Iterator[NDArray[np.float64]]:
    """All models side by side, [sum of D] a window: centred, variance 1 in all; a model to which all is one is zero."""
    means = [rows.mean(axis=0, dtype=np.float64) for rows in visual]
    scales = []
    for rows, mean in zip(visual, means, strict=True):
        variance = sum(float(((row - mean) ** 2).sum()) for row in rows) / len(rows)
        scales.append(1 / np.sqrt(variance * len(visual)) if variance > 1e-12 else 0.0)
    for window in zip(*visual, strict=True):
        yield np.concatenate(
            [(row - mean) * scale for row, mean, scale in zip(window, means, scales, strict=True)], dtype=np.float64
        )
