"""How well are actions found in time: mean average precision by ActivityNet's rules. Pure: segments in, numbers out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsar_cli.data.timed import Timed

__all__ = ["ACTIVITYNET", "THUMOS", "Precision", "average_precision", "mean_average_precision", "tiou"]

Videos = Mapping[str, Sequence[Timed]]
Array = NDArray[np.float64]
ACTIVITYNET = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))  # thresholds of tIoU
THUMOS = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True)
class Precision:
    """Average precision of each class at each threshold, and what it was measured on.

    Args:
        thresholds: of tIoU, ascending.
        per_class: for each label of the truth its average precision at each threshold.
        segments: how many true segments each label has.
        ignored: labels of results that the truth does not know; they count nowhere.
        extra: videos of results that the truth does not know; what is found there is wrong.
    """

    thresholds: tuple[float, ...]
    per_class: Mapping[str, tuple[float, ...]]
    segments: Mapping[str, int]
    ignored: tuple[str, ...]
    extra: tuple[str, ...]

    def mean_at(self, threshold: float) -> float:
        """mAP: mean over classes at one threshold."""
        place = self.thresholds.index(threshold)
        return float(np.mean([values[place] for values in self.per_class.values()]))

    def mean_over(self, thresholds: Sequence[float]) -> float:
        """Mean of mAP over thresholds."""
        return float(np.mean([self.mean_at(threshold) for threshold in thresholds]))


def mean_average_precision(
    found: Videos, truth: Videos, thresholds: Sequence[float] = tuple(sorted({*THUMOS, *ACTIVITYNET}))
) -> Precision:
    """Average precision of each label that the truth knows.

    Args:
        found: results by video, with scores. truth: what happens, by video; at least one segment.
        thresholds: of tIoU.
    """
    labels = sorted({one.label for segments in truth.values() for one in segments})
    per_class, counts = {}, {}
    for label in labels:
        mine = [(video, one) for video, segments in found.items() for one in segments if one.label == label]
        true = {video: [one for one in segments if one.label == label] for video, segments in truth.items()}
        per_class[label] = tuple(average_precision(mine, true, thresholds).tolist())
        counts[label] = sum(map(len, true.values()))
    named = {one.label for segments in found.values() for one in segments}
    extra = tuple(video for video in found if video not in truth)
    return Precision(tuple(thresholds), per_class, counts, tuple(sorted(named - set(labels))), extra)


def average_precision(found: Sequence[tuple[str, Timed]], truth: Videos, thresholds: Sequence[float]) -> Array:
    """Of one label, at each threshold (`compute_average_precision_detection` of ActivityNet's evaluation).

    Best score first, a result is right if, of the true segments of its video that it overlaps by the threshold or more,
    one is not taken yet; it takes the one it overlaps most. Recall and precision are interpolated as by PASCAL VOC.

    Args:
        found: videos and segments. truth: by video.

    Returns:
        float64, one for each threshold.
    """
    ordered = sorted(found, key=lambda pair: -pair[1].score)
    right = np.zeros((len(thresholds), len(ordered)), dtype=bool)
    taken: set[tuple[int, str, int]] = set()
    for place, (video, one) in enumerate(ordered):
        true = truth.get(video, ())
        overlap = tiou(one, true)
        best_first = np.argsort(-overlap, kind="stable").tolist()
        for level, threshold in enumerate(thresholds):
            free = (i for i in best_first if overlap[i] >= threshold and (level, video, i) not in taken)
            if (match := next(free, None)) is not None:
                taken.add((level, video, match))
                right[level, place] = True
    total = sum(map(len, truth.values()))
    return np.array([_interpolated(row, total) for row in right])


def tiou(one: Timed, others: Sequence[Timed]) -> Array:
    """Length of what a segment shares with each of the others over the length of what both cover, float64 [n]."""
    borders = np.array([(other.start, other.end) for other in others], dtype=np.float64).reshape(-1, 2)
    shared = np.clip(np.minimum(one.end, borders[:, 1]) - np.maximum(one.start, borders[:, 0]), 0, None)
    covered = (one.end - one.start) + (borders[:, 1] - borders[:, 0]) - shared
    result: Array = np.divide(shared, covered, out=np.zeros_like(shared), where=covered > 0)
    return result


def _interpolated(right: NDArray[np.bool_], total: int) -> float:
    """Area under precision over recall, precision at a recall being the best at that or a higher one."""
    if total == 0:
        return 0.0
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[right].sum() / total)
