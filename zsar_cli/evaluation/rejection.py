"""How well it is told that a video shows none of the labels: signals compared on classes that are taken away. Pure.

Shape letters as in `measures`; B background actions. Higher signals mean that one of the labels is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.errors import UsageError
from zsar_cli.transfer.decision import NEAR, above_background

__all__ = ["SIGNALS", "Background", "Rejection", "area_under_roc", "false_positives", "measure_rejection"]


class Background(NamedTuple):
    """What videos are compared with beside the classes.

    Args:
        similarity: of V videos to B actions, [V, B].
        cosine: of the semantic embeddings of C classes to those of the actions, [C, B].
    """

    similarity: Tensor
    cosine: Tensor


Signal = Callable[[Tensor, Tensor, float], Tensor]


def _margin(similarity: Tensor, background: Tensor, sharpness: float) -> Tensor:
    best = similarity.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]


def _neglabel(similarity: Tensor, background: Tensor, sharpness: float) -> Tensor:
    return torch.logsumexp(sharpness * similarity, 1) - torch.logsumexp(sharpness * background, 1)


SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        "background": lambda own, other, sharpness: above_background(own, other).amax(dim=1),
        "max softmax": lambda own, other, sharpness: torch.softmax(sharpness * own, 1).amax(1),
        "MCM": lambda own, other, sharpness: torch.softmax(sharpness / 2 * own, 1).amax(1),  # arXiv 2211.13445
        "similarity": lambda own, other, sharpness: own.amax(1),
        "margin": _margin,
        "energy": lambda own, other, sharpness: torch.logsumexp(sharpness * own, 1),
        "z-score": lambda own, other, sharpness: (own.amax(1) - other.mean(1)) / other.std(1),
        "NegLabel": _neglabel,
    }
)


class Rejection(NamedTuple):
    """Of one signal, over runs: means and population standard deviations, 0..1.

    Args:
        auroc: area under the curve of known videos kept over unknown ones kept; 0.5 is chance.
        fpr95: share of unknown videos that are kept where 95% of the known ones are.
    """

    auroc: tuple[float, float]
    fpr95: tuple[float, float]


def measure_rejection(
    similarity: Tensor, truth: NDArray[np.int64], background: Background, sharpness: float,
    halves: Sequence[NDArray[np.integer[Any]]],
) -> dict[str, Rejection]:  # fmt: skip
    """Each signal where only half of the classes are labels, and the videos of the others show none of them.

    Args:
        similarity: of V videos to C classes, all of them finite.
        truth: index of each video's class, [V].
        halves: for each run the classes that are labels.

    Raises:
        UsageError: in no run there are videos of both kinds.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SIGNALS}
    for classes in halves:
        known = np.isin(truth, classes)
        if known.all() or not known.any() or len(classes) < 2:
            continue
        own = similarity[:, torch.from_numpy(classes)]
        other = background.similarity[:, background.cosine[torch.from_numpy(classes)].amax(dim=0) < NEAR]
        for name, signal in SIGNALS.items():
            values = signal(own, other, sharpness).numpy()
            found[name].append((area_under_roc(values, known), false_positives(values, known)))
    if not found["margin"]:
        raise UsageError("no half of the classes leaves videos on both sides; give more videos or another --seed")
    return {
        name: Rejection(*((float(np.mean(column)), float(np.std(column))) for column in zip(*pairs, strict=True)))
        for name, pairs in found.items()
    }


def area_under_roc(values: NDArray[np.floating], known: NDArray[np.bool_]) -> float:
    """Probability that a known video has a higher value than an unknown one, a tie counting half (Mann-Whitney)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    own, other = int(known.sum()), int((~known).sum())
    return float((ranks[known].sum() - own * (own + 1) / 2) / (own * other))


def false_positives(values: NDArray[np.floating], known: NDArray[np.bool_], kept: float = 0.95) -> float:
    """Share of unknown videos at or above the value that the given share of known ones reaches."""
    ordered = np.sort(values[known])[::-1]
    threshold = ordered[int(np.ceil(kept * len(ordered))) - 1]
    return float((values[~known] >= threshold).mean())
