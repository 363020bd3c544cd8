"""Segments from scores: against plain Python, on planted actions, and at the edges."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest

from zsar_cli.errors import ConfigError
from zsar_cli.records import Segment
from zsar_cli.transfer.segments import SegmentSettings, above_background, cells, find_segments, soft_nms, tiou


def windows(duration, length, stride):
    """Spans as a video of that duration gives them."""
    spans, start = [], 0.0
    while True:
        spans.append((start, min(start + length, duration)))
        if start + length >= duration - 1e-9:
            return spans
        start += stride


# --- an oracle: the same rules in plain Python, cell by cell ---


def oracle(similarity, spans, labels, how):
    middles = [(start + end) / 2 for start, end in spans]
    borders = [spans[0][0], *((a + b) / 2 for a, b in itertools.pairwise(middles)), spans[-1][1]]
    found = []
    for column, label in enumerate(labels):
        values = [float(row[column]) for row in similarity]
        level = statistics.median(values)
        spread = max(1.4826 * statistics.median([abs(value - level) for value in values]), how.floor)
        raw = [(value - level) / spread for value in values]
        (width,) = how.smooth
        scores = []
        for i in range(len(raw)):
            around = raw[max(0, i - (width - 1) // 2) : i + width // 2 + 1]
            scores.append(sum(around) / len(around))
        groups, current = [], []
        for i, score in enumerate([*scores, -math.inf]):
            if score >= how.offset:
                current.append(i)
            elif current:
                groups.append(current)
                current = []
        groups = [group for group in groups if max(scores[i] for i in group) >= how.onset]
        for group in groups:
            ordered = sorted(scores[i] for i in group)
            place = 0.75 * (len(ordered) - 1)
            low = math.floor(place)
            high = min(low + 1, len(ordered) - 1)
            half = (ordered[low] + (place - low) * (ordered[high] - ordered[low])) / 2
            while scores[group[0]] < half:
                group.pop(0)
            while scores[group[-1]] < half:
                group.pop()
        joined = []
        for group in groups:
            if joined and borders[group[0]] - borders[joined[-1][-1] + 1] < how.min_gap:
                joined[-1] = list(range(joined[-1][0], group[-1] + 1))
            else:
                joined.append(group)
        for group in joined:
            start, end = borders[group[0]], borders[group[-1] + 1]
            if end - start < how.min_length:
                continue
            inside = [scores[i] for i in group]
            peak = group[inside.index(max(inside))]
            found.append((label, start, end, sum(inside) / len(inside), (borders[peak] + borders[peak + 1]) / 2))
    return sorted(found, key=lambda one: (one[1], one[2], labels.index(one[0])))


@pytest.mark.parametrize("seed", range(60))
def test_segments_are_those_of_plain_python(seed):
    random = np.random.default_rng(seed)
    spans = windows(float(random.uniform(5, 60)), 2.0, float(random.choice([0.5, 1.0, 2.0])))
    labels = ("a", "b", "c")
    similarity = random.normal(size=(len(spans), 3)) + 4 * (random.random((len(spans), 3)) < 0.2)
    how = SegmentSettings(
        onset=2.0, offset=float(random.choice([0.3, 1.0])), smooth=(int(random.integers(1, 5)),),
        min_length=float(random.choice([0.0, 2.0])), min_gap=float(random.choice([0.0, 1.5, 3.0])),
    )  # fmt: skip
    found = find_segments(similarity, np.array(spans), labels, how)
    expected = oracle(similarity, spans, labels, how)
    assert [one.label for one in found] == [one[0] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.start, one.end, one.score, one.peak) == pytest.approx(other[1:], abs=1e-9)


# --- planted actions ---


def planted(duration, length, stride, actions, labels):
    """Similarity of windows to labels, and spans: a window's embedding is the mean of what happens in it.

    Each label has a vector of its own and what happens beside them another one; all share most of their direction, as
    embeddings of real videos do.
    """
    vectors = np.hstack([np.full((len(labels) + 1, 1), 0.7**0.5), 0.3**0.5 * np.eye(len(labels) + 1)])
    spans = windows(duration, length, stride)
    rows = []
    for start, end in spans:
        shares = [
            sum(max(0.0, min(end, b) - max(start, a)) for name, a, b in actions if name == label) / (end - start)
            for label in labels
        ]
        mean = np.array([*shares, 1 - sum(shares)]) @ vectors
        rows.append(vectors[:-1] @ mean / np.linalg.norm(mean) / 0.06)
    return np.array(rows), np.array(spans)


@pytest.mark.parametrize(("length", "stride", "smooth"), [(1, 1, 1), (2, 1, 1), (2, 1, 3), (4, 2, 1), (3, 2, 3)])
@pytest.mark.parametrize("seed", range(8))
def test_borders_are_within_a_stride_of_planted_actions(length, stride, smooth, seed):
    random = np.random.default_rng(seed)
    labels, actions, now = ("run", "jump", "swim", "read"), [], 0.0
    for index in random.permutation([0, 1, 2, 3, 0, 1, 2, 3]):
        now += random.uniform(10, 14)
        end = now + random.uniform(8, 12)
        actions.append((labels[index], now, end))
        now = end
    similarity, spans = planted(now + 20, length, stride, actions, labels)
    # A window half of one thing and half of another is a little nearer to everything; the floor keeps that out.
    how = SegmentSettings(onset=3.0, offset=1.5, smooth=(smooth,), floor=0.5)
    found = find_segments(similarity, spans, labels, how)
    assert [one.label for one in found] == [name for name, _, _ in actions]
    for one, (_, start, end) in zip(found, actions, strict=True):
        assert abs(one.start - start) <= stride and abs(one.end - end) <= stride
        assert start <= one.peak <= end


def test_two_labels_may_happen_at_once():
    similarity = np.zeros((30, 2))
    similarity[5:15, 0] = similarity[8:20, 1] = 3.0
    spans = np.array(windows(30.0, 1.0, 1.0))
    phone, walk = find_segments(similarity, spans, ("phone", "walk"), SegmentSettings(smooth=(1,)))
    assert (phone.label, phone.start, phone.end, walk.label, walk.start, walk.end) == ("phone", 5, 15, "walk", 8, 20)


def test_a_label_that_scores_high_or_noisy_everywhere_is_background():
    random = np.random.default_rng(0)
    similarity = random.normal(size=(200, 1)) * 0.01 + 5  # below the floor
    spans = np.array(windows(200.0, 1.0, 1.0))
    assert find_segments(similarity, spans, ("a",), SegmentSettings()) == ()
    assert find_segments(similarity[:1], spans[:1], ("a",), SegmentSettings()) == ()


def test_adding_to_a_label_or_scaling_its_spread_moves_nothing():
    random = np.random.default_rng(1)
    similarity = random.normal(size=(80, 2)) + 6 * (random.random((80, 2)) < 0.15)
    np.testing.assert_allclose(
        above_background(similarity, 0.25), above_background(similarity * [3, 2] + [7, -1], 0.25), atol=1e-9
    )


def runs(pattern, **how):
    """(start, end) of what is found where a pattern of one-second windows has an x."""
    similarity = np.array([[4.0 * (mark == "x")] for mark in pattern])
    found = find_segments(
        similarity, np.array(windows(len(pattern), 1.0, 1.0)), ("a",), SegmentSettings(smooth=(1,), **how)
    )
    return [(one.start, one.end) for one in found]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [(0, 2), (5, 6), (10, 13), (16, 18)]),
        ({"min_length": 2.0}, [(0, 2), (10, 13), (16, 18)]),
        ({"min_gap": 3.0}, [(0, 2), (5, 6), (10, 13), (16, 18)]),
        ({"min_gap": 3.5}, [(0, 6), (10, 18)]),
        ({"min_gap": 3.5, "min_length": 7.0}, [(10, 18)]),
        ({"pad": 1.0}, [(0, 3), (4, 7), (9, 14), (15, 19)]),
        ({"pad": 1.5}, [(0, 7.5), (8.5, 19.5)]),
        ({"pad": 9.0}, [(0, 27)]),
    ],
)
def test_lengths_gaps_and_padding(how, expected):
    assert runs("xx---x----xxx---xx----------", **how) == expected


def test_only_the_best_of_a_label_are_kept():
    similarity = np.zeros((40, 1))
    similarity[5:8], similarity[15:18], similarity[30:33] = 2.0, 4.0, 3.0
    spans = np.array(windows(40.0, 1.0, 1.0))
    found = find_segments(similarity, spans, ("a",), SegmentSettings(smooth=(1,), max_per_label=2))
    assert [one.start for one in found] == [15, 30]


def test_one_segment_of_each_action_is_left_of_several_scales():
    similarity = np.zeros((80, 1))
    similarity[10:40], similarity[60:63] = 3.0, 3.0
    spans = np.array(windows(80.0, 1.0, 1.0))
    found = find_segments(similarity, spans, ("a",), SegmentSettings(smooth=(1, 5)))
    assert [(one.start, one.end) for one in found] == [(10, 40), (60, 63)]


def test_soft_nms_lowers_what_overlaps():
    best, near = Segment("a", 0, 10, 5.0, 5), Segment("a", 8, 18, 4.0, 9)
    far, same = Segment("a", 30, 40, 3.0, 35), Segment("a", 1, 10, 4.9, 5)
    kept = soft_nms([far, same, near, best])
    assert [(one.start, one.score) for one in kept] == [
        (0, 5.0), (8, pytest.approx(4 * math.exp(-((2 / 18) ** 2) / 0.5))), (30, 3.0)
    ]  # fmt: skip
    assert tiou(best, near) == pytest.approx(2 / 18) and tiou(best, far) == 0.0 and tiou(best, best) == 1.0


def test_cells_part_the_video_at_the_middles_of_windows():
    spans = np.array(windows(10.3, 4.0, 2.0))
    assert cells(spans).tolist() == pytest.approx([0, 3, 5, 7, (8 + 9.15) / 2, 10.3])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"onset": 1.0, "offset": 2.0}, "offset is 2.0 and onset 1.0"),
        ({"smooth": ()}, "smooth is empty"),
        ({"floor": 0.0}, "floor"),
        ({"min_gap": -1.0}, "min_gap"),
        ({"max_per_label": 0}, "max_per_label"),
        ({"onset": math.nan}, "onset"),
    ],
)
def test_settings_refuse_what_cannot_be(how, message):
    with pytest.raises(ConfigError, match=message):
        SegmentSettings(**how)


def test_a_segment_has_a_length():
    with pytest.raises(ValueError, match="is no segment"):
        Segment("a", 2.0, 2.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="is no segment"):
        Segment("a", 0.0, 2.0, math.nan, 2.0)
