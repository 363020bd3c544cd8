"""From similarities to what a user can rely on: an answer, how likely it is right, and why it may not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from zsar_cli.digests import digest
from zsar_cli.records import UNKNOWN, Decision
from zsar_cli.transfer.decision import GENERAL, Calibration, above_background, above_others

__all__ = ["Beside", "Best", "Deciding", "decide"]

DOUBT = 0.5  # an answer that is right less often is doubtful
ALIKE = 0.7  # share of a second label, in shares of the first, from which on both fit about as well


@dataclass(frozen=True)
class Deciding:
    """How answers are judged.

    Args:
        calibration: of the models; None where they were not calibrated: then there are no probabilities, and doubts are
            raised by a general rule.
        source: where it comes from, for the description of a run.
        reject: value of `unknown` above which the answer is that it is none of the labels; None never says so.
    """

    calibration: Calibration | None = None
    source: str | None = None
    reject: float | None = None

    @property
    def described(self) -> dict[str, float | str | None]:
        """What a decision depends on, beside the similarities, for the description of a run."""
        numbers = None if self.calibration is None else digest(*asdict(self.calibration).values())[:12]
        return {"calibration": self.source and f"{self.source} {numbers}", "reject": self.reject}

    @property
    def rule(self) -> Calibration:
        """The calibration, or the general one."""
        return self.calibration or GENERAL


class Best(NamedTuple):
    """The K best of U labels for each of V videos, best first, at least two where there are so many.

    Args:
        names: of all labels.
        order: numbers of the best, [V, K].
        shares: of these among all labels, [V, K].
        similarity: to these, [V, K].
    """

    names: Sequence[str]
    order: Tensor
    shares: Tensor
    similarity: Tensor


class Beside(NamedTuple):
    """What labels are judged against.

    Args:
        far: which actions of the background are none of the labels, bool [B].
        actions: names of these.
        strangers: labels that no seen class of any model is related to.
    """

    far: Tensor
    actions: tuple[str, ...]
    strangers: frozenset[str]


def decide(
    best: Best, background: Tensor, beside: Beside, how: Deciding
) -> Iterator[tuple[Decision, Sequence[float | None]]]:
    """Judge the best labels of each video.

    Args:
        background: similarity of the videos to the actions that are none of the labels.

    Returns:
        for each video the decision and the probability that each of the K labels is right, None where it is not known.
    """
    margins = above_background(best.similarity, background)
    probabilities = how.rule.probabilities(margins, above_others(best.similarity), len(best.names))
    likely = margins[:, 0] if probabilities is None else probabilities[:, 0]
    nearest = background.argmax(dim=1) if len(beside.actions) else torch.zeros(len(background), dtype=torch.long)
    unsaid: list[list[float | None]] = [[None] * best.order.shape[1]] * len(margins)
    shown = unsaid if how.calibration is None or probabilities is None else probabilities.tolist()
    columns = (best.order, best.shares, margins[:, 0], how.rule.unknown_of(margins), likely, nearest)
    for order, shares, margin, unknown, right, action, of_each in zip(
        *(column.tolist() for column in columns), shown, strict=True
    ):
        over = unknown > (how.rule.reject if how.reject is None else how.reject)
        doubtful = over or (unknown if probabilities is None else 1 - right) > DOUBT
        reasons: list[str] = []
        known = right if probabilities is not None and how.calibration is not None else None
        if doubtful:
            labels = [best.names[number] for number in order[:2]]
            nearer = beside.actions[action] if margin < 0 and beside.actions else None
            alike = len(labels) > 1 and shares[1] >= ALIKE * shares[0]
            reasons = list(_reasons(labels, known, nearer, alike, labels[0] in beside.strangers))
        answer = best.names[order[0]]
        if over and how.reject is not None:
            others = reasons if known is None else reasons[1:]  # but not how likely the label is right
            answer, reasons = UNKNOWN, [f"unknown is {unknown:.2f}, above {how.reject:.2f}", *others]
        elif doubtful and not reasons:
            reasons = ["by a general rule: these models or settings were not calibrated"]
        yield Decision(answer, unknown, doubtful, tuple(reasons)), of_each


def _reasons(
    labels: Sequence[str], likely: float | None, action: str | None, alike: bool, strange: bool
) -> Iterator[str]:
    """Why an answer is doubtful: sentences for people."""
    if likely is not None:
        yield f"answers like this one are right in {likely:.0%} of cases"
    if action is not None:
        yield f"nearer to {action!r}, which is none of the labels"
    if alike:
        yield f"{labels[0]!r} and {labels[1]!r} fit about as well"
    if strange:
        yield f"no seen class is related to {labels[0]!r}"
