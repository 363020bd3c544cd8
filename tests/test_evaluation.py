"""Measures against plain loops and numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from zsar_cli.errors import UsageError
from zsar_cli.evaluation import measures as evaluation

RNG = np.random.default_rng(11)
SIMILARITY = RNG.normal(size=(60, 8))
TRUTH = np.concatenate([np.arange(8), RNG.integers(0, 8, 52) ** 2 // 8])  # every class, unevenly


def loop_accuracy(top: int) -> tuple[float, float]:
    right: dict[int, list[bool]] = {}
    for row, label in zip(SIMILARITY, TRUTH, strict=True):
        best = sorted(range(8), key=lambda index: -row[index])[:top]
        right.setdefault(int(label), []).append(int(label) in best)
    every = [value for values in right.values() for value in values]
    return sum(every) / len(every), sum(sum(values) / len(values) for values in right.values()) / len(right)


def test_top_1_and_top_5_agree_with_a_loop() -> None:
    found = evaluation.measure(SIMILARITY, TRUTH)
    assert (found.top1, found.mean_per_class_top1) == pytest.approx(loop_accuracy(1))
    assert (found.top5, found.mean_per_class_top5) == pytest.approx(loop_accuracy(5))
    assert (found.videos, found.classes) == (60, 8)


def test_a_video_that_failed_counts_as_wrong() -> None:
    failed = np.full((8, 8), -np.inf)
    with_failed = np.vstack([SIMILARITY, failed]), np.concatenate([TRUTH, np.arange(8)])
    whole, short = evaluation.measure(SIMILARITY, TRUTH), evaluation.measure(*with_failed)
    assert short.top1 == pytest.approx(whole.top1 * 60 / 68)
    counts = np.bincount(TRUTH, minlength=8)
    right = evaluation.per_class(SIMILARITY, TRUTH, list("abcdefgh"))
    expected = [share * count / (count + 1) for share, count in zip(right.values(), counts, strict=True)]
    assert short.mean_per_class_top1 == pytest.approx(np.mean(expected))
    assert evaluation.measure(failed[:3, :3], np.arange(3)).top5 == 0
    assert evaluation.confusion(*with_failed).sum() == 60
    assert evaluation.hubness(with_failed[0]) == evaluation.hubness(SIMILARITY)


def test_constant_scores_earn_nothing() -> None:
    assert evaluation.measure(np.zeros((10, 4)), np.arange(10) % 4).top1 == 0


def test_no_video_is_an_error() -> None:
    with pytest.raises(UsageError, match="no video"):
        evaluation.measure(np.zeros((0, 4)), np.zeros(0, dtype=int))


def test_restricting_leaves_rows_and_columns_out() -> None:
    classes = np.array([5, 2])
    similarity, truth = evaluation.restrict(SIMILARITY, TRUTH, classes)
    expected = [(SIMILARITY[i, [5, 2]], [5, 2].index(label)) for i, label in enumerate(TRUTH) if label in (5, 2)]
    np.testing.assert_array_equal(similarity, [row for row, _ in expected])
    assert truth.tolist() == [label for _, label in expected]


def test_halves_are_those_of_the_released_protocol() -> None:
    halves = evaluation.half_of_the_classes(101, runs=3, seed=4)
    for run, half in enumerate(halves):
        np.random.seed(4 + run)
        assert half.tolist() == np.random.permutation(101)[:50].tolist()


def test_harmonic_mean_by_hand() -> None:
    # Classes 0 and 1 are seen. Seen videos: 1 of 2 and 1 of 1 right; unseen class 2: 1 of 4 right.
    first = np.array([0, 2, 1, 2, 0, 0, 1])
    truth = np.array([0, 0, 1, 2, 2, 2, 2])
    similarity = np.eye(3)[first] + np.arange(3) * 1e-6
    found = evaluation.generalised(similarity, truth, np.array([0, 1]))
    assert (found.seen, found.unseen) == (0.75, 0.25)
    assert found.harmonic == pytest.approx(2 * 0.75 * 0.25 / (0.75 + 0.25))
    with pytest.raises(UsageError, match="one side has none"):
        evaluation.generalised(similarity, truth, np.array([0, 1, 2]))


def test_confusion_counts() -> None:
    table = evaluation.confusion(SIMILARITY, TRUTH)
    for true in range(8):
        for named in range(8):
            count = sum(
                1 for row, label in zip(SIMILARITY, TRUTH, strict=True) if label == true and row.argmax() == named
            )
            assert table[true, named] == count


def test_hubness_is_the_skewness_of_occurrence() -> None:
    counts = [0] * 8
    for row in SIMILARITY:
        for index in sorted(range(8), key=lambda column: -row[column])[:3]:
            counts[index] += 1
    mean = sum(counts) / 8
    second = sum((count - mean) ** 2 for count in counts) / 8
    third = sum((count - mean) ** 3 for count in counts) / 8
    assert evaluation.hubness(SIMILARITY, k=3) == pytest.approx(third / second**1.5)
    hub = SIMILARITY.copy()
    hub[:, 3] += 100
    assert evaluation.hubness(hub, k=1) > 2
    assert evaluation.hubness(np.eye(8), k=1) == 0


def test_mean_and_population_std() -> None:
    runs = [evaluation.measure(*evaluation.restrict(SIMILARITY, TRUTH, half)) for half in np.array([[0, 1], [2, 3]])]
    values = [run.top1 for run in runs]
    mean, std = evaluation.mean_and_std(runs)["top1"]
    assert mean == pytest.approx(sum(values) / 2)
    assert std == pytest.approx(abs(values[0] - values[1]) / 2)


def test_per_class_names_only_classes_with_videos() -> None:
    found = evaluation.per_class(SIMILARITY[:2], np.array([6, 6]), list("abcdefgh"))
    assert list(found) == ["g"]
