"""Where clips come from: one protocol for grids of features on disk and for videos themselves.

Shape letters: N clips, V views of a clip as it is classified, B clips of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from zsar_cli.text.tokens import TextTokens

__all__ = ["Source", "evenly", "only_classes"]


class Source(Protocol):
    """Clips with labels."""

    @property
    def targets(self) -> Tensor:
        """int64 [N], classes 0..S-1."""
        ...

    def inputs(self, asked: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """Clips as they are trained on, on the CPU: [n, ...] for each (rows int64 [n], random [n, NUMBERS])."""
        ...

    def shown(self, inputs: Tensor, random: Tensor) -> Tensor:
        """What the networks see of inputs, on their device: float32 [n, T, ...], grids or frames 0..255."""
        ...

    def plain(self, rows: Tensor) -> Iterator[Tensor]:
        """Clips as they are classified, some at a time: [n, V, T, ...], grids or frames."""
        ...

    def only(self, rows: Tensor, targets: Tensor) -> Source:
        """Some of the clips, with other classes; what lies on disk is not copied."""
        ...


def only_classes(source: Source, texts: TextTokens, classes: Tensor) -> tuple[Source, TextTokens]:
    """The clips and texts of some classes, which get the numbers 0, 1, ... in the order given."""
    number = torch.full((int(source.targets.max()) + 1,), -1)
    number[classes] = torch.arange(len(classes))
    chosen = texts.select(number[texts.owner] >= 0)
    rows = (number[source.targets] >= 0).nonzero()[:, 0]
    kept = source.only(rows, number[source.targets[rows]])
    return kept, TextTokens(chosen.tokens, chosen.keep, number[chosen.owner])


def evenly(targets: Tensor, most: int) -> Tensor:
    """Rows of at most so many clips, or of one of each class where those are more; of each class about as many."""
    classes, order = int(targets.max()) + 1, targets.argsort(stable=True)
    counts = targets.bincount()
    turn = torch.arange(len(targets)) - (counts.cumsum(0) - counts)[targets[order]]  # first clips, second ones, ...
    return order[turn.argsort(stable=True)[: max(most, classes)]].sort()[0]
