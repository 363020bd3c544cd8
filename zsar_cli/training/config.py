"""How `train_on_features` trains: one frozen value, every objective with a weight that switches it off at 0."""

from __future__ import annotations

from dataclasses import dataclass

from zsar_cli.errors import ConfigError

__all__ = ["TrainConfig"]


@dataclass(frozen=True)
class TrainConfig:
    """Objectives, schedule and augmentation. The defaults suit a few hundred clips: short, and near the start.

    Args:
        discrimination, alignment, matching, consistency, episodic: weights of the objectives of
            `models.rest_losses`; 0 leaves one out.
        steps: optimiser steps. batch: clips per step, drawn with classes weighed alike. accumulation: parts a
            batch is computed in; the gradients are those of the parts' mean loss.
        learning_rate: peak, of AdamW. prior_rate: factor on it for the linear priors and the prototypes.
        weight_decay: of AdamW, on matrices only. warm_up: share of the steps with a rising rate; a cosine follows.
        clip: largest norm of the gradient. ema: decay of the averaged weights that are returned; 0 for none.
        smoothing: of labels in the discrimination objective.
        mixup: share of clips that are blended with another one, both labels counting.
        reverse: share of clips shown backwards.
        temperature: of relatedness, in the consistency and the episodic objective.
        held_out: share of the classes that play unseen in the episodic objective.
        match_pairs: right pairs per step in the matching objective; as many hard negatives join them.
        validation: share of the classes held out to select the step; 0 trains on all and returns the last step.
        evaluate_every: steps between validations.
        seed: of everything random.
    """

    discrimination: float = 1.0
    alignment: float = 1.0
    matching: float = 0.5
    consistency: float = 0.5
    episodic: float = 1.0
    steps: int = 60
    batch: int = 64
    accumulation: int = 1
    learning_rate: float = 3e-4
    prior_rate: float = 0.01
    weight_decay: float = 0.05
    warm_up: float = 0.1
    clip: float = 1.0
    ema: float = 0.98
    smoothing: float = 0.1
    mixup: float = 0.5
    reverse: float = 0.0
    temperature: float = 0.1
    held_out: float = 0.3
    match_pairs: int = 8
    validation: float = 0.0
    evaluate_every: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        weights = ("discrimination", "alignment", "matching", "consistency", "episodic")
        for name in (*weights, "weight_decay"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train: {name} is {getattr(self, name)}; it must be 0 or more")
        if not any(getattr(self, name) for name in weights):
            raise ConfigError(f"train: every objective has the weight 0; give one of {', '.join(weights)} a weight")
        for name in ("steps", "batch", "accumulation", "match_pairs", "evaluate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train: {name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("learning_rate", "prior_rate", "clip", "temperature"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"train: {name} is {getattr(self, name)}; it must be above 0")
        for name in ("warm_up", "ema", "smoothing", "mixup", "reverse", "held_out", "validation"):
            if not 0 <= getattr(self, name) <= 1 - (name in ("ema", "validation", "warm_up", "held_out")) * 1e-9:
                raise ConfigError(f"train: {name} is {getattr(self, name)}; it must lie in 0..1")
        if self.accumulation > self.batch:
            raise ConfigError(f"train: accumulation ({self.accumulation}) must not exceed batch ({self.batch})")
