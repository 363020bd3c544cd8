"""The full state of a training run in one object, so that a resumed run equals an uninterrupted one."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.training.config import TrainConfig

__all__ = ["TrainState", "start_state"]


@dataclass
class TrainState:
    """A training run between two steps.

    Args:
        model, head: what is trained.
        averaged: moving averages of both, [model, head]; the same objects where the average is off.
        optimiser, scheduler: AdamW with warm-up and cosine.
        generator: draws batches, texts and episodes.
        step: optimiser steps done.
        best_step, best_score, best_weights: the best validation so far: when, how good, `averaged` at that moment.
    """

    model: RestModel
    head: RestHead
    averaged: nn.ModuleList
    optimiser: AdamW
    scheduler: LambdaLR
    generator: torch.Generator
    step: int = 0
    best_step: int = 0
    best_score: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def keep_best(self, score: float) -> None:
        """Remember the averaged weights if `score` beats all before."""
        if score > self.best_score:
            self.best_step, self.best_score = self.step, score
            self.best_weights = {name: value.clone() for name, value in self.averaged.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        """Plain containers of tensors and numbers, with the random state of dropout (torch's global one)."""
        return {
            "model": self.model.state_dict(),
            "head": self.head.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generator": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "step": self.step,
            "best_step": self.best_step,
            "best_score": self.best_score,
            "best_weights": self.best_weights,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned; sets torch's global random state."""
        self.model.load_state_dict(state["model"])
        self.head.load_state_dict(state["head"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])
        self.step, self.best_step = int(state["step"]), int(state["best_step"])
        self.best_score, self.best_weights = float(state["best_score"]), dict(state["best_weights"])

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """a' = d a + (1 - d) w with d = min(decay, (1 + step) / (10 + step)): early weights fade fast."""
        rate = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for mean, module in zip(self.averaged, (self.model, self.head), strict=True):
            for old, new in zip(mean.parameters(), module.parameters(), strict=True):
                old.lerp_(new, rate)


def start_state(model: RestModel, head: RestHead, config: TrainConfig) -> TrainState:
    """The state before the first step."""
    optimiser = AdamW(_parameter_groups(model, head, config), lr=config.learning_rate)
    warm = max(1, round(config.warm_up * config.steps))

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, config.steps - warm))))

    parts: list[nn.Module] = [model, head]
    averaged = nn.ModuleList(copy.deepcopy(parts) if config.ema else parts)
    generator = torch.Generator().manual_seed(config.seed)
    return TrainState(model, head, averaged, optimiser, LambdaLR(optimiser, rate), generator)


def _parameter_groups(model: RestModel, head: RestHead, config: TrainConfig) -> list[dict[str, Any]]:
    """Slow: the priors and the prototypes, which start right. Decayed: the other matrices. Free: vectors, scales."""
    slow: list[Tensor] = [model.video_prior.weight, model.text_prior.weight, head.prototypes]
    known = {id(parameter) for parameter in slow}
    others = [p for p in (*model.parameters(), *head.parameters()) if id(p) not in known]
    slow_rate = config.learning_rate * config.prior_rate
    return [
        {"params": slow, "lr": slow_rate, "weight_decay": 0.0},
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
