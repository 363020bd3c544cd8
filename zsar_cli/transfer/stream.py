"""Segments of a video as they close, while more of it comes. Pure: windows in, segments out.

What `segments.find_segments` takes from the whole video, the level and the spread of each label and how different its
windows look, is here estimated from the windows so far, of which there are `AHEAD` more than are decided on. Memory
does not grow with the length of the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from zsar_cli.records import Segment
from zsar_cli.transfer.scenes import Division
from zsar_cli.transfer.segments import SegmentSettings, level_and_spread, segments_in

__all__ = ["AHEAD", "LONGEST", "SAMPLE", "SegmentStream"]

Array = NDArray[np.float64]
AHEAD = 30  # windows that are seen beyond those that are decided on
SAMPLE = 256  # windows at most that the level and the spread of a label are taken from
LONGEST = 900  # windows after which a segment is closed, whatever comes


class SegmentStream:
    """Finds the segments of one video. `add` its windows in order, then `end`.

    Args:
        labels: names of the U labels.
        how: all but `max_per_label` and `shots`, which ask for the whole video.

    Attributes:
        count: windows so far.
    """

    def __init__(self, labels: Sequence[str], how: SegmentSettings) -> None:
        self._labels, self._how = labels, how
        self.count = 0
        self._sample, self._looks = _Sample(), _Looks()
        self._waiting: list[Array] = []  # vectors of the first windows, until there are enough to judge them by
        self._division: Division | None = None
        # Of the windows from `_first` on, as long as a segment may begin there.
        self._first = 0
        self._similarity: list[Array] = []
        self._scores: list[Array] = []
        self._borders: list[float] = []
        self._scenes: list[int] = [0]
        self._begin = self._middle = self._last = 0.0  # seconds: of the video, and of the last window
        # For each label the window where what may be a segment begins, and that since when it no longer stands out.
        self._open = np.full(len(labels), -1)
        self._quiet = np.full(len(labels), -1)

    def add(self, vector: Array, similarity: Array, start: float, end: float) -> tuple[Segment, ...]:
        """The next window: its embedding [D], its similarity to each label [U], and its span in seconds.

        Returns:
            the segments that are closed by now, in the order of their starts.
        """
        middle = (start + end) / 2
        if not self.count:
            self._begin = start
        self._borders.append((self._middle + middle) / 2 if self.count else start)
        self._middle, self._last = middle, end
        self._similarity.append(similarity)
        self._sample.add(similarity)
        self._looks.add(vector)
        self.count += 1
        self._waiting.append(vector)
        if self.count < AHEAD:
            return ()
        return self._decide(self.count - AHEAD)

    def end(self) -> tuple[Segment, ...]:
        """All others; the video ends here."""
        self._borders.append(self._last)
        found = [*self._decide(self.count)] if self.count else []
        for label in np.flatnonzero(self._open >= 0).tolist():
            found += self._close(label, self.count)
        return _in_order(found)

    def _decide(self, until: int) -> tuple[Segment, ...]:
        """On the scenes that end by a window."""
        if self._division is None:
            self._division = Division(len(self._waiting[0]))
        for vector in self._waiting:
            self._division.add(vector, self._how.change * self._looks.variance)
        self._waiting = []
        borders = [border for border in self._division.borders if border <= until]
        if len(borders) < 2:
            return ()
        level, spread = level_and_spread(np.array(self._sample.rows), self._how.floor)
        found: list[Segment] = []
        for first, end in pairwise(borders):
            rows = np.array(self._similarity[first - self._first : end - self._first])
            found += self._scene(first, end, (rows - level) / spread)
        self._division.settle(borders[-1])
        self._forget(borders[-1])
        return _in_order(found)

    def _scene(self, first: int, end: int, scores: Array) -> list[Segment]:
        """The segments that a scene closes: those of labels that no longer stand out, for longer than any gap.

        A scene below the share `offset` of `onset` is part of no segment, so what lies between two such scenes is
        found without what lies around.
        """
        self._scores += list(scores)
        self._scenes.append(end)
        loud = scores.mean(axis=0) >= self._how.offset * self._how.onset
        self._open[loud & (self._open < 0)] = first
        self._quiet[loud] = -1
        self._quiet[~loud & (self._quiet < 0)] = first
        borders = np.array(self._borders)
        silent = borders[end - self._first] - borders[np.maximum(self._quiet - self._first, 0)]
        over = (self._quiet >= 0) & (silent > max(self._how.min_gap, 2 * self._how.pad))
        closed = (self._open >= 0) & (over | (end - self._open >= LONGEST))
        found = [one for label in np.flatnonzero(closed).tolist() for one in self._close(label, end)]
        self._open[closed] = -1
        return found

    def _close(self, label: int, end: int) -> tuple[Segment, ...]:
        """The segments of a label from where it began to stand out."""
        first = int(self._open[label])
        part = slice(first - self._first, end - self._first)
        scores, similarity = (
            np.array([[row[label]] for row in rows[part]]) for rows in (self._scores, self._similarity)
        )
        borders = np.array(self._borders[part.start : part.stop + 1])
        scenes = np.array([first, *(scene for scene in self._scenes if first < scene <= end)]) - first
        return segments_in(scores, similarity, borders, scenes, [self._labels[label]], self._how, self._begin)

    def _forget(self, decided: int) -> None:
        """Windows in which no segment is open."""
        still = self._open[self._open >= 0]
        first = int(still.min()) if len(still) else decided
        for rows in (self._similarity, self._scores, self._borders):
            del rows[: first - self._first]
        self._scenes = [scene for scene in self._scenes if scene >= first]
        self._first = first


class _Sample:
    """At most `SAMPLE` of the rows so far, spread evenly over them."""

    def __init__(self) -> None:
        self.rows: list[Array] = []
        self._count, self._step = 0, 1

    def add(self, row: Array) -> None:
        if self._count % self._step == 0:
            self.rows.append(row)
        if len(self.rows) == SAMPLE:
            self.rows, self._step = self.rows[::2], 2 * self._step
        self._count += 1


class _Looks:
    """How different the windows so far look: the mean squared distance of their vectors to the mean."""

    def __init__(self) -> None:
        self._count, self._squares = 0, 0.0
        self._sum: Array = np.zeros(1)

    def add(self, vector: Array) -> None:
        self._count += 1
        self._sum = self._sum + vector
        self._squares += float(vector @ vector)

    @property
    def variance(self) -> float:
        mean = self._sum / self._count
        return max(float(self._squares / self._count - mean @ mean), 0.0)


def _in_order(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    return tuple(sorted(segments, key=lambda one: (one.start, one.end)))
