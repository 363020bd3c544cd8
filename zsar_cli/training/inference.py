"""From a trained `RestModel` to scores over labels it never saw. Pure: model and tensors in, tensors out.

Shape letters: N clips, V views, R texts, K bank entries, U labels, D dimensions of the shared space.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.networks.rest import RestModel
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.losses import cosines
from zsar_cli.transfer.relatedness import relatedness

__all__ = [
    "SeenBank",
    "blend",
    "embed_clips",
    "embed_texts",
    "mean_per_class",
    "seen_bank",
    "text_scores",
    "transfer_scores",
]

CHUNK = 64  # clips or texts per forward pass: bounds memory, changes no result


@dataclass(frozen=True)
class SeenBank:
    """What is known of K seen texts: semantic embeddings [K, D] and visual prototypes [K, D], unit rows."""

    semantic: Tensor
    visual: Tensor


@torch.no_grad()
def embed_clips(model: RestModel, grids: Tensor) -> Tensor:
    """[N, V, T, G, G, C], any floating type -> unit rows [N, D], the mean over views."""
    means = []
    for part in torch.split(grids, CHUNK):
        v = F.normalize(model.encode_video(part.flatten(0, 1).float()), dim=1)
        means.append(v.reshape(*part.shape[:2], -1).mean(dim=1))
    return F.normalize(torch.cat(means), dim=1).clone()


@torch.no_grad()
def embed_texts(model: RestModel, tokens: Tensor, keep: Tensor) -> Tensor:
    """[R, L, E], [R, L] -> unit rows [R, D]."""
    parts = [
        model.encode_text(*pair) for pair in zip(torch.split(tokens, CHUNK), torch.split(keep, CHUNK), strict=True)
    ]
    return F.normalize(torch.cat(parts), dim=1)


@torch.no_grad()
def seen_bank(model: RestModel, prototypes: Tensor, grids: Tensor, texts: TextTokens) -> SeenBank:
    """Every text of a seen class points to the prototype of its class, every caption to its own clip."""
    visual = F.normalize(prototypes, dim=1)[texts.owner].clone()
    captions = texts.clip >= 0
    if captions.any():
        visual[captions] = embed_clips(model, grids[texts.clip[captions]])
    return SeenBank(embed_texts(model, texts.tokens, texts.keep), visual)


def transfer_scores(
    v: Tensor, t: Tensor, owner: Tensor, bank: SeenBank, top_k: int = 10, temperature: float = 0.1
) -> Tensor:
    """Cosine of clips to prototypes composed for labels: each text of a label composes one, the label's is their mean.

    Args:
        v: [N, D]. t: [R, D], embeddings of the labels' texts. owner: int64 [R], label of each text, 0..U-1.
        bank: the seen texts. top_k, temperature: see `semantics.relatedness`.

    Returns:
        [N, U].
    """
    composed = F.normalize(relatedness(t, bank.semantic, top_k, temperature) @ bank.visual, dim=1)
    return cosines(v, _mean_by_owner(composed, owner))


def text_scores(v: Tensor, t: Tensor, owner: Tensor) -> Tensor:
    """Direct text matching: cosine of clips [N, D] to the mean over each label's texts [R, D] -> [N, U]."""
    return cosines(v, _mean_by_owner(t, owner))


def blend(*scores: Tensor) -> Tensor:
    """Sum of scores [N, U] of several kinds, each less its mean over labels and in units of its spread over labels.

    The spread is that of all the rows given, so it needs a sample of clips; one clip alone gives its own spread.
    """
    centred = [score - score.mean(dim=1, keepdim=True) for score in scores]
    return torch.stack([score / score.square().mean().sqrt().clamp(min=1e-12) for score in centred]).sum(dim=0)


def mean_per_class(scores: Tensor, targets: Tensor) -> float:
    """Share of rows whose largest score is their target's, mean over the classes that occur: [N, U], [N] -> 0..1."""
    right = (scores.argmax(dim=1) == targets).double()
    return float(torch.stack([right[targets == index].mean() for index in torch.unique(targets)]).mean())


def _mean_by_owner(rows: Tensor, owner: Tensor) -> Tensor:
    return rows.new_zeros(int(owner.max()) + 1, rows.shape[1]).index_add_(0, owner, rows)
