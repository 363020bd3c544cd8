"""Where a video begins to look different, whatever the labels are. Pure: vectors in, borders out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["scene_borders"]

LONGEST = 60  # windows; what looks alike for longer is divided, so that the work grows with the length of a video


def scene_borders(visual: Sequence[NDArray[np.float64]], change: float) -> NDArray[np.int64]:
    """Divide a video into scenes, runs of windows that look alike.

    Of all divisions, that of the least sum of squared distances of windows to the mean of their scene, and of `change`
    for each scene (kernel temporal segmentation with a linear kernel: Potapov et al., ECCV 2014). Distances are in
    units of the video's own variance, so `change` is in windows as different from each other as those of the whole
    video are.

    Args:
        visual: the embeddings of the N windows by each model, float64 [N, D] each; all models count alike.
        change: what a scene costs, positive; a larger one makes fewer.

    Returns:
        int64 [K + 1], the first window of each of the K scenes, and N.
    """
    rows = _scaled(visual)
    count = len(rows)
    totals = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    squares = np.concatenate([[0.0], np.cumsum((rows**2).sum(axis=1))])
    cost, begin = np.zeros(count + 1), np.zeros(count + 1, dtype=np.int64)
    for end in range(1, count + 1):
        begins = np.arange(max(0, end - LONGEST), end)
        apart = ((totals[end] - totals[begins]) ** 2).sum(axis=1) / (end - begins)
        costs = cost[begins] + squares[end] - squares[begins] - apart + change
        best = int(np.argmin(costs))
        cost[end], begin[end] = costs[best], begins[best]
    borders = [count]
    while borders[-1]:
        borders.append(int(begin[borders[-1]]))
    return np.array(borders[::-1], dtype=np.int64)


def _scaled(visual: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """All models side by side, [N, sum of D]: centred, of variance 1 in all; a model to which all is one stays zero."""
    parts = []
    for rows in visual:
        centred = rows - rows.mean(axis=0)
        variance = float((centred**2).sum(axis=1).mean())
        parts.append(centred / np.sqrt(variance * len(visual)) if variance > 1e-12 else np.zeros_like(centred))
    return np.concatenate(parts, axis=1)
