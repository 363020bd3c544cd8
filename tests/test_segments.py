"""Segments from scores: against plain Python, on planted actions, and at the edges."""

from __future__ import annotations

import itertools
import math
import statistics
import tracemalloc

import numpy as np
import pytest

from zsar_cli.errors import ConfigError
from zsar_cli.records import Segment
from zsar_cli.transfer.scenes import scene_borders
from zsar_cli.transfer.segments import SegmentSettings, above_level, cells, find_segments


def windows(duration, length, stride):
    """Spans as a video of that duration gives them."""
    spans, start = [], 0.0
    while True:
        spans.append((start, min(start + length, duration)))
        if start + length >= duration - 1e-9:
            return spans
        start += stride


# --- an oracle: the same rules in plain Python, cell by cell ---


def oracle(similarity, spans, scenes, labels, how):
    middles = [(start + end) / 2 for start, end in spans]
    borders = [spans[0][0], *((a + b) / 2 for a, b in itertools.pairwise(middles)), spans[-1][1]]
    found = []
    for column, label in enumerate(labels):
        values = [float(row[column]) for row in similarity]
        level = statistics.median(values)
        spread = max(1.4826 * statistics.median([abs(value - level) for value in values]), how.floor)
        scores = [(value - level) / spread for value in values]
        left = {scene: statistics.fmean(scores[a:b]) for scene, (a, b) in enumerate(itertools.pairwise(scenes))}
        groups = []
        while left and max(left.values()) >= how.onset:
            best = max(left, key=left.get)
            group = [best]
            while group[0] - 1 in left and left[group[0] - 1] >= how.offset * left[best]:
                group.insert(0, group[0] - 1)
            while group[-1] + 1 in left and left[group[-1] + 1] >= how.offset * left[best]:
                group.append(group[-1] + 1)
            left = {scene: score for scene, score in left.items() if scene not in group}
            groups.append(list(range(scenes[group[0]], scenes[group[-1] + 1])))
        joined = []
        for group in sorted(groups):
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
            similar = statistics.fmean(values[i] for i in group)
            middle = (borders[peak] + borders[peak + 1]) / 2
            found.append((label, start, end, statistics.fmean(inside), similar, middle))
    return sorted(found, key=lambda one: (one[1], one[2], labels.index(one[0])))


@pytest.mark.parametrize("seed", range(60))
def test_segments_are_those_of_plain_python(seed):
    random = np.random.default_rng(seed)
    spans = windows(float(random.uniform(5, 60)), 2.0, float(random.choice([0.5, 1.0, 2.0])))
    labels = ("a", "b", "c")
    similarity = random.normal(size=(len(spans), 3)) + 4 * (random.random((len(spans), 3)) < 0.2)
    inner = np.flatnonzero(random.random(len(spans) - 1) < random.choice([0.3, 0.7, 1.0])) + 1
    scenes = np.array([0, *inner, len(spans)])
    how = SegmentSettings(
        onset=float(random.choice([0.5, 2.0])), offset=float(random.choice([0.3, 0.5, 1.0])),
        min_length=float(random.choice([0.0, 2.0])), min_gap=float(random.choice([0.0, 1.5, 3.0])),
    )  # fmt: skip
    found = find_segments(similarity, cells(np.array(spans)), scenes, labels, how)
    expected = oracle(similarity, spans, scenes.tolist(), labels, how)
    assert [one.label for one in found] == [one[0] for one in expected]
    for one, other in zip(found, expected, strict=True):
        values = (one.start, one.end, one.score, one.similarity, one.peak)
        assert values == pytest.approx(other[1:], abs=1e-9)


# --- scenes, against every possible division ---


def best_division(rows, change):
    """Of all divisions of a few windows that of the least cost."""
    centred = rows - rows.mean(axis=0)
    scaled = centred / np.sqrt((centred**2).sum(axis=1).mean())

    def cost(borders):
        parts = [scaled[a:b] for a, b in itertools.pairwise(borders)]
        return sum(((part - part.mean(axis=0)) ** 2).sum() + change for part in parts)

    inner = range(1, len(rows))
    divisions = [(0, *some, len(rows)) for count in range(len(rows)) for some in itertools.combinations(inner, count)]
    return list(min(divisions, key=cost))


@pytest.mark.parametrize("seed", range(20))
def test_scenes_are_the_best_of_all_divisions(seed):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(9, 4)) + 2 * np.repeat(random.normal(size=(3, 4)), 3, axis=0)
    change = float(random.choice([0.3, 0.8, 1.25, 2.0]))
    assert scene_borders([rows], change).tolist() == best_division(rows, change)


def test_scenes_do_not_depend_on_the_scale_of_a_model_nor_on_one_that_sees_nothing():
    random = np.random.default_rng(3)
    rows = random.normal(size=(40, 5)) + 3 * np.repeat(random.normal(size=(5, 5)), 8, axis=0)
    expected = scene_borders([rows], 1.0).tolist()
    assert len(expected) > 3
    assert scene_borders([rows * 100 + 7], 1.0).tolist() == expected
    assert scene_borders([rows, rows * 0.01], 1.0).tolist() == expected
    # A blind model takes half of the weight and gives nothing for it: as if a scene cost twice as much.
    assert scene_borders([rows, np.ones((40, 3))], 0.5).tolist() == expected


def test_what_looks_alike_is_one_scene_up_to_a_length():
    assert scene_borders([np.ones((1, 4))], 1.0).tolist() == [0, 1]
    assert scene_borders([np.ones((50, 4))], 1.0).tolist() == [0, 50]
    long = scene_borders([np.ones((150, 4))], 1.0)
    assert long[0] == 0 and long[-1] == 150 and len(long) == 4 and np.diff(long).max() <= 60


