"""Fine-tune the backbone together with a trained Transformer, on decoded frames in place of cached features.

The Transformer is trained on frozen features first: the gradients of an untrained one would only spoil the backbone.
On one CPU thread a run repeats bit for bit; several threads sum the gradients of convolutions in any order.

Shape letters: N videos, B clips of a batch, T frames, R side of a stored frame, S side of a frame the backbone sees.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.optim import AdamW

from zsar_cli.networks.backbones import Backbone
from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.settings import Positive, Size, Weight, settings
from zsar_cli.tensors import seeded
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.train import Batch, objectives

__all__ = ["MARGIN", "STORED", "Finetune", "FinetuneConfig", "augment", "plain_view"]

STORED = 2  # stored frames for each one that is shown, so that times can be jittered
MARGIN = 8 / 7  # R / S, so that crops keep their resolution


@settings
@dataclass(frozen=True)
class FinetuneConfig:
    """How the backbone is fine-tuned.

    Args:
        steps: optimiser steps; 0 leaves the backbone as it is.
        batch: clips per step. accumulation: parts a batch is computed in.
        learning_rate: of the Transformer. backbone_rate: factor on it for the backbone's last stage.
        layer_decay: factor from each stage of the backbone to the one before it.
        weight_decay: of AdamW, on matrices and kernels. norm: largest norm of the gradient.
        crop: smallest share of the frame's side that a random crop keeps; 1 for none.
        colour: largest change of brightness and of contrast, as a share.
        jitter: show each frame a little earlier or later.
        recompute: compute the backbone's activations again in the backward pass: less memory, more time.
    """

    steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    batch: Size = 16
    accumulation: Size = 1
    learning_rate: Positive = 1e-4
    backbone_rate: Positive = 0.1
    layer_decay: Annotated[Positive, Field(le=1)] = 0.9
    weight_decay: Weight = 0.05
    norm: Positive = 1.0
    crop: Annotated[Positive, Field(le=1)] = 0.75
    colour: Weight = 0.2
    jitter: bool = True
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.accumulation > self.batch:
            raise ValueError(f"accumulation ({self.accumulation}) must not exceed batch ({self.batch})")


class Finetune:
    """Fine-tuning between two steps. The backbone stays on its device, the Transformer on the CPU.

    Args:
        backbone, model, head: trained in place. head: of S classes.
        frames: uint8 [N, STORED * T, R, R, 3], for example memory-mapped.
        targets: int64 [N], classes 0..S-1.
        texts: of the S classes.
        config: see `FinetuneConfig`.
        train: the objectives' weights and the seed.
        flip: whether mirror images are shown.
        autocast: precision of the backbone's activations; None keeps float32.
    """

    def __init__(
        self, backbone: Backbone, model: RestModel, head: RestHead, frames: Tensor, targets: Tensor,
        texts: TextTokens, config: FinetuneConfig, train: TrainConfig, flip: bool = True,
        autocast: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        self.backbone, self.model, self.head = backbone.float().requires_grad_(True), model, head
        self.frames, self.targets, self.texts = frames, targets, texts
        self.config, self.train, self.flip, self.autocast = config, train, flip, autocast
        backbone.checkpointing = config.recompute
        self.optimiser = AdamW(parameter_groups(backbone, model, head, config, train), lr=config.learning_rate)
        self.generator = torch.Generator().manual_seed(train.seed)
        self.step = 0

    def run(
        self, done: Callable[[Mapping[str, float]], None] = lambda record: None, resume: dict[str, Any] | None = None
    ) -> None:
        """All the steps that are left; `done` is called after each with its record.

        Args:
            done: the place to show progress and to save `state_dict`.
            resume: what `state_dict` returned.
        """
        with seeded(self.train.seed):
            if resume is not None:
                self.load_state_dict(resume)
            while self.step < self.config.steps:
                done(self._step())
        for part in (self.backbone, self.model, self.head):
            part.eval()

    def _step(self) -> dict[str, float]:
        """One optimiser step."""
        weights = 1 / torch.bincount(self.targets)[self.targets].double()
        clips = torch.multinomial(weights, self.config.batch, replacement=True, generator=self.generator)
        for part in (self.backbone, self.model, self.head):
            part.train()
        self.optimiser.zero_grad(set_to_none=True)
        totals: dict[str, float] = {}
        for rows in clips.chunk(self.config.accumulation):
            losses = self._losses(rows)
            weighted = torch.stack([getattr(self.train, name) * loss for name, loss in losses.items()]).sum()
            share = len(rows) / len(clips)
            (weighted * share).backward()  # type: ignore[no-untyped-call]
            for name, loss in (*losses.items(), ("loss", weighted)):
                totals[name] = totals.get(name, 0.0) + share * float(loss.detach())
        every = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(every, self.config.norm)
        self.optimiser.step()
        self.step += 1
        return {"step": self.step, "learning_rate": self.config.learning_rate, **totals}

    def _losses(self, clips: Tensor) -> dict[str, Tensor]:
        """The objectives over some clips, each seen in a random way."""
        size, count = self.backbone.config.side, self.frames.shape[1] // STORED
        shift = torch.randint(STORED, (len(clips), count), generator=self.generator) * int(self.config.jitter)
        times = STORED * torch.arange(count) + shift
        frames = self.frames[clips[:, None], times]
        views = augment(frames, size, self.config, self.flip, self.generator)
        device = next(self.backbone.parameters()).device
        with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
            grids = self.backbone(views.to(device))
        shares = F.one_hot(self.targets[clips], self.head.prototypes.shape[0]).float()
        batch = Batch(grids.float().cpu(), shares, torch.ones(len(clips), dtype=torch.bool))
        return objectives(self.model, self.head, batch, self.texts, self.train, self.generator)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps depend on, with the random state of dropout."""
        return {
            "step": self.step,
            "backbone": self.backbone.network.state_dict(),
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned; sets torch's global random state."""
        self.step = int(state["step"])
        self.backbone.network.load_state_dict(state["backbone"])
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])


