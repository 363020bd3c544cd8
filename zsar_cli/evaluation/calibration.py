"""From labelled videos to probabilities: Platt's logistic regression, checked on classes it has not seen. Pure.

What a user will ask is unknown, so the fit sees many lists of labels: of all lengths, a fifth of them without the
video's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.errors import UsageError
from zsar_cli.evaluation.rejection import Background
from zsar_cli.transfer.decision import NEAR, Calibration, above_background, above_others
from zsar_cli.transfer.scoring import to_shares

__all__ = ["Calibrated", "calibrate", "calibration_error", "logistic"]

LISTS = 4000  # of labels, to fit five numbers and to measure what they do
SHORTEST = 3  # list
ABSENT = 0.2  # of the lists lack the video's own label; half of them where none of the labels is to be told
FOLDS = 5  # of classes
FEWEST = 10  # classes
KEPT = 0.95  # of known videos are kept by `Calibration.reject`
RIDGE = 1e-3  # on weights, per video
BINS = 10


@dataclass(frozen=True)
class Calibrated:
    """What came out, each share measured on classes that the fit had not seen.

    Args:
        videos, classes: that were used.
        error_before: expected calibration error of the best label's share, over all classes as labels.
        error_after: of its probability, over the same.
        error_lists: of its probability, over lists of all lengths.
        kept: share of known videos that `reject` keeps.
        found: share of unknown ones that it finds.
    """

    videos: int
    classes: int
    error_before: float
    error_after: float
    error_lists: float
    kept: float
    found: float

    def to_dict(self) -> dict[str, float]:
        """As YAML has them."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


class _Tops(NamedTuple):
    """Of N lists of labels the best label: how far above background and others, log of the length, whether it is
    right, whether the list has the video's own label, and its share. Float64 [N] each."""

    background: NDArray[np.float64]
    others: NDArray[np.float64]
    length: NDArray[np.float64]
    right: NDArray[np.float64]
    known: NDArray[np.float64]
    share: NDArray[np.float64]


