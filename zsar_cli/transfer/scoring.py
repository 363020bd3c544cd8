"""From one visual embedding to scores over labels. Pure: tensors in, tensors out.

Up to three estimators look at a label from different sides and disagree usefully, so their scores are blended:

- semantic transfer (ResT, arXiv 2205.01657): compose a visual prototype for each label, compare in the visual space;
- ConSE (Norouzi et al., ICLR 2014, arXiv 1312.5650): name the video by its likeliest seen classes, average their
  semantic embeddings, compare in the semantic space;
- text: where the model has a text tower into its visual space, compare with the label's text itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from zsar_cli.errors import UsageError
from zsar_cli.settings import Count, Positive, Weight, settings
from zsar_cli.transfer.bank import PrototypeBank, require_width

__all__ = ["TransferSettings", "aggregate", "conse", "decide_among", "score_labels", "to_shares"]

normalise, embedding_bag = torch.nn.functional.normalize, torch.nn.functional.embedding_bag


@settings
@dataclass(frozen=True)
class TransferSettings:
    """How scores are made; each model has its own.

    Args:
        top_k: seen classes that may compose one label (transfer), and that may name one video (ConSE).
        temperature: of relatedness, in units of cosine.
        transfer_weight, conse_weight, text_weight: of each estimator in the blend; estimators a model cannot offer
            are left out.
        logit_scale: turns cosine to a seen prototype into a logit for ConSE's posterior.
        transfer_scale, conse_scale, text_scale: typical spread over labels of each similarity, so that the blend
            adds like to like.
        sharpness: of the softmax that turns blended similarities into shares.
        aggregate: how the similarities of windows become those of the video, see `aggregate`.
    """

    top_k: Count = 20
    temperature: Positive = 0.05
    transfer_weight: Weight = 0.7
    conse_weight: Weight = 0.3
    text_weight: Weight = 0.0
    logit_scale: Positive = 25.0
    transfer_scale: Positive = 0.06
    conse_scale: Positive = 0.1
    text_scale: Positive = 0.03
    sharpness: Positive = 2.0
    aggregate: str = "mean"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"mean|max|top[1-9]\d*", self.aggregate):
            raise ValueError(f"aggregate is {self.aggregate}; allowed: mean, max, and top with a number, such as top3")


def conse(visual: Tensor, bank: PrototypeBank, semantic: Tensor, top_k: int, logit_scale: float) -> Tensor:
    """cos(sum over the top-k seen classes of p(s | v) T_s, T_u) (ConSE, equation 3).

    Args:
        visual: v [B, D]. bank: S seen classes. semantic: T_u [U, E].

    Returns:
        similarities [B, U] in -1..1.
    """
    posterior = torch.softmax(logit_scale * normalise(visual, dim=1) @ bank.visual.T, dim=1)
    values, indices = posterior.topk(min(top_k, len(bank)), dim=1)
    named = embedding_bag(indices, bank.semantic, per_sample_weights=values, mode="sum")
    return normalise(named, dim=1) @ normalise(semantic, dim=1).T


def score_labels(
    visual: Tensor,
    settings: TransferSettings,
    bank: PrototypeBank | None = None,
    composed: PrototypeBank | None = None,
    text: Tensor | None = None,
) -> Tensor:
    """Blended similarity of videos to labels, in units of the typical spread over labels.

    Args:
        visual: v [B, D], embeddings of B videos.
        bank: the S seen classes.
        composed: the U labels with prototypes composed from them.
        text: the U labels from the model's own text tower, [U, D], or as each video sees them, [B, U, D].

    Returns:
        [B, U]; a label's value does not depend on which other labels are asked for.

    Raises:
        UsageError: every estimator that could be used has the weight 0.
        PrototypeError: the prototypes have another width than the embeddings.
    """
    parts: list[tuple[float, Tensor]] = []
    unit = normalise(visual, dim=1)
    if bank is not None and composed is not None:
        require_width(unit, composed.visual, "visual")
        if settings.transfer_weight > 0:
            parts.append((settings.transfer_weight, unit @ composed.visual.T / settings.transfer_scale))
        if settings.conse_weight > 0:
            named = conse(visual, bank, composed.semantic, settings.top_k, settings.logit_scale)
            parts.append((settings.conse_weight, named / settings.conse_scale))
    if text is not None and settings.text_weight > 0:
        similarity = (normalise(text, dim=-1) @ unit[:, :, None]).squeeze(-1)
        parts.append((settings.text_weight, similarity / settings.text_scale))
    if not parts:
        raise UsageError("all weights of the estimators this model offers are 0: nothing would be scored")
    total = sum(weight for weight, _ in parts)
    (weight, first), *others = parts
    blended = weight / total * first
    for weight, similarity in others:
        blended = blended + weight / total * similarity
    return blended


def aggregate(similarity: Tensor, how: str = "mean") -> Tensor:
    """From the windows of a video to the video: [N, U] -> [U].

    Args:
        similarity: of N windows to U labels.
        how: "mean"; "max", the best window of each label; or "top3" and the like, the mean of each label's best 3.
    """
    if how == "mean":
        return similarity.mean(dim=0)
    best = 1 if how == "max" else int(how.removeprefix("top"))
    return similarity.topk(min(best, len(similarity)), dim=0).values.mean(dim=0)


def decide_among(general: Tensor, special: Tensor, known: Tensor, sharpness: float) -> Tensor:
    """Let a model divide, among the labels it knows, the share that another gives to all of them together.

        p(u) = p_general(u)                                  where u is not known,
        p(u) = p_general(known) p_special(u | known)         where it is,

    p being the shares of `to_shares`. So the special model never weighs a label it knows against one it does not.

    Args:
        general, special: similarities [N, U].
        known: bool [U].
        sharpness: of the shares.

    Returns:
        similarities [N, U] whose shares are p; `general` where fewer than two labels are known.
    """
    if known.sum() < 2:
        return general
    together = torch.logsumexp(sharpness * general[:, known], dim=1, keepdim=True)
    result = general.clone()
    result[:, known] = (together + torch.log_softmax(sharpness * special[:, known], dim=1)) / sharpness
    return result


def to_shares(similarity: Tensor, sharpness: float) -> Tensor:
    """Softmax over labels, [B, U] -> [B, U], rows sum to 1.

    A share says how the labels compare with each other; it is not the probability that a label is true.
    """
    return torch.softmax(sharpness * similarity, dim=1)