def parameter_groups(
    backbone: Backbone, model: RestModel, head: RestHead, config: FinetuneConfig, train: TrainConfig
) -> list[dict[str, Any]]:
    """Stage k of K of the backbone learns at learning_rate * backbone_rate * layer_decay^(K - k); the linear priors
    and the prototypes at learning_rate * prior_rate; the rest of the Transformer at learning_rate."""
    stages = list(backbone.stages())
    slow = [model.video_prior.weight, model.text_prior.weight, head.prototypes]
    known = {id(parameter) for parameter in slow}
    rest = [p for p in (*model.parameters(), *head.parameters()) if id(p) not in known]
    rates = [config.backbone_rate * config.layer_decay ** (len(stages) - 1 - index) for index in range(len(stages))]
    parts: list[tuple[list[Any], float]] = [
        (list(stage.parameters()), r) for stage, r in zip(stages, rates, strict=True)
    ]
    groups = []
    for parameters, rate in [*parts, (rest, 1.0)]:
        for decayed in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim >= 2) == decayed]
            decay = config.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "lr": config.learning_rate * rate, "weight_decay": decay})
    return [*groups, {"params": slow, "lr": config.learning_rate * train.prior_rate, "weight_decay": 0.0}]


def augment(frames: Tensor, size: int, config: FinetuneConfig, flip: bool, generator: torch.Generator) -> Tensor:
    """Random crop, mirror image, brightness and contrast, the same for all frames of a clip.

    Args:
        frames: uint8 [B, T, R, R, 3]. size: S.

    Returns:
        float32 [B, T, S, S, 3], 0..255.
    """
    clips = frames.shape[0]

    def draw(*shape: int) -> Tensor:
        return torch.rand(clips, *shape, generator=generator)

    kept = config.crop + (1 - config.crop) * draw()
    corner = (2 * draw(2) - 1) * (1 - kept)[:, None]
    sign = torch.where(draw() < 0.5 * float(flip), -1.0, 1.0)
    brightness, contrast = (1 + config.colour * (2 * draw(2) - 1)).unbind(dim=1)
    views = _resampled(frames, size, kept, corner, sign)
    mean = views.mean(dim=(1, 2, 3, 4), keepdim=True)
    changed = (mean + contrast.reshape(-1, 1, 1, 1, 1) * (views - mean)) * brightness.reshape(-1, 1, 1, 1, 1)
    return changed.clamp(0, 255)


def plain_view(frames: Tensor, size: int) -> Tensor:
    """The frames as they are shown when classifying: uint8 [B, STORED * T, R, R, 3] -> float32 [B, T, S, S, 3]."""
    one = torch.ones(frames.shape[0])
    return _resampled(frames[:, ::STORED], size, one, torch.zeros(len(one), 2), one)


def _resampled(frames: Tensor, size: int, kept: Tensor, centre: Tensor, sign: Tensor) -> Tensor:
    """A square of each clip, scaled to S x S bilinearly.

    Args:
        frames: uint8 [B, T, R, R, 3].
        kept: [B], share of the side. centre: [B, 2], x and y of the square in -1..1. sign: [B], -1 mirrors.
    """
    batch, count = frames.shape[:2]
    zero = torch.zeros_like(kept)
    rows = [torch.stack([kept * sign, zero, centre[:, 0]], dim=1), torch.stack([zero, kept, centre[:, 1]], dim=1)]
    theta = torch.stack(rows, dim=1).repeat_interleave(count, dim=0)
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta, [batch * count, 3, size, size], align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return views.permute(0, 2, 3, 1).reshape(batch, count, size, size, 3)