def test_scenes_of_a_long_video_take_little_more_memory_than_those_of_a_short_one():
    rows = np.random.default_rng(0).normal(size=(4000, 256)).astype(np.float32)
    peaks = []
    for part in (rows[:200], rows):
        tracemalloc.start()
        scene_borders([part], 1.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 200_000 < rows.nbytes / 20


# --- planted actions ---


def planted(duration, length, stride, actions, labels):
    """Similarity of windows to labels, spans and embeddings: that of a window is the mean of what happens in it.

    Each label has a vector of its own and what happens beside them another one; all share most of their direction, as
    embeddings of real videos do.
    """
    vectors = np.hstack([np.full((len(labels) + 1, 1), 0.7**0.5), 0.3**0.5 * np.eye(len(labels) + 1)])
    spans = windows(duration, length, stride)
    rows, visual = [], []
    for start, end in spans:
        shares = [
            sum(max(0.0, min(end, b) - max(start, a)) for name, a, b in actions if name == label) / (end - start)
            for label in labels
        ]
        mean = np.array([*shares, 1 - sum(shares)]) @ vectors
        visual.append(mean)
        rows.append(vectors[:-1] @ mean / np.linalg.norm(mean) / 0.06)
    return np.array(rows), np.array(spans), np.array(visual)


@pytest.mark.parametrize(("length", "stride"), [(1, 1), (2, 1), (4, 2), (3, 2), (4, 4)])
@pytest.mark.parametrize("seed", range(8))
def test_borders_are_within_a_stride_of_planted_actions(length, stride, seed):
    random = np.random.default_rng(seed)
    labels, actions, now = ("run", "jump", "swim", "read"), [], 0.0
    for index in random.permutation([0, 1, 2, 3, 0, 1, 2, 3]):
        now += random.uniform(10, 14)
        end = now + random.uniform(8, 12)
        actions.append((labels[index], now, end))
        now = end
    similarity, spans, visual = planted(now + 20, length, stride, actions, labels)
    # A window half of one thing and half of another is a little nearer to everything; the floor keeps that out.
    how = SegmentSettings(onset=3.0, floor=0.5)
    found = find_segments(similarity, cells(spans), scene_borders([visual], how.change), labels, how)
    assert [one.label for one in found] == [name for name, _, _ in actions]
    for one, (_, start, end) in zip(found, actions, strict=True):
        assert abs(one.start - start) <= stride and abs(one.end - end) <= stride
        assert start <= one.peak <= end


def test_two_labels_may_happen_at_once():
    similarity = np.zeros((30, 2))
    similarity[5:15, 0] = similarity[8:20, 1] = 3.0
    spans = np.array(windows(30.0, 1.0, 1.0))
    scenes = scene_borders([similarity], 1.0)
    phone, walk = find_segments(similarity, cells(spans), scenes, ("phone", "walk"), SegmentSettings())
    assert (phone.label, phone.start, phone.end, walk.label, walk.start, walk.end) == ("phone", 5, 15, "walk", 8, 20)


def test_a_label_that_scores_high_or_noisy_everywhere_is_background():
    random = np.random.default_rng(0)
    similarity = random.normal(size=(200, 1)) * 0.01 + 5  # below the floor
    spans = np.array(windows(200.0, 1.0, 1.0))
    assert find_segments(similarity, cells(spans), np.arange(201), ("a",), SegmentSettings()) == ()
    assert find_segments(similarity[:1], cells(spans[:1]), np.arange(2), ("a",), SegmentSettings()) == ()


def test_adding_to_a_label_or_scaling_its_spread_moves_nothing():
    random = np.random.default_rng(1)
    similarity = random.normal(size=(80, 2)) + 6 * (random.random((80, 2)) < 0.15)
    np.testing.assert_allclose(
        above_level(similarity, 0.25), above_level(similarity * [3, 2] + [7, -1], 0.25), atol=1e-9
    )


def runs(pattern, **how):
    """(start, end) of what is found where a pattern of one-second windows has an x."""
    similarity = np.array([[4.0 * (mark == "x")] for mark in pattern])
    spans = np.array(windows(len(pattern), 1.0, 1.0))
    found = find_segments(similarity, cells(spans), np.arange(len(spans) + 1), ("a",), SegmentSettings(**how))
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
    found = find_segments(similarity, cells(spans), np.arange(41), ("a",), SegmentSettings(max_per_label=2))
    assert [one.start for one in found] == [15, 30]


def test_a_weaker_action_beside_a_stronger_one_is_a_segment_of_its_own():
    similarity = np.zeros((40, 1))
    similarity[5:8], similarity[8:12], similarity[12:14] = 8.0, 3.0, 8.0
    spans = np.array(windows(40.0, 1.0, 1.0))
    found = find_segments(similarity, cells(spans), np.arange(41), ("a",), SegmentSettings())
    assert [(one.start, one.end) for one in found] == [(5, 8), (8, 12), (12, 14)]


def test_cells_part_the_video_at_the_middles_of_windows():
    spans = np.array(windows(10.3, 4.0, 2.0))
    assert cells(spans).tolist() == pytest.approx([0, 3, 5, 7, (8 + 9.15) / 2, 10.3])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"offset": 2.0}, "offset is 2.0; it is a share"),
        ({"onset": 0.0}, "onset"),
        ({"change": -1.0}, "change"),
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
        Segment("a", 2.0, 2.0, 1.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="is no segment"):
        Segment("a", 0.0, 2.0, 1.0, math.nan, 2.0)
