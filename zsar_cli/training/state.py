"""The full state of a training run in one object, so that a resumed run equals an uninterrupted one.

Random numbers are no part of it: those of a step follow from the seed and the number of the step.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import AdamW

from zsar_cli.networks.backbones import Backbone
from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.training.config import RawConfig, TrainConfig

__all__ = ["Compute", "Learner", "TrainState", "parameter_groups", "schedule", "start_state"]


@dataclass(frozen=True)
class Compute:
    """Where and how the networks are computed.

    Args:
        device: of all that learns.
        precision: of activations; float32 is exact. Weights are float32 in any case.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: torch.dtype = torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """The context that networks run in."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


class Learner(nn.Module):
    """All that is trained, and the backbone before it where inputs are frames.

    Args:
        model, head: see `networks.rest`.
        backbone: None where inputs are grids.
        raw: how the backbone learns.
    """

    def __init__(
        self, model: RestModel, head: RestHead, backbone: Backbone | None = None, raw: RawConfig | None = None
    ) -> None:
        super().__init__()
        self.model, self.head, self.backbone, self.raw = model, head, backbone, raw or RawConfig()
        if backbone is not None:
            backbone.float().requires_grad_(self.tuned)
            backbone.checkpointing = self.raw.recompute

    @property
    def tuned(self) -> bool:
        """Whether there is a backbone that learns."""
        return self.backbone is not None and self.raw.backbone_rate > 0

    def forward(self, shown: Tensor) -> tuple[Tensor, Tensor]:
        """Grids or frames -> grids float32 [B, T, h, w, C], and v [B, D], not normalised."""
        grids = shown if self.backbone is None else self.backbone(shown).float()
        return grids, self.model.encode_video(grids).float()

    def train(self, mode: bool = True) -> Learner:
        """As `nn.Module.train`; a frozen backbone stays as it is."""
        super().train(mode)
        if self.backbone is not None:
            self.backbone.train(mode and self.tuned)
        return self

    def statistics(self) -> list[Tensor]:
        """Running ones of batch norm, which may learn them in forward passes."""
        if self.backbone is None or not self.tuned:
            return []
        norms = [module for module in self.backbone.modules() if isinstance(module, _BatchNorm)]
        return [value for norm in norms for value in (norm.running_mean, norm.running_var) if value is not None]

    def learned(self) -> list[nn.Parameter]:
        """Parameters that learn."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def to_save(self) -> dict[str, Tensor]:
        """Weights without those of a frozen backbone."""
        return {
            name: value for name, value in self.state_dict().items() if self.tuned or not name.startswith("backbone.")
        }

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Take what `to_save` gave."""
        self.load_state_dict(weights, strict=self.tuned or self.backbone is None)


@dataclass
class TrainState:
    """A training run between two steps.

    Args:
        learner: what is trained.
        averaged: its moving average; the same object where the average is off.
        optimiser: AdamW; each group has its "share" of the learning rate.
        scaler: of losses, for float16.
        step: steps done. left_out: those of them that were left out because of numbers that were not finite;
            in_a_row: the last ones.
        best_step, best_score, best_weights: the best validation so far: when, how good, `averaged` at that moment.
    """

    learner: Learner
    averaged: Learner
    optimiser: AdamW
    scaler: torch.amp.GradScaler
    step: int = 0
    left_out: int = 0
    in_a_row: int = 0
    best_step: int = 0
    best_score: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def keep_best(self, score: float) -> bool:
        """Remember the averaged weights if `score` beats all before."""
        better = score > self.best_score
        if better:
            self.best_step, self.best_score = self.step, score
            self.best_weights = {name: value.clone() for name, value in self.averaged.to_save().items()}
        return better

    def state_dict(self) -> dict[str, Any]:
        """Plain containers of tensors and numbers."""
        own = ("step", "left_out", "in_a_row", "best_step", "best_score", "best_weights")
        return {
            "learner": self.learner.to_save(),
            "averaged": self.averaged.to_save(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            **{name: getattr(self, name) for name in own},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.learner.restore(state["learner"])
        self.averaged.restore(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        for name in ("step", "left_out", "in_a_row", "best_step"):
            setattr(self, name, int(state[name]))
        self.best_score, self.best_weights = float(state["best_score"]), dict(state["best_weights"])

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """a' = d a + (1 - d) w with d = min(decay, (1 + step) / (10 + step)): early weights fade fast."""
        if self.averaged is self.learner:
            return
        rate = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for old, new in zip(self.averaged.parameters(), self.learner.parameters(), strict=True):
            old.lerp_(new, rate)
        for mean, present in zip(self.averaged.statistics(), self.learner.statistics(), strict=True):
            mean.copy_(present)


def start_state(learner: Learner, config: TrainConfig, compute: Compute) -> TrainState:
    """The state before the first step."""
    learner.to(compute.device).train()
    optimiser = AdamW(parameter_groups(learner, config), lr=config.learning_rate)
    frozen = {} if learner.tuned else {id(learner.backbone): learner.backbone}
    averaged = copy.deepcopy(learner, dict(frozen)) if config.ema else learner
    halves = compute.precision == torch.float16
    return TrainState(learner, averaged, optimiser, torch.amp.GradScaler(compute.device.type, enabled=halves))


def schedule(config: TrainConfig) -> Callable[[int], float]:
    """The learning rate of each step, as a share of the peak: it rises, then follows a cosine."""
    warm = max(1, round(config.warm_up * config.steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, config.steps - warm))))

    return rate


def parameter_groups(learner: Learner, config: TrainConfig) -> list[dict[str, Any]]:
    """Slow: the priors and the prototypes, which start right. Decayed: the other matrices. Free: vectors, scales.

    Stage k of K of a backbone that learns does so at backbone_rate * layer_decay^(K - k).
    """
    model, head = learner.model, learner.head
    slow: list[Tensor] = [model.video_prior.weight, model.text_prior.weight, head.prototypes]
    known = {id(parameter) for parameter in slow}
    others = [p for p in (*model.parameters(), *head.parameters()) if id(p) not in known]
    parts: list[tuple[Iterable[Tensor], float]] = [(others, 1.0)]
    if learner.tuned and learner.backbone is not None:
        stages = list(learner.backbone.stages())
        for index, stage in enumerate(stages):
            power = len(stages) - 1 - index
            parts.append((stage.parameters(), learner.raw.backbone_rate * learner.raw.layer_decay**power))
    groups: list[dict[str, Any]] = [{"params": slow, "share": config.prior_rate, "weight_decay": 0.0}]
    for parameters, share in parts:
        kept = list(parameters)
        for decayed in (True, False):
            chosen = [parameter for parameter in kept if (parameter.ndim >= 2) == decayed]
            decay = config.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "share": share, "weight_decay": decay})
    return groups
