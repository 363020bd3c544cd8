"""From one visual embedding to scores over labels. Pure: tensors in, tensors out.

Two estimators see the same bank from two sides and disagree usefully, so their scores are blended:

- semantic transfer (ResT, arXiv 2205.01657): compose a visual prototype for each label, compare in the visual space;
- ConSE (Norouzi et al., ICLR 2014, arXiv 1312.5650): name the video by its likeliest seen classes, average their
  semantic embeddings, compare in the semantic space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zsar_cli.errors import UsageError
from zsar_cli.prototypes import PrototypeBank

__all__ = ["TransferSettings", "conse", "score_labels", "to_shares"]

normalise = torch.nn.functional.normalize


@dataclass(frozen=True)
class TransferSettings:
    """How scores are made. The defaults are the ones every figure in the README was measured with.

    Args:
        top_k: seen classes that may compose one label (transfer), and that may name one video (ConSE).
        temperature: of relatedness, in units of cosine.
        conse_weight: share of ConSE in the blend, 0 (transfer alone) to 1 (ConSE alone).
        logit_scale: turns cosine to a seen prototype into a logit for ConSE's posterior.
        transfer_scale, conse_scale: typical spread over labels of either similarity, so that the blend adds like
            to like.
        sharpness: of the softmax that turns blended similarities into shares.
    """

    top_k: int = 20
    temperature: float = 0.05
    conse_weight: float = 0.3
    logit_scale: float = 25.0
    transfer_scale: float = 0.06
    conse_scale: float = 0.1
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k is {self.top_k}; it must be 1 or more")
        if not 0 <= self.conse_weight <= 1:
            raise UsageError(f"conse_weight is {self.conse_weight}; it must lie in 0..1")
        for name in ("temperature", "logit_scale", "transfer_scale", "conse_scale", "sharpness"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be above 0")


def conse(visual: Tensor, bank: PrototypeBank, semantic: Tensor, top_k: int, logit_scale: float) -> Tensor:
    """cos(sum over the top-k seen classes of p(s | v) T_s, T_u) (ConSE, equation 3).

    Args:
        visual: v [B, D]. bank: S seen classes. semantic: T_u [U, E].

    Returns:
        similarities [B, U] in -1..1.
    """
    posterior = torch.softmax(logit_scale * normalise(visual, dim=1) @ bank.visual.T, dim=1)
    values, indices = posterior.topk(min(top_k, len(bank)), dim=1)
    kept = torch.zeros_like(posterior).scatter_(1, indices, values)
    return normalise(kept @ bank.semantic, dim=1) @ normalise(semantic, dim=1).T


def score_labels(visual: Tensor, bank: PrototypeBank, labels: PrototypeBank, settings: TransferSettings) -> Tensor:
    """Blended similarity of videos to labels, in units of the typical spread over labels.

    Args:
        visual: v [B, D], embeddings of B videos.
        bank: the S seen classes.
        labels: the U labels with composed prototypes.

    Returns:
        [B, U]; a label's value does not depend on which other labels are asked for.
    """
    transfer = normalise(visual, dim=1) @ labels.visual.T
    named = conse(visual, bank, labels.semantic, settings.top_k, settings.logit_scale)
    share = settings.conse_weight
    return (1 - share) * transfer / settings.transfer_scale + share * named / settings.conse_scale


def to_shares(similarity: Tensor, sharpness: float) -> Tensor:
    """Softmax over labels, [B, U] -> [B, U], rows sum to 1.

    A share says how the labels compare with each other; it is not the probability that a label is true.
    """
    return torch.softmax(sharpness * similarity, dim=1)
