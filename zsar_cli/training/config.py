"""How training goes: one frozen value, every objective with a weight that switches it off at 0."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from zsar_cli.settings import Count, OpenShare, Positive, Share, Size, Weight, settings

__all__ = ["OBJECTIVES", "RawConfig", "TrainConfig"]

OBJECTIVES = ("discrimination", "alignment", "matching", "consistency", "episodic")


@settings
@dataclass(frozen=True)
class TrainConfig:
    """Objectives, schedule and augmentation. The defaults suit a few hundred clips: short, and near the start.

    Args:
        discrimination, alignment, matching, consistency, episodic: weights of the objectives of
            `training.losses`; 0 leaves one out.
        steps: optimiser steps. epochs: passes over the data in place of `steps`; 0 takes the steps.
        batch: clips per step, of each process. accumulation: parts a batch is computed in, one after the other; the
            gradients are those of the whole batch.
        sampler: "balanced" draws each class as often as any other, "shuffled" each clip once a pass over the data.
        learning_rate: peak, of AdamW. prior_rate: factor on it for the linear priors and the prototypes.
        weight_decay: of AdamW, on matrices only. warm_up: share of the steps with a rising rate; a cosine follows.
        clip: largest norm of the gradient. ema: decay of the averaged weights that are returned; 0 for none.
        smoothing: of labels in the discrimination objective.
        mixup: share of clips that are blended with another one, both labels counting.
        reverse: share of clips shown backwards.
        temperature: of relatedness, in the consistency and the episodic objective.
        held_out: share of the classes treated as unseen in each episode of the episodic objective.
        match_pairs: right pairs per step in the matching objective; as many hard negatives join them.
        validation: share of the classes held out to select the step; 0 trains on all and returns the last step.
        evaluate_every: steps between validations.
        patience: steps in a row with numbers that are not finite after which training stops; each is left out.
        compile: give the networks to torch.compile, which takes minutes at the start and needs a C++ compiler.
        seed: of everything random.
    """

    discrimination: Weight = 1.0
    alignment: Weight = 1.0
    matching: Weight = 0.5
    consistency: Weight = 0.5
    episodic: Weight = 1.0
    steps: Count = 60
    epochs: Annotated[int, Field(ge=0, le=10**6)] = 0
    batch: Size = 64
    accumulation: Size = 1
    sampler: Literal["balanced", "shuffled"] = "balanced"
    learning_rate: Positive = 3e-4
    prior_rate: Positive = 0.01
    weight_decay: Weight = 0.05
    warm_up: OpenShare = 0.1
    clip: Positive = 1.0
    ema: OpenShare = 0.98
    smoothing: Share = 0.1
    mixup: Share = 0.5
    reverse: Share = 0.0
    temperature: Positive = 0.1
    held_out: OpenShare = 0.3
    match_pairs: Size = 8
    validation: OpenShare = 0.0
    evaluate_every: Count = 20
    patience: Count = 10
    compile: bool = False
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    def __post_init__(self) -> None:
        if not any(getattr(self, name) for name in OBJECTIVES):
            raise ValueError(f"every objective has the weight 0; give one of {', '.join(OBJECTIVES)} a weight")
        if self.accumulation > self.batch:
            raise ValueError(f"accumulation ({self.accumulation}) must not exceed batch ({self.batch})")

    def for_clips(self, count: int, processes: int = 1) -> TrainConfig:
        """With `epochs` over that many clips turned into steps of all processes."""
        if not self.epochs:
            return self
        return replace(self, steps=math.ceil(self.epochs * count / (self.batch * processes)), epochs=0)


@settings
@dataclass(frozen=True)
class RawConfig:
    """How videos are looked at, and the backbone learns, where training reads videos themselves.

    Args:
        backbone_rate: learning rate of the backbone's last stage, as a factor on that of the Transformer; 0 freezes the
            backbone.
        layer_decay: factor from each stage of the backbone to the one before it.
        jitter: largest change of a clip's length, as a share. Where in the video it begins is random.
        crop: smallest share of the frame's side that a random crop keeps; 1 for none.
        colour: largest change of brightness and of contrast, as a share.
        recompute: compute the backbone's activations again in the backward pass: less memory, more time.
    """

    backbone_rate: Weight = 0.1
    layer_decay: Annotated[Positive, Field(le=1)] = 0.9
    jitter: OpenShare = 0.25
    crop: Annotated[Positive, Field(le=1)] = 0.75
    colour: Weight = 0.2
    recompute: bool = False
