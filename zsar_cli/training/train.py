"""Train the cross-modal Transformer on cached grid features of clips.

Shape letters: N clips, V views of a clip, T frames, G cells a side, C channels, S classes, R texts, B clips of a
batch, D dimensions of the shared space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from zsar_cli.errors import UsageError
from zsar_cli.networks.rest import RestConfig, RestHead, RestModel, class_means, sentence_embedding, video_summary
from zsar_cli.tensors import seeded
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
from zsar_cli.training.scoring import Scorer, embed_clips, mean_per_class
from zsar_cli.training.state import TrainState, start_state
from zsar_cli.training.team import Team
from zsar_cli.transfer.scoring import TransferSettings

__all__ = [
    "ClipFeatures",
    "TrainResult",
    "initial_state",
    "objectives",
    "only_classes",
    "split_classes",
    "train_on_features",
    "train_step",
]

Record = Mapping[str, float]


@dataclass(frozen=True)
class ClipFeatures:
    """Grid features of N clips of S classes, each seen in V views (crops, mirror images).

    Args:
        grids: [N, V, T, G, G, C], any floating type.
        targets: int64 [N], classes 0..S-1.
    """

    grids: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        if self.grids.ndim != 6 or self.targets.shape != self.grids.shape[:1]:
            raise UsageError(
                f"clip features need grids [N, V, T, G, G, C] and targets [N], "
                f"got {list(self.grids.shape)} and {list(self.targets.shape)}"
            )

    def __len__(self) -> int:
        return self.grids.shape[0]


@dataclass(frozen=True)
class TrainResult:
    """What training returns.

    Args:
        model, head: averaged weights of the selected step, in evaluation mode.
        history: one record a step: "step", "learning_rate", "loss", each objective, and every `evaluate_every` steps
            "validation": top-1 over the clips of held-out classes, mean per class, scored as the bundle will.
        step: the selected step.
    """

    model: RestModel
    head: RestHead
    history: tuple[Record, ...]
    step: int


@dataclass(frozen=True)
class Batch:
    """B clips: grids [B, T, G, G, C], class shares [B, S], which are unmixed [B]."""

    grids: Tensor
    shares: Tensor
    pure: Tensor

    def __len__(self) -> int:
        return len(self.shares)

    def part(self, rows: Tensor) -> Batch:
        return Batch(self.grids[rows], self.shares[rows], self.pure[rows])


def train_on_features(
    features: ClipFeatures,
    texts: TextTokens,
    shape: RestConfig,
    config: TrainConfig,
    scoring: TransferSettings,
    report: Callable[[Record, TrainState], None] | None = None,
    resume: dict[str, Any] | None = None,
    team: Team | None = None,
) -> TrainResult:
    """Train from the closed-form start. The same inputs give the same weights on the CPU.

    Args:
        features: of the training clips; every class 0..S-1 has one.
        texts: of the same classes, at least one each.
        shape, config: of the model, of the training.
        scoring: how the model will score (its scales are measured); used by validation.
        report: called after each step; the place to show progress and to save `TrainState.state_dict`.
        resume: such a saved state; the result equals that of an uninterrupted run (the history starts empty).
        team: the processes to share the work with, each of which makes this same call; `config.batch` is that of one.

    Raises:
        UsageError: a class without a clip or a text, or too few classes for what is asked.
    """
    _check_classes(features, texts)
    if team is not None:
        team.check(config.batch, config.accumulation)
        config = replace(config, batch=config.batch * team.count)
    history: list[Record] = []
    with seeded(config.seed):
        (kept, kept_texts), held = _split_classes(features, texts, config)
        state = initial_state(kept, kept_texts, shape, config)
        if resume is not None:
            state.load_state_dict(resume)
        while state.step < config.steps:
            record = dict(train_step(state, kept, kept_texts, config, team))
            if held and (state.step % config.evaluate_every == 0 or state.step == config.steps):
                record["validation"] = _validate(state, (kept, kept_texts), held, scoring)
                state.keep_best(record["validation"])
            history.append(record)
            if report is not None:
                report(record, state)
    if held:
        state.averaged.load_state_dict(state.best_weights)
    model, head = state.averaged.eval()
    assert isinstance(model, RestModel) and isinstance(head, RestHead)
    return TrainResult(model, head, tuple(history), state.best_step if held else state.step)


def initial_state(features: ClipFeatures, texts: TextTokens, shape: RestConfig, config: TrainConfig) -> TrainState:
    """A model at its closed-form start: priors from the data, prototypes at the class means."""
    model = RestModel(shape)
    sentences = sentence_embedding(texts.tokens, texts.keep)
    classes = int(features.targets.max()) + 1
    summaries = torch.stack([video_summary(grid.float()).mean(dim=0) for grid in features.grids])
    model.set_prior(summaries, features.targets, class_means(sentences, texts.owner, classes))
    v = embed_clips(model.eval(), features.grids)
    head = RestHead(class_means(v, features.targets, classes))
    return start_state(model.train(), head, config)


def train_step(
    state: TrainState, features: ClipFeatures, texts: TextTokens, config: TrainConfig, team: Team | None = None
) -> Record:
    """One optimiser step; changes `state` in place and says what it saw."""
    batch = _draw_batch(features, state.head.prototypes.shape[0], config, state.generator)
    totals: dict[str, float] = {}
    state.optimiser.zero_grad(set_to_none=True)
    state.model.train()
    for rows in torch.arange(len(batch)).chunk(config.accumulation):
        part = batch.part(rows)
        losses = objectives(state.model, state.head, part, texts, config, state.generator, team)
        weighted = torch.stack([getattr(config, name) * loss for name, loss in losses.items()]).sum()
        share = len(rows) / len(batch)
        (weighted * share).backward()  # type: ignore[no-untyped-call]
        losses["loss"] = weighted
        for name, loss in losses.items():
            totals[name] = totals.get(name, 0.0) + share * float(loss.detach())
    parameters = [*state.model.parameters(), *state.head.parameters()]
    if team is not None:
        team.average(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    rate = float(state.scheduler.get_last_lr()[-1])
    state.optimiser.step()
    state.scheduler.step()
    state.step += 1
    if config.ema:
        state.average(config.ema)
    return {"step": state.step, "learning_rate": rate, **totals}


def objectives(
    model: RestModel,
    head: RestHead,
    batch: Batch,
    texts: TextTokens,
    config: TrainConfig,
    generator: torch.Generator,
    team: Team | None = None,
) -> dict[str, Tensor]:
    """The unweighted objectives that have a weight, by name. One text of each class is drawn."""
    classes = head.prototypes.shape[0]
    drawn = texts.select(_draw_texts(texts, classes, generator))
    v = model.encode_video(batch.grids) if team is None else team.gather(model.encode_video(team.share(batch.grids)))
    t = model.encode_text(drawn.tokens, drawn.keep)
    owner = batch.shares.argmax(dim=1)
    losses: dict[str, Tensor] = {}
    if config.discrimination:
        losses["discrimination"] = discrimination_loss(
            v, head.prototypes, batch.shares, head.visual_scale, config.smoothing
        )
    if config.alignment:
        losses["alignment"] = alignment_loss(v, t, batch.shares, head.text_scale)
    if config.matching:
        rows = batch.pure.nonzero()[:, 0][: config.match_pairs]
        losses["matching"] = _match(model, batch.grids[rows], v[rows], owner[rows], t, drawn)
    if config.consistency:
        losses["consistency"] = consistency_loss(head.prototypes, t, config.temperature)
    if config.episodic:
        held = torch.zeros(classes, dtype=torch.bool)
        held[torch.randperm(classes, generator=generator)[: max(2, round(config.held_out * classes))]] = True
        rows = batch.pure.nonzero()[:, 0]
        losses["episodic"] = episodic_loss(
            v[rows], owner[rows], head.prototypes, t, held, config.temperature, head.visual_scale
        )
    return losses


def _match(model: RestModel, grids: Tensor, v: Tensor, owner: Tensor, t: Tensor, texts: TextTokens) -> Tensor:
    """The matching objective over right pairs and the hardest wrong ones, in one joint pass."""
    count = len(owner)
    if count == 0:
        return t.sum() * 0
    videos, labels = hard_negatives(cosines(v, t), one_hot(owner, t.shape[0]).bool())
    chosen = torch.arange(len(videos))[: 2 * count]
    videos, labels = torch.cat([torch.arange(count), videos[chosen]]), torch.cat([owner, labels[chosen]])
    logits = model.match(grids[videos], texts.tokens[labels], texts.keep[labels])
    return matching_loss(logits[:count], logits[count:])


def _draw_batch(features: ClipFeatures, classes: int, config: TrainConfig, generator: torch.Generator) -> Batch:
    """Clips with every class as likely as any other, in a random view, some mixed, some reversed."""
    weights = 1 / torch.bincount(features.targets, minlength=classes)[features.targets].double()
    clips = torch.multinomial(weights, config.batch, replacement=True, generator=generator)
    views = torch.randint(features.grids.shape[1], (config.batch,), generator=generator)
    grids = features.grids[clips, views].float()
    backwards = torch.rand(config.batch, generator=generator) < config.reverse
    grids = torch.where(backwards[:, None, None, None, None], grids.flip(1), grids)
    shares = one_hot(features.targets[clips], classes).float()
    pure = torch.rand(config.batch, generator=generator) >= config.mixup
    partner = torch.randperm(config.batch, generator=generator)
    own = torch.where(pure, 1.0, 0.5 + 0.5 * torch.rand(config.batch, generator=generator))
    grids = torch.lerp(grids[partner], grids, own[:, None, None, None, None])
    return Batch(grids, torch.lerp(shares[partner], shares, own[:, None]), pure)


def _draw_texts(texts: TextTokens, classes: int, generator: torch.Generator) -> Tensor:
    """Rows of one random text of each class 0..classes-1, in that order."""
    order = torch.randperm(len(texts), generator=generator)
    return torch.stack([order[texts.owner[order] == index][0] for index in range(classes)])


Classes = tuple[ClipFeatures, TextTokens]


def _split_classes(features: ClipFeatures, texts: TextTokens, config: TrainConfig) -> tuple[Classes, Classes | None]:
    """All classes and None, or the classes that train and those that validate, each renumbered from 0."""
    if not config.validation:
        return (features, texts), None
    kept, held = split_classes(int(features.targets.max()) + 1, config)
    return only_classes(features, texts, kept), only_classes(features, texts, held)


def split_classes(classes: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Which of the classes 0..classes-1 train and which validate, both sorted; the seed decides.

    Raises:
        UsageError: too few would be left to train on.
    """
    held = max(2, round(config.validation * classes)) if config.validation else 0
    if classes - held < 3:
        raise UsageError(f"train: holding {held} of {classes} classes out leaves too few; lower validation")
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(config.seed))
    return order[held:].sort()[0], order[:held].sort()[0]


