"""From scores of windows to segments: when each label happens. Pure: numbers in, segments out.

Shape letters: N windows of a video, U labels. What a label scores depends on its words and on the scene, so a fixed
threshold on similarities means nothing. Each label is measured against its own background, the other windows of the
same video, and found where it rises above that: by two thresholds, as in the `Binarize` of pyannote.audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from zsar_cli.records import Segment
from zsar_cli.settings import Count, Number, Positive, Weight, settings

__all__ = ["SegmentSettings", "above_background", "cells", "find_segments", "soft_nms", "tiou"]

Array = NDArray[np.float64]
_NORMAL = 1.4826  # a normal distribution's standard deviation is this times its median absolute deviation
_WIDTH = 0.5  # of the Gaussian by which soft-NMS lowers scores, in units of squared tIoU


@settings
@dataclass(frozen=True)
class SegmentSettings:
    """How segments are found. Scores are in units of the label's own spread over the video.

    The defaults balance what is missed and what is wrong: lower thresholds give a better average precision, which
    counts wrong segments of low scores for little, and lists that nobody would read.

    Args:
        onset: a segment reaches this score somewhere.
        offset: it lasts while the score is at least this; not above `onset`.
        smooth: windows of each moving mean; what several find is merged by `soft_nms`.
        floor: the least spread a label is taken to have, in units of similarity, so that noise in a video in which
            nothing changes does not count as much.
        min_length: seconds; shorter segments are dropped.
        min_gap: seconds; shorter gaps between segments of a label are filled.
        pad: seconds added on both sides in the end.
        max_per_label: only a label's best so many segments are kept; None keeps all.
    """

    onset: Number = 2.0
    offset: Number = 1.0
    smooth: tuple[Count, ...] = (3,)
    floor: Positive = 0.25
    min_length: Weight = 0.0
    min_gap: Weight = 0.0
    pad: Weight = 0.0
    max_per_label: Count | None = None

    def __post_init__(self) -> None:
        if self.offset > self.onset:
            raise ValueError(f"offset is {self.offset} and onset {self.onset}: a segment ends below where it begins")
        if not self.smooth:
            raise ValueError("smooth is empty; give a number of windows, 1 for none")


def find_segments(similarity: Array, spans: Array, labels: Sequence[str], how: SegmentSettings) -> tuple[Segment, ...]:
    """When each label happens. Those of different labels may overlap.

    Args:
        similarity: [N, U], of each window to each label.
        spans: [N, 2], seconds, in order.
        labels: U names.

    Returns:
        segments in the order of their starts, never outside the first start and the last end of `spans`.
    """
    scores, borders = above_background(similarity, how.floor), cells(spans)
    found: list[Segment] = []
    for column, label in enumerate(labels):
        scales = [_of_one_label(_moving_mean(scores[:, column], width), borders, label, how) for width in how.smooth]
        segments = soft_nms([segment for scale in scales for segment in scale])
        found += segments[: how.max_per_label]
    return tuple(sorted(found, key=lambda segment: (segment.start, segment.end, labels.index(segment.label))))


def above_background(similarity: Array, floor: float) -> Array:
    """How far each window stands above the label's level in the video, in units of its spread there, [N, U].

    The level is the median over windows and the spread the median absolute deviation, as a standard deviation and
    `floor` or more: neither follows what happens in less than half of the video.
    """
    level = np.median(similarity, axis=0)
    spread = _NORMAL * np.median(np.abs(similarity - level), axis=0)
    result: Array = (similarity - level) / np.maximum(spread, floor)
    return result


def cells(spans: Array) -> Array:
    """The part of the video that each window stands for: from halfway to its neighbours, seconds, [N + 1] borders."""
    middles = spans.mean(axis=1)
    return np.concatenate([spans[:1, 0], (middles[:-1] + middles[1:]) / 2, spans[-1:, 1]])


def soft_nms(segments: Sequence[Segment]) -> list[Segment]:
    """Best first, each score lowered by exp(-tIoU^2 / 0.5) for each better segment (Bodla et al., ICCV 2017, arXiv
    1704.04503); what is left with less than half of its score is dropped.

    Args:
        segments: of one label. Those that do not overlap stay as they are.
    """
    kept: list[Segment] = []
    left = [(segment, 1.0) for segment in segments]
    while left:
        best = max(left, key=lambda pair: pair[0].score * pair[1])
        left.remove(best)
        chosen, share = best
        kept.append(replace(chosen, score=chosen.score * share))
        lowered = [(one, share * float(np.exp(-(tiou(chosen, one) ** 2) / _WIDTH))) for one, share in left]
        left = [pair for pair in lowered if pair[1] >= 0.5]
    return kept


def tiou(a: Segment, b: Segment) -> float:
    """Length of what two segments share over the length of what they cover."""
    shared = max(0.0, min(a.end, b.end) - max(a.start, b.start))
    return shared / ((a.end - a.start) + (b.end - b.start) - shared)


def _moving_mean(scores: Array, width: int) -> Array:
    """Mean of `width` windows around each; at the ends of those that there are."""
    before, after = (width - 1) // 2, width // 2
    total = np.concatenate([[0.0], np.cumsum(scores)])
    first = np.maximum(np.arange(len(scores)) - before, 0)
    last = np.minimum(np.arange(len(scores)) + after + 1, len(scores))
    result: Array = (total[last] - total[first]) / (last - first)
    return result


def _of_one_label(scores: Array, borders: Array, label: str, how: SegmentSettings) -> list[Segment]:
    found = [run for run in _runs(scores >= how.offset) if float(np.max(scores[slice(*run)])) >= how.onset]
    runs = [_narrowed(scores, *run) for run in found]
    runs = _joined(runs, borders, how.min_gap)
    runs = [(first, end) for first, end in runs if borders[end] - borders[first] >= how.min_length]
    # What padding brings together is one segment.
    runs = _joined(runs, borders, 2 * how.pad, touching=how.pad > 0)
    segments = []
    for first, end in runs:
        inside = scores[first:end]
        peak = first + int(np.argmax(inside))
        segments.append(
            Segment(
                label,
                start=float(max(borders[first] - how.pad, borders[0])),
                end=float(min(borders[end] + how.pad, borders[-1])),
                score=float(inside.mean()),
                peak=float((borders[peak] + borders[peak + 1]) / 2),
            )
        )
    return segments


def _runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and one past the last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]


def _narrowed(scores: Array, first: int, end: int) -> tuple[int, int]:
    """Without what lies at the ends below half of the run's upper quartile.

    A window that an action fills only in part, or a mean that does, scores in proportion: half of the full score is
    where the action begins.
    """
    half = np.quantile(scores[first:end], 0.75) / 2
    inside = np.flatnonzero(scores[first:end] >= half)
    return first + int(inside[0]), first + int(inside[-1]) + 1


def _joined(
    runs: Sequence[tuple[int, int]], borders: Array, gap: float, touching: bool = False
) -> list[tuple[int, int]]:
    """Runs with gaps shorter than `gap` seconds filled; with `touching`, gaps of just that as well."""
    result: list[tuple[int, int]] = []
    for first, end in runs:
        between = borders[first] - borders[result[-1][1]] if result else np.inf
        if between < gap or (touching and between <= gap):
            result[-1] = (result[-1][0], end)
        else:
            result.append((first, end))
    return result
