"""One optimiser step over the clips of all parts of a batch and all processes.

Contrast and hard negatives want the whole batch, but memory holds a part. So every part is embedded without gradients
first; the objectives then give the gradient of each embedding, and each part is embedded again, with the same dropout,
to lead its own share of it back (after GradCache, arXiv 2101.06983).

Shape letters: B clips of a batch, S classes, D dimensions of the shared space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zsar_cli.networks.rest import RestHead
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.losses import (
    alignment_loss,
    consistency_loss,
    cosines,
    discrimination_loss,
    episodic_loss,
    hard_negatives,
    matching_loss,
)
from zsar_cli.training.plan import Plan, mixed
from zsar_cli.training.sources import Source
from zsar_cli.training.state import Compute, TrainState
from zsar_cli.training.team import Team

__all__ = ["Loaded", "Pairs", "Stepper", "objectives"]


@dataclass(frozen=True)
class Loaded:
    """What a process needs of a plan.

    Args:
        plan: of the step.
        needed: int64 [n], sorted, which clips of the plan.
        inputs: [n, ...], of its source, on the CPU.
    """

    plan: Plan
    needed: Tensor
    inputs: Tensor


@dataclass(frozen=True)
class Pairs:
    """Videos and labels that are looked at together; all on the CPU.

    Args:
        clips: int64 [K], places in the batch. labels: int64 [K]. right: bool [K].
    """

    clips: Tensor
    labels: Tensor
    right: Tensor


def objectives(v: Tensor, t: Tensor, head: RestHead, plan: Plan, config: TrainConfig) -> dict[str, Tensor]:
    """The unweighted objectives of embeddings that have a weight, by name.

    Args:
        v: [B, D], of the plan's clips. t: [S, D], of its texts.
    """
    device = v.device
    shares, pure = plan.shares.to(device), plan.pure.to(device)
    losses: dict[str, Tensor] = {}
    if config.discrimination:
        losses["discrimination"] = discrimination_loss(v, head.prototypes, shares, head.visual_scale, config.smoothing)
    if config.alignment:
        losses["alignment"] = alignment_loss(v, t, shares, head.text_scale)
    if config.consistency:
        losses["consistency"] = consistency_loss(head.prototypes, t, config.temperature)
    if config.episodic:
        losses["episodic"] = episodic_loss(
            v[pure], plan.classes.to(device)[pure], head.prototypes, t, plan.held.to(device), config.temperature,
            head.visual_scale,
        )  # fmt: skip
    return losses


def pairs_of(v: Tensor, t: Tensor, plan: Plan, config: TrainConfig) -> Pairs:
    """Right pairs, evenly from the batch, and the hardest wrong ones."""
    count = min(config.match_pairs, len(plan.pure))
    rows = plan.pure[torch.arange(count) * len(plan.pure) // max(1, count)]
    owner = plan.classes[rows]
    if not count:
        return Pairs(rows, owner, torch.ones(0, dtype=torch.bool))
    similarity = cosines(v[rows.to(v.device)], t)
    videos, labels = hard_negatives(similarity, one_hot(owner, len(t)).bool().to(v.device))
    videos, labels = rows[videos[: 2 * count]], labels[: 2 * count]
    right = torch.arange(count + len(videos)) < count
    return Pairs(torch.cat([rows, videos]), torch.cat([owner, labels]), right)


class Stepper:
    """Makes steps.

    Args:
        source: the clips.
        texts: of its classes.
        config: `batch` is that of all processes.
        team: the processes.
        compute: where and how.
    """

    def __init__(self, source: Source, texts: TextTokens, config: TrainConfig, team: Team, compute: Compute) -> None:
        self.source, self.config, self.team, self.compute = source, config, team, compute
        self.texts = TextTokens(texts.tokens.to(compute.device), texts.keep.to(compute.device), texts.owner)
        own, self.rows = team.share(config.batch), []
        for part in torch.arange(own.start, own.stop).chunk(config.accumulation):
            self.rows.append(range(int(part[0]), int(part[-1]) + 1))
        self._encode: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def gradients(self, state: TrainState, loaded: Loaded) -> dict[str, Tensor]:
        """Give every parameter its gradient, times the scale of `state.scaler`; returns what the objectives are.

        Returns:
            numbers on the device: each objective, "loss", and "accuracy": of the prototypes on clips that are not
            blended.
        """
        plan, config, team, learner = loaded.plan, self.config, self.team, state.learner
        state.optimiser.zero_grad(set_to_none=True)
        learner.train()
        alone = len(self.rows) == 1
        with torch.set_grad_enabled(alone):
            encoded = [self._part(state, loaded, rows) for rows in self.rows]
        v = team.gather(torch.cat([row.detach() for _, row in encoded]), config.batch).requires_grad_()
        mine = team.share(len(plan.texts))
        own_t = self._labels(state, plan, mine)
        t = team.gather(own_t, len(plan.texts)).requires_grad_()
        losses = objectives(v, t, learner.head, plan, config)
        found = {name: loss.detach() for name, loss in losses.items()}
        found["accuracy"] = self._accuracy(v, learner.head, plan)
        pairs = pairs_of(v.detach(), t.detach(), plan, config) if config.matching else None
        weighted = [getattr(config, name) * loss for name, loss in losses.items()]
        total = state.scaler.scale(torch.stack([*weighted, v.sum() * 0, t.sum() * 0]).sum())
        leaves = [v, t, *learner.head.parameters()]
        to_v, to_t, *to_head = torch.autograd.grad(total, leaves, allow_unused=True)
        for parameter, gradient in zip(learner.head.parameters(), to_head, strict=True):
            parameter.grad = None if gradient is None else gradient / team.count  # each process has all of it
        if len(mine):
            own_t.backward(to_t[mine.start : mine.stop])  # type: ignore[no-untyped-call]
        matching = v.new_zeros(())
        for number, rows in enumerate(self.rows):
            part = encoded[number] if alone else self._part(state, loaded, rows)
            matching += self._back(state, plan, rows, part, to_v[rows.start : rows.stop], pairs)
        if config.matching:
            team.add([matching])
            found["matching"] = matching
        team.add_gradients(learner.learned())
        found["loss"] = torch.stack(
            [getattr(config, name) * found[name] for name in (*losses, *_matching(config))]
        ).sum()
        return found

    def _back(
        self, state: TrainState, plan: Plan, rows: range, part: tuple[Tensor, Tensor], gradient: Tensor,
        pairs: Pairs | None,
    ) -> Tensor:  # fmt: skip
        """The backward pass of a part; returns its share of the matching objective."""
        grids, v = part
        total, loss = (v * gradient).sum(), v.new_zeros(())
        inside = None if pairs is None else (pairs.clips >= rows.start) & (pairs.clips < rows.stop)
        if pairs is not None and inside is not None and inside.any():
            clips, labels = (pairs.clips[inside] - rows.start).to(v.device), plan.texts[pairs.labels[inside]]
            labels = labels.to(v.device)
            with self.compute.autocast():
                logits = state.learner.model.match(grids[clips], self.texts.tokens[labels], self.texts.keep[labels])
            loss = matching_loss(logits.float(), pairs.right[inside], pairs.right)
            total = total + state.scaler.scale(self.config.matching * loss)
        total.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _part(self, state: TrainState, loaded: Loaded, rows: range) -> tuple[Tensor, Tensor]:
        """Grids and embeddings of a part, with the random numbers that belong to it."""
        shown = self._shown(loaded, rows)
        torch.manual_seed(mixed(self.config.seed, loaded.plan.step, rows.start))
        learner = state.learner
        kept = [] if torch.is_grad_enabled() else [(norm, norm.clone()) for norm in learner.statistics()]
        if self._encode is None:
            self._encode = torch.compile(learner) if self.config.compile else learner
        with self.compute.autocast():
            grids, v = self._encode(shown)
        for norm, before in kept:  # batch norm learns from each part once, in the pass with gradients
            norm.copy_(before)
        return grids, v

    @torch.no_grad()
    def _shown(self, loaded: Loaded, rows: range) -> Tensor:
        """What the networks see of a part: clips, some of them backwards, some blended."""
        plan, device = loaded.plan, self.compute.device
        need = plan.needed(rows)
        inputs = loaded.inputs[torch.searchsorted(loaded.needed, need)].to(device, non_blocking=True)
        shown = self.source.shown(inputs, plan.random[need].to(device))
        backwards = plan.backwards[need].to(device).reshape(-1, *[1] * (shown.ndim - 1))
        shown = torch.where(backwards, shown.flip(1), shown) if self.config.reverse else shown
        own = plan.own[rows.start : rows.stop]
        mine = torch.arange(rows.start, rows.stop)
        first, other = (
            torch.searchsorted(need, who) for who in (mine, torch.where(own < 1, plan.partners[mine], mine))
        )
        if not (own < 1).any():
            return shown[first.to(device)]
        share = own.to(device).reshape(-1, *[1] * (shown.ndim - 1))
        return torch.lerp(shown[other.to(device)], shown[first.to(device)], share)

    def _labels(self, state: TrainState, plan: Plan, mine: range) -> Tensor:
        """t of this process's share of the texts."""
        if not len(mine):  # fewer classes than processes
            return torch.empty(0, state.learner.model.config.space, device=self.compute.device)
        rows = plan.texts[mine.start : mine.stop].to(self.compute.device)
        torch.manual_seed(mixed(self.config.seed, plan.step, -1 - mine.start))
        with self.compute.autocast():
            t = state.learner.model.encode_text(self.texts.tokens[rows], self.texts.keep[rows])
        return t.float()

    @staticmethod
    @torch.no_grad()
    def _accuracy(v: Tensor, head: RestHead, plan: Plan) -> Tensor:
        pure = plan.pure.to(v.device)
        guessed = cosines(v[pure], head.prototypes).argmax(dim=1)
        return (guessed == plan.classes.to(v.device)[pure]).float().sum() / max(1, len(pure))


def _matching(config: TrainConfig) -> tuple[str, ...]:
    return ("matching",) if config.matching else ()
