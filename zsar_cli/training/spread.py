"""The spread of each kind of score over labels, measured on the training clips, so that a blend adds like to like."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.relatedness import relatedness
from zsar_cli.transfer.scoring import TransferSettings, conse

__all__ = ["calibrated"]

SMALLEST = 1e-4  # of a scale, in units of cosine


def calibrated(settings: TransferSettings, v: Tensor, seen: PrototypeBank, logit_scale: float) -> TransferSettings:
    """The settings with their scales measured.

    The seen classes play unseen: each gets a prototype that is composed of the others alone.

    Args:
        settings: top_k and temperature are used, the scales are replaced.
        v: unit rows [N, D], the training clips.
        seen: S classes in the same space, visual and semantic.
        logit_scale: the factor on cosines that the model was trained with.
    """
    top_k = min(settings.top_k, len(seen) - 1)
    rows = torch.arange(len(seen))
    composed = []
    for row in rows:
        others = rows[rows != row]
        weights = relatedness(seen.semantic[row, None], seen.semantic[others], top_k, settings.temperature)
        composed.append(F.normalize(weights @ seen.visual[others], dim=1)[0])
    return replace(
        settings,
        logit_scale=logit_scale,
        transfer_scale=_spread(v @ torch.stack(composed).T),
        conse_scale=_spread(conse(v, seen, seen.semantic, settings.top_k, logit_scale)),
        text_scale=_spread(v @ seen.semantic.T),
    )


def _spread(scores: Tensor) -> float:
    """Root mean square over clips and labels of scores [N, S], each less its clip's mean, four digits."""
    centred = scores - scores.mean(dim=1, keepdim=True)
    return max(SMALLEST, float(f"{float(centred.square().mean().sqrt()):.4g}"))
