"""What each step looks at: drawn from the seed and the number of the step alone.

So every process draws the same, a resumed run goes on with the same, and nothing depends on how many workers load it.

Shape letters: B clips of a step, N clips in all, S classes, R texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zsar_cli.training.config import TrainConfig

__all__ = ["NUMBERS", "Plan", "Planner", "mixed"]

NUMBERS = 8  # random numbers for each clip, for its source to use


def mixed(*numbers: int) -> int:
    """A seed that depends on all the numbers."""
    return int.from_bytes(blake2b(repr(numbers).encode(), digest_size=8).digest(), "little") >> 1


@dataclass(frozen=True)
class Plan:
    """One step over the clips of all processes.

    Args:
        step: its number, from 0.
        clips: int64 [B].
        random: [B, NUMBERS] in 0..1, how each clip is looked at.
        backwards: bool [B], which are shown backwards.
        own: [B] in 0.5..1, how much a clip counts beside its partner's rest.
        classes: int64 [B], of the clips.
        texts: int64 [S], a text of each class.
        held: bool [S], the classes that play unseen.
    """

    step: int
    clips: Tensor
    random: Tensor
    backwards: Tensor
    own: Tensor
    classes: Tensor
    texts: Tensor
    held: Tensor

    @property
    def partners(self) -> Tensor:
        """Whom each clip is blended with: neighbours are, so that parts of a batch need few clips of others."""
        partners = torch.arange(len(self.clips)) ^ 1
        partners[partners >= len(self.clips)] = len(self.clips) - 1
        return partners

    @property
    def pure(self) -> Tensor:
        """Those that are blended with none, int64 [P]."""
        return (self.own == 1).nonzero()[:, 0]

    @property
    def shares(self) -> Tensor:
        """How much of each class a clip shows, [B, S]."""
        whole = one_hot(self.classes, len(self.texts)).float()
        return torch.lerp(whole[self.partners], whole, self.own[:, None])

    def needed(self, rows: range) -> Tensor:
        """Which clips of the plan are looked at for some of them: those, and the partners they are blended with."""
        mine = torch.arange(rows.start, rows.stop)
        partners = self.partners[mine][self.own[mine] < 1]
        return torch.tensor(sorted({*mine.tolist(), *partners.tolist()}))


class Planner:
    """Draws plans.

    Args:
        targets: int64 [N], classes 0..S-1; every class has a clip.
        owner: int64 [R], the class of each text; every class has one.
        config: `batch` is that of all processes.
    """

    def __init__(self, targets: Tensor, owner: Tensor, config: TrainConfig) -> None:
        self.config, self.targets = config, targets
        self._clips, self._texts = _Groups(targets), _Groups(owner)
        self._order: tuple[int, Tensor] | None = None

    def plans(self, first: int) -> Iterator[Plan]:
        """Those of the steps from `first` on."""
        for step in range(first, self.config.steps):
            yield self.plan(step)

    def plan(self, step: int) -> Plan:
        """That of one step, from 0."""
        config, classes = self.config, len(self._clips.counts)
        generator = torch.Generator().manual_seed(mixed(config.seed, step))

        def draw(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator)

        if config.sampler == "balanced":
            chosen = torch.randint(classes, (config.batch,), generator=generator)
            clips = self._clips.pick(chosen, draw(config.batch))
        else:
            clips = self._shuffled(step)
        own = torch.where(draw(config.batch) >= config.mixup, 1.0, 0.5 + 0.5 * draw(config.batch))
        held = torch.zeros(classes, dtype=torch.bool)
        held[torch.randperm(classes, generator=generator)[: max(2, round(config.held_out * classes))]] = True
        return Plan(
            step, clips, draw(config.batch, NUMBERS), draw(config.batch) < config.reverse, own, self.targets[clips],
            self._texts.pick(torch.arange(classes), draw(classes)), held,
        )  # fmt: skip

    def _shuffled(self, step: int) -> Tensor:
        """The next clips of an order that is another in each pass."""
        places = torch.arange(step * self.config.batch, (step + 1) * self.config.batch)
        passes, inside = places // len(self.targets), places % len(self.targets)
        return torch.cat([self._pass(one)[inside[passes == one]] for one in sorted(set(passes.tolist()))])

    def _pass(self, number: int) -> Tensor:
        if self._order is None or self._order[0] != number:
            generator = torch.Generator().manual_seed(mixed(self.config.seed, -1, number))
            self._order = number, torch.randperm(len(self.targets), generator=generator)
        return self._order[1]


class _Groups:
    """Rows by group, of which one is picked without a look at all."""

    def __init__(self, group: Tensor) -> None:
        self.order, self.counts = group.argsort(stable=True), group.bincount()
        self._first = self.counts.cumsum(0) - self.counts

    def pick(self, groups: Tensor, random: Tensor) -> Tensor:
        """A row of each of the groups, by numbers in 0..1."""
        places = (random.double() * self.counts[groups]).long()
        return self.order[self._first[groups] + places.minimum(self.counts[groups] - 1)]