def calibrate(
    similarity: Tensor, truth: NDArray[np.int64], background: Background, sharpness: float, seed: int = 0
) -> tuple[Calibration, Calibrated]:
    """Fit on all videos; measure by cross-validation over classes.

    Args:
        similarity: of V videos to C classes, all of them finite.
        truth: index of each video's class, [V].
        sharpness: of shares.
        seed: of lists and folds.

    Raises:
        UsageError: too few classes, or the best label is always right or always wrong.
    """
    classes = np.unique(truth)
    if len(classes) < FEWEST:
        raise UsageError(f"a calibration needs videos of at least {FEWEST} classes, here are {len(classes)}")
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(classes)

    def tops(videos: NDArray[np.int64], absent: float) -> _Tops:
        return _tops(similarity, truth, background, sharpness, _lists(truth, videos, similarity.shape[1], absent, rng))

    everything = np.arange(similarity.shape[1])
    pairs: dict[str, list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    held: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for fold in np.array_split(shuffled, FOLDS):
        inside = np.isin(truth, fold)
        own, others = np.flatnonzero(inside), np.flatnonzero(~inside)
        one = _fit(tops(others, ABSENT), tops(others, 0.5))
        whole = _tops(similarity, truth, background, sharpness, [(video, everything) for video in own.tolist()])
        lists = tops(own, ABSENT)
        pairs.setdefault("before", []).append((whole.share, whole.right))
        pairs.setdefault("after", []).append((_probability(one, whole), whole.right))
        pairs.setdefault("lists", []).append((_probability(one, lists), lists.right))
        lists = tops(own, 0.5)
        held.append((_unknown(one, lists), lists.known))
    unknown, known = (np.concatenate(column) for column in zip(*held, strict=True))
    errors = {
        name: calibration_error(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for name, parts in pairs.items()
    }
    reject = float(np.quantile(unknown[known > 0], KEPT))
    fitted = _fit(tops(np.arange(len(truth)), ABSENT), tops(np.arange(len(truth)), 0.5), reject)
    kept = float((unknown[known > 0] <= reject).mean())
    found = float((unknown[known == 0] > reject).mean())
    measured = (errors["before"], errors["after"], errors["lists"], kept, found)
    return fitted, Calibrated(len(truth), len(classes), *measured)


def _lists(
    truth: NDArray[np.int64], videos: NDArray[np.int64], count: int, absent: float, rng: np.random.Generator
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """`LISTS` lists of labels of random length, as many of 4 to 8 as of 8 to 16, and a video for each."""
    for video in np.resize(rng.permutation(videos), LISTS).tolist():
        others = rng.permutation(np.delete(np.arange(count), truth[video]))
        length = int(math.exp(rng.uniform(math.log(SHORTEST), math.log(count))))
        own = [] if rng.random() < absent else [truth[video]]
        yield video, np.array([*own, *others[: length - len(own)]], dtype=np.int64)


def _tops(
    similarity: Tensor, truth: NDArray[np.int64], background: Background, sharpness: float,
    lists: Iterator[tuple[int, NDArray[np.int64]]] | list[tuple[int, NDArray[np.int64]]],
) -> _Tops:  # fmt: skip
    rows = []
    near = background.cosine.numpy() >= NEAR
    for video, labels in lists:
        own = similarity[video : video + 1, torch.from_numpy(labels)]
        far = torch.from_numpy(~near[labels].any(axis=0))
        best = int(own.argmax())
        rows.append((
            float(above_background(own, background.similarity[video : video + 1, far])[0, best]),
            float(above_others(own)[0, best]),
            math.log(len(labels)),
            float(labels[best] == truth[video]),
            float(truth[video] in labels),
            float(to_shares(own, sharpness)[0, best]),
        ))  # fmt: skip
    return _Tops(*np.array(rows, dtype=np.float64).T)


def _fit(tops: _Tops, mixed: _Tops, reject: float = 1.0) -> Calibration:
    """Args: tops: for whether an answer is right; mixed: for whether any label is."""
    right = logistic(np.stack([tops.background, tops.others, tops.length], axis=1), tops.right)
    unknown = logistic(mixed.background[:, None], 1 - mixed.known)
    names = ("right", "right_background", "right_others", "right_labels", "unknown", "unknown_background")
    return Calibration(**dict(zip(names, [*right.tolist(), *unknown.tolist()], strict=True)), reject=reject)


def _probability(one: Calibration, tops: _Tops) -> NDArray[np.float64]:
    columns = map(torch.from_numpy, (tops.background, tops.others, tops.length))
    found: NDArray[np.float64] = one.right_of(*columns).numpy()
    return found


def _unknown(one: Calibration, tops: _Tops) -> NDArray[np.float64]:
    found: NDArray[np.float64] = one.unknown_of(torch.from_numpy(tops.background)[:, None]).numpy()
    return found


def logistic(features: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Constant and weights of p(truth) = sigmoid(constant + features @ weights), [1 + F], by Newton's method.

    Args:
        features: [N, F]. truth: 0 or 1, [N].

    Raises:
        UsageError: all of `truth` is the same.
    """
    if truth.min() == truth.max():
        raise UsageError("all answers are right, or all are wrong: nothing can be calibrated on such videos")
    design = np.concatenate([np.ones((len(features), 1)), features], axis=1)
    ridge = RIDGE * len(truth) * np.diag([0.0, *np.ones(features.shape[1])])
    weights: NDArray[np.float64] = np.zeros(design.shape[1])
    for _ in range(100):
        p = _sigmoid(design @ weights)
        slope = design.T @ (truth - p) - ridge @ weights
        curve = (design * (p * (1 - p))[:, None]).T @ design + ridge
        step = np.linalg.solve(curve, slope)
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            break
    return weights


def calibration_error(probability: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Expected calibration error (Guo et al., ICML 2017): mean distance, over bins of equal width weighed by how many
    fall into each, between the mean probability and the share that is right."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    distances = [
        abs(float(probability[bins == one].sum() - right[bins == one].sum())) for one in np.unique(bins).tolist()
    ]
    return sum(distances) / len(right)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return result
