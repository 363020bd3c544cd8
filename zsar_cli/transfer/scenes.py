"""Where a video begins to look different, whatever the labels are. Pure: vectors in, borders out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["scene_borders"]

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
    count, width = len(visual[0]), sum(rows.shape[1] for rows in visual)
    cost, begin = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    # Of the windows of each scene that could end here; it has the place of its first window.
    sums, squares = np.zeros((LONGEST, width)), np.zeros(LONGEST)
    for end, row in enumerate(_scaled(visual), start=1):
        begins = np.arange(max(0, end - LONGEST), end)
        places = begins % LONGEST
        sums[places[-1]], squares[places[-1]] = 0.0, 0.0
        sums += row
        squares += row @ row
        apart = np.einsum("sd,sd->s", sums, sums)[places] / (end - begins)
        costs = cost[begins] + squares[places] - apart + change
        best = int(np.argmin(costs))
        cost[end], begin[end] = costs[best], begins[best]
    borders = [count]
    while borders[-1]:
        borders.append(int(begin[borders[-1]]))
    return np.array(borders[::-1], dtype=np.int64)


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
