"""From similarities to what a user can rely on: an answer, how likely it is right, and why it may not be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from torch import Tensor

from zsar_cli.digests import digest
from zsar_cli.records import UNKNOWN, Decision
from zsar_cli.transfer.decision import GENERAL, Calibration, above_background, above_others

__all__ = ["Deciding", "decide"]

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


def decide(
    similarity: Tensor, shares: Tensor, background: Tensor, names: Sequence[str], actions: Sequence[str], how: Deciding,
    strangers: frozenset[str] = frozenset(),
) -> tuple[list[Decision], Tensor | None]:  # fmt: skip
    """Judge the best label of each video.

    Args:
        similarity: of V videos to U labels.
        shares: see `scoring.to_shares`, [V, U].
        background: similarity of the videos to B actions that are none of the labels, [V, B].
        names, actions: of labels and background.
        strangers: labels that no seen class is related to.

    Returns:
        a decision for each video, and the probability that each label is right, [V, U], where that is known.
    """
    margins = above_background(similarity, background)
    probabilities = how.rule.probabilities(margins, above_others(similarity))
    unknown = how.rule.unknown_of(margins)
    best = shares.topk(min(2, len(names)), dim=1)
    nearest = background.argmax(dim=1) if background.shape[1] else None
    decisions = []
    for row in range(len(similarity)):
        labels = [names[index] for index in best.indices[row].tolist()]
        likely = None if probabilities is None else float(probabilities[row, best.indices[row, 0]])
        none = float(unknown[row])
        over = none > (how.rule.reject if how.reject is None else how.reject)
        doubtful = over or (none if likely is None else 1 - likely) > DOUBT
        reasons: list[str] = []
        if doubtful:
            second = float(best.values[row, -1]) if len(labels) > 1 else 0.0
            action = None if nearest is None or margins[row].max() >= 0 else actions[int(nearest[row])]
            known = likely if how.calibration is not None else None
            reasons = list(_reasons(labels, second >= ALIKE * float(best.values[row, 0]), action, strangers, known))
        answer = UNKNOWN if over and how.reject is not None else labels[0]
        decisions.append(Decision(answer, none, doubtful, tuple(reasons)))
    return decisions, probabilities if how.calibration is not None else None


def _reasons(
    labels: Sequence[str], alike: bool, action: str | None, strangers: frozenset[str], likely: float | None
) -> Iterator[str]:
    """Why an answer is doubtful: sentences for people."""
    if likely is not None:
        yield f"answers like this one are right in {likely:.0%} of cases"
    if action is not None:
        yield f"nearer to {action!r}, which is none of the labels"
    if alike:
        yield f"{labels[0]!r} and {labels[1]!r} fit about as well"
    if labels[0] in strangers:
        yield f"no seen class is related to {labels[0]!r}"
