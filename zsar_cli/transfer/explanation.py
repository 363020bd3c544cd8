"""Why a label gets the scores it gets: who composes it, what it cannot be told from, what it lacks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from zsar_cli.labels import readable
from zsar_cli.transfer.bank import PrototypeBank

__all__ = [
    "KINDS", "SCHEMA", "UNRELATED", "Component", "Explanation", "LabelExplanation", "Pair", "explain",
]  # fmt: skip

SCHEMA = "zsar.explanation/2"
KINDS = ("seen", "near", "composed", "unrelated")
ALIKE = 0.9  # cosine of two visual prototypes above which two labels can hardly be told apart
SAME = 1 - 1e-5  # cosine above which two names mean the same to the text encoder
NEAR = 0.8  # cosine to the nearest seen class above which a label is all but one of them
UNRELATED = 0.5  # cosine to the nearest seen class below which a label is composed of strangers
SHOWN = 0.005  # components of less weight than this are left out
COMPARED = 20_000  # labels; among more the pairs that are alike are not looked for, which takes the square of the time
MOST_PAIRS = 10_000  # that are kept, the worst
ROWS = 512  # of the matrix of all pairs that are computed at a time: 40 MB for as many labels as are compared


@dataclass(frozen=True)
class Component:
    """A seen class in the mixture of a label: its weight, and the cosine of the two semantic embeddings."""

    seen: str
    weight: float
    cosine: float


@dataclass(frozen=True)
class LabelExplanation:
    """One label's mixture, heaviest first.

    `kind` is "seen" where the label is one of the bank's own classes, "near" where it is all but one of them (another
    wording, a special case), "unrelated" where no seen class is related, else "composed". Only the last two are unseen
    in the strict sense. `nearest` is the seen class that reads the same, else the one of the highest `cosine` to the
    label; it need not be the heaviest.
    """

    label: str
    kind: str
    nearest: str
    cosine: float
    components: tuple[Component, ...]


@dataclass(frozen=True)
class Pair:
    """Two labels whose prototypes all but coincide."""

    first: str
    second: str
    cosine: float


@dataclass(frozen=True)
class Explanation:
    """All labels in order, and the pairs that are hard to tell apart, worst first.

    `alike` holds the worst `MOST_PAIRS`; it is None where there are more than `COMPARED` labels.
    """

    labels: tuple[LabelExplanation, ...]
    alike: tuple[Pair, ...] | None

    @property
    def counts(self) -> dict[str, int]:
        """How many labels are of each kind."""
        return {kind: sum(label.kind == kind for label in self.labels) for kind in KINDS}

    @property
    def unrelated(self) -> tuple[str, ...]:
        """Labels with no related seen class: their scores mean little."""
        return tuple(label.label for label in self.labels if label.kind == "unrelated")

    def to_dict(self) -> dict[str, Any]:
        """The schema `zsar.explanation/2` (docs/formats.md)."""
        return {
            "schema": SCHEMA,
            "labels": [asdict(label) for label in self.labels],
            "counts": self.counts,
            "alike": None if self.alike is None else [asdict(pair) for pair in self.alike],
            "unrelated": list(self.unrelated),
        }


def explain(
    bank: PrototypeBank,
    composed: PrototypeBank,
    weights: Tensor,
    top: int = 5,
) -> Explanation:
    """Explain what `compose.compose` or `compose.compose_beside` made.

    Args:
        bank: S seen classes.
        composed: U labels.
        weights: A [U, S], who composed whom.
        top: how many components to name for each label.
    """
    seen = {readable(name).casefold(): index for index, name in enumerate(bank.labels)}
    labels = []
    for row, name in enumerate(composed.labels):
        cosines = bank.semantic @ composed.semantic[row]
        components = tuple(Component(*part) for part in _heaviest(weights[row], cosines, bank.labels, top))
        named = seen.get(readable(name).casefold())
        nearest = int(cosines.argmax()) if named is None else named
        cosine = float(cosines[nearest])
        kind = _kind(named is not None, cosine)
        labels.append(LabelExplanation(name, kind, bank.labels[nearest], round(cosine, 4), components))
    return Explanation(tuple(labels), _alike(composed) if len(composed) <= COMPARED else None)


def _heaviest(weights: Tensor, cosines: Tensor, names: Sequence[str], top: int) -> Iterator[tuple[str, float, float]]:
    """Name, weight and cosine of the heaviest, but of none that hardly counts."""
    for index in weights.topk(min(top, len(names))).indices.tolist():
        if weights[index] >= SHOWN:
            yield names[index], round(float(weights[index]), 4), round(float(cosines[index]), 4)


def _kind(named: bool, nearest: float) -> str:
    """Seen, near, composed or unrelated: whether a seen class reads the same, and the cosine to the nearest one."""
    if named or nearest > SAME:
        return "seen"
    if nearest >= NEAR:
        return "near"
    return "composed" if nearest >= UNRELATED else "unrelated"


def _alike(composed: PrototypeBank) -> tuple[Pair, ...]:
    """The worst `MOST_PAIRS` of the pairs above `ALIKE`, in memory that grows with the labels alone."""
    pairs = torch.empty(0, 2, dtype=torch.long)
    cosines = torch.empty(0)
    for start in range(0, len(composed), ROWS):
        block = torch.triu(composed.visual[start : start + ROWS] @ composed.visual[start:].T, diagonal=1)
        found = (block >= ALIKE).nonzero()
        pairs = torch.cat([pairs, found + start])
        cosines = torch.cat([cosines, block[found[:, 0], found[:, 1]]])
        worst = cosines.argsort(descending=True, stable=True)[:MOST_PAIRS]
        pairs, cosines = pairs[worst], cosines[worst]
    names = composed.labels
    return tuple(
        Pair(names[i], names[j], round(cosine, 4))
        for (i, j), cosine in zip(pairs.tolist(), cosines.tolist(), strict=True)
    )
