"""How good is a model: the field's protocols and measures. Pure: similarities and truth in, numbers out.

Shape letters: V videos, C classes. A label's similarity does not depend on which other labels compete
(`scoring.score_labels`), so one matrix [V, C] serves every protocol by leaving columns and rows out. A video that could
not be used is a row of -inf: it counts as wrong everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import UsageError

__all__ = [
    "Generalised",
    "Measures",
    "confusion",
    "generalised",
    "half_of_the_classes",
    "hubness",
    "mean_and_std",
    "measure",
    "per_class",
    "ranks",
    "restrict",
    "usable",
]

Similarity = NDArray[np.floating[Any]]
Indices = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Measures:
    """Shares in 0..1 over `videos` videos of `classes` classes that compete with each other."""

    top1: float
    top5: float
    mean_per_class_top1: float
    mean_per_class_top5: float
    videos: int
    classes: int

    def to_dict(self) -> dict[str, float]:
        """As JSON has them."""
        return asdict(self)


@dataclass(frozen=True)
class Generalised:
    """Generalised zero-shot: all classes compete. Mean-per-class top-1 of seen and of unseen classes, and their
    harmonic mean (Xian et al., CVPR 2017, arXiv 1703.04394)."""

    seen: float
    unseen: float
    harmonic: float


def ranks(similarity: Similarity, truth: Indices) -> Indices:
    """How many classes beat the true one, [V]; a tie counts against it, so that constant scores earn nothing.

    A video that could not be used is beaten by more classes than there are.
    """
    own = similarity[np.arange(len(truth)), truth][:, None]
    result: Indices = (similarity >= own).sum(axis=1) - 1
    result[~usable(similarity)] = np.iinfo(np.int64).max
    return result


def usable(similarity: Similarity) -> NDArray[np.bool_]:
    """Which videos could be used, bool [V]."""
    result: NDArray[np.bool_] = np.asarray(np.isfinite(similarity).all(axis=1))
    return result


def measure(similarity: Similarity, truth: Indices) -> Measures:
    """Top-1 and top-5, over videos and per class.

    Args:
        similarity: [V, C]. truth: class of each video, [V].

    Raises:
        UsageError: there is no video.
    """
    if len(truth) == 0:
        raise UsageError("there is no video to measure on")
    rank = ranks(similarity, truth)
    present = np.unique(truth)
    shares = {top: [float((rank[truth == index] < top).mean()) for index in present] for top in (1, 5)}
    return Measures(
        top1=float((rank < 1).mean()),
        top5=float((rank < 5).mean()),
        mean_per_class_top1=float(np.mean(shares[1])),
        mean_per_class_top5=float(np.mean(shares[5])),
        videos=len(truth),
        classes=similarity.shape[1],
    )


def per_class(similarity: Similarity, truth: Indices, names: Sequence[str]) -> dict[str, float]:
    """Top-1 of each class that has videos."""
    right = ranks(similarity, truth) < 1
    return {names[index]: float(right[truth == index].mean()) for index in np.unique(truth).tolist()}


def confusion(similarity: Similarity, truth: Indices) -> NDArray[np.int64]:
    """Counts [C, C]: row the true class, column the one that came first."""
    count = similarity.shape[1]
    table = np.zeros((count, count), dtype=np.int64)
    named = usable(similarity)
    np.add.at(table, (truth[named], similarity[named].argmax(axis=1)), 1)
    return table


def half_of_the_classes(count: int, runs: int, seed: int) -> list[Indices]:
    """The classes of each run of the "50/50" protocol (Brattoli et al., CVPR 2020, arXiv 2003.01455).

    Run r takes `permutation(count)[: count // 2]` of numpy's legacy generator seeded with seed + r, as that paper's
    released code does, so that the same halves come out.
    """
    return [np.random.RandomState(seed + run).permutation(count)[: count // 2] for run in range(runs)]


def restrict(similarity: Similarity, truth: Indices, classes: Indices) -> tuple[Similarity, Indices]:
    """Only these classes compete, and only their videos are asked."""
    position = {int(index): place for place, index in enumerate(classes)}
    rows = np.array([index for index, label in enumerate(truth.tolist()) if label in position], dtype=np.int64)
    return similarity[np.ix_(rows, classes)], np.array([position[int(truth[row])] for row in rows], dtype=np.int64)


def seen_side(truth: Indices, seen: Indices) -> NDArray[np.bool_]:
    """Whether each video is of a seen class, [V].

    Raises:
        UsageError: there is no video of a seen class, or none of an unseen one.
    """
    is_seen = np.isin(truth, seen)
    if not is_seen.any() or is_seen.all():
        raise UsageError("generalised zero-shot needs videos of seen and of unseen classes; one side has none")
    return is_seen


def generalised(similarity: Similarity, truth: Indices, seen: Indices) -> Generalised:
    """All classes compete; seen and unseen ones are measured apart. Raises UsageError as `seen_side`."""
    is_seen = seen_side(truth, seen)
    apart = [measure(similarity[side], truth[side]).mean_per_class_top1 for side in (is_seen, ~is_seen)]
    harmonic = 2 * apart[0] * apart[1] / (apart[0] + apart[1]) if sum(apart) > 0 else 0.0
    return Generalised(apart[0], apart[1], harmonic)


def hubness(similarity: Similarity, k: int = 5) -> float:
    """Skewness of the k-occurrence of classes (Radovanovic et al., JMLR 2010); 0 where all occur equally often.

    N_k of a class is the number of videos that have it among their k best; a large positive skewness means that a few
    classes, the hubs, are near to everything.
    """
    k = min(k, similarity.shape[1])
    best = np.argsort(-similarity[usable(similarity)], axis=1)[:, :k]
    occurrence = np.bincount(best.ravel(), minlength=similarity.shape[1]).astype(np.float64)
    deviation = occurrence - occurrence.mean()
    spread = occurrence.std()
    return float((deviation**3).mean() / spread**3) if spread > 0 else 0.0


def mean_and_std(runs: Sequence[Measures]) -> Mapping[str, tuple[float, float]]:
    """Mean and population standard deviation over runs, of each measure."""
    names = ("top1", "top5", "mean_per_class_top1", "mean_per_class_top5")
    values = {name: np.array([getattr(run, name) for run in runs]) for name in names}
    return {name: (float(row.mean()), float(row.std())) for name, row in values.items()}