def only_classes(features: ClipFeatures, texts: TextTokens, classes: Tensor) -> Classes:
    """The clips and texts of some classes, which get the numbers 0, 1, ... in the order given."""
    number = torch.full((int(features.targets.max()) + 1,), -1)
    number[classes] = torch.arange(len(classes))
    chosen = texts.select(number[texts.owner] >= 0)
    rows = number[features.targets] >= 0
    return (
        ClipFeatures(features.grids[rows], number[features.targets][rows]),
        TextTokens(chosen.tokens, chosen.keep, number[chosen.owner]),
    )


def _validate(state: TrainState, kept: Classes, held: Classes, scoring: TransferSettings) -> float:
    """Mean per class top-1 on the held-out classes, among themselves."""
    model, head = state.averaged
    assert isinstance(model, RestModel) and isinstance(head, RestHead)
    training = model.training
    model.eval()
    scores = Scorer.of(model, head, kept[0].grids, kept[1], scoring).scores(held[0].grids, held[1])
    model.train(training)
    return mean_per_class(scores, held[0].targets)


def _check_classes(features: ClipFeatures, texts: TextTokens) -> None:
    classes = int(features.targets.max()) + 1
    if classes < 3:
        raise UsageError(f"train: {classes} classes are too few to learn how classes relate; give 3 or more")
    clips = torch.bincount(features.targets, minlength=classes)
    described = torch.bincount(texts.owner, minlength=classes)
    for index in range(classes):
        if not clips[index] or not described[index]:
            raise UsageError(f"train: class {index} has {clips[index]} clips and {described[index]} texts; both need 1")
