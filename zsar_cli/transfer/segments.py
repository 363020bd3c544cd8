"""From scores of windows to segments: when each label happens. Pure: numbers in, segments out.

Shape letters: N windows of a video, U labels. What a label scores depends on its words and on the scene, so a fixed
threshold on similarities means nothing. Each label is measured against its own background, the other windows of the
same video, and found in the scenes where it rises above that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsar_cli.records import Segment
from zsar_cli.settings import Count, Positive, Weight, settings

__all__ = ["SegmentSettings", "above_level", "cells", "find_segments", "level_and_spread", "segments_in"]

Array = NDArray[np.float64]
_NORMAL = 1.4826  # a normal distribution's standard deviation is this times its median absolute deviation


@settings
@dataclass(frozen=True)
class SegmentSettings:
    """How segments are found. Scores are in units of the label's own spread over the video.

    The defaults balance what is missed and what is wrong: a lower onset gives a better average precision, which counts
    wrong segments of low scores for little, and lists that nobody would read.

    Args:
        onset: a segment's best scene scores this or more.
        offset: it lasts over the neighbouring scenes that score at least this share of the best one.
        change: how different the windows of a scene may look, see `scenes.scene_borders`.
        floor: the least spread a label is taken to have, in units of similarity, so that noise in a video in which
            nothing changes does not count as much.
        min_length: seconds; shorter segments are dropped.
        min_gap: seconds; shorter gaps between segments of a label are filled.
        pad: seconds added on both sides in the end.
        max_per_label: only a label's best so many segments are kept; None keeps all.
        shots: scenes begin where an edited film is cut, see `shots.at_cuts`.
    """

    onset: Positive = 2.0
    offset: Positive = 0.5
    change: Positive = 0.8
    floor: Positive = 0.25
    min_length: Weight = 0.0
    min_gap: Weight = 0.0
    pad: Weight = 0.0
    max_per_label: Count | None = None
    shots: bool = False

    def __post_init__(self) -> None:
        if self.offset > 1:
            raise ValueError(f"offset is {self.offset}; it is a share of the best score, at most 1")


def find_segments(
    similarity: Array, borders: Array, scenes: NDArray[np.int64], labels: Sequence[str], how: SegmentSettings
) -> tuple[Segment, ...]:
    """When each label happens. Those of different labels may overlap.

    Args:
        similarity: [N, U], of each window to each label.
        borders: [N + 1], seconds, in order, of the part of the video that each window stands for; see `cells`.
        scenes: [K + 1], the first window of each of K scenes, and N; see `scenes.scene_borders`.
        labels: U names.

    Returns:
        segments in the order of their starts, never outside the first and the last of `borders`.
    """
    return segments_in(above_level(similarity, how.floor), similarity, borders, scenes, labels, how)


def segments_in(
    scores: Array, similarity: Array, borders: Array, scenes: NDArray[np.int64], labels: Sequence[str],
    how: SegmentSettings, begin: float | None = None,
) -> tuple[Segment, ...]:  # fmt: skip
    """As `find_segments`, of windows whose scores are known, see `above_level`.

    Args:
        begin: seconds, where the video begins, if that is before these windows.
    """
    means = np.add.reduceat(scores, scenes[:-1], axis=0) / np.diff(scenes)[:, None]
    within = float(borders[0] if begin is None else begin), float(borders[-1])
    found: list[Segment] = []
    for column, label in enumerate(labels):
        runs = [(int(scenes[first]), int(scenes[end])) for first, end in _around_peaks(means[:, column], how)]
        values = scores[:, column], similarity[:, column]
        segments = [_segment(label, run, *values, borders, how.pad, within) for run in _shaped(runs, borders, how)]
        found += sorted(segments, key=lambda segment: -segment.score)[: how.max_per_label]
    return tuple(sorted(found, key=lambda segment: (segment.start, segment.end, labels.index(segment.label))))


def above_level(similarity: Array, floor: float) -> Array:
    """How far each window stands above the label's level in the video, in units of its spread there, [N, U].

    The level is the median over windows and the spread the median absolute deviation, as a standard deviation and
    `floor` or more: neither follows what happens in less than half of the video.
    """
    level, spread = level_and_spread(similarity, floor)
    result: Array = (similarity - level) / spread
    return result


def level_and_spread(similarity: Array, floor: float) -> tuple[Array, Array]:
    """What `above_level` measures by, [U] each."""
    level = np.median(similarity, axis=0)
    spread = _NORMAL * np.median(np.abs(similarity - level), axis=0)
    return level, np.maximum(spread, floor)


def cells(spans: Array) -> Array:
    """The part of the video that each window stands for: from halfway to its neighbours, seconds, [N + 1] borders."""
    middles = spans.mean(axis=1)
    return np.concatenate([spans[:1, 0], (middles[:-1] + middles[1:]) / 2, spans[-1:, 1]])


def _around_peaks(scores: Array, how: SegmentSettings) -> list[tuple[int, int]]:
    """First and one past the last scene of each segment of one label, in order: best first, each takes its neighbours.

    A scene that the action fills only in part scores in proportion, hence a share of the best score.
    """
    free = np.ones(len(scores), dtype=bool)
    runs = []
    for peak in np.argsort(-scores, kind="stable").tolist():
        if scores[peak] < how.onset:
            break
        if not free[peak]:
            continue
        belongs = free & (scores >= how.offset * scores[peak])
        before, after = np.flatnonzero(~belongs[:peak]), np.flatnonzero(~belongs[peak:])
        first = int(before[-1]) + 1 if len(before) else 0
        end = peak + int(after[0]) if len(after) else len(scores)
        free[first:end] = False
        runs.append((first, end))
    return sorted(runs)


def _shaped(runs: Sequence[tuple[int, int]], borders: Array, how: SegmentSettings) -> list[tuple[int, int]]:
    """Runs of windows with short gaps filled, without short runs; what padding brings together is one."""
    whole = [run for run in _joined(runs, borders, how.min_gap) if borders[run[1]] - borders[run[0]] >= how.min_length]
    return _joined(whole, borders, 2 * how.pad, touching=how.pad > 0)


def _segment(
    label: str, run: tuple[int, int], scores: Array, similarity: Array, borders: Array, pad: float,
    within: tuple[float, float],
) -> Segment:  # fmt: skip
    first, end = run
    peak = first + int(np.argmax(scores[first:end]))
    return Segment(
        label,
        start=float(max(borders[first] - pad, within[0])),
        end=float(min(borders[end] + pad, within[1])),
        score=float(scores[first:end].mean()),
        similarity=float(similarity[first:end].mean()),
        peak=float((borders[peak] + borders[peak + 1]) / 2),
    )


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
