"""Relatedness of unseen to seen classes, the weights that compose unseen prototypes (ResT, arXiv 2205.01657)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["centre_rows", "relatedness", "top_softmax"]

SAME = 1 - 1e-5  # cosine above which two texts mean the same to the encoder

normalise = torch.nn.functional.normalize


def relatedness(unseen: Tensor, seen: Tensor, top_k: int, temperature: float, phrases: Tensor | None = None) -> Tensor:
    """A = row-softmax(top-k(c(T_u, T_s)) / tau), c the cosine.

    Where a class is described by several phrases, their mean T_s is near to no single one of them. Then c is the mean
    of the cosine to T_s and of the cosine to the nearest phrase.

    Args:
        unseen: T_u [U, E], semantic embeddings of the unseen labels.
        seen: T_s [S, E], semantic embeddings of the seen classes.
        top_k: how many seen classes may compose one unseen class; more than S means all.
        temperature: tau > 0 in units of cosine; small values trust the nearest class alone.
        phrases: [S, K, E], unit rows, the phrases of each class.

    Returns:
        A [U, S], rows sum to 1, at most top_k entries of a row are not 0. A label whose embedding equals that
        of a seen class is not a mixture: its row is that row of the identity.
    """
    unit = normalise(unseen, dim=1)
    cosine = unit @ normalise(seen, dim=1).T
    rows = top_softmax(cosine if phrases is None else (cosine + _nearest(unit, phrases)) / 2, top_k, temperature)
    same = cosine.amax(dim=1) > SAME
    rows[same] = torch.zeros_like(rows[same]).scatter_(1, cosine[same].argmax(dim=1, keepdim=True), 1.0)
    return rows


def top_softmax(similarity: Tensor, top_k: int, temperature: float) -> Tensor:
    """row-softmax(top-k(similarity) / temperature), [U, S] -> [U, S]; all but the top k of a row are 0."""
    values, indices = similarity.topk(min(top_k, similarity.shape[1]), dim=1)
    return torch.zeros_like(similarity).scatter_(1, indices, torch.softmax(values / temperature, dim=1))


def _nearest(unseen: Tensor, phrases: Tensor) -> Tensor:
    """Cosine to the nearest phrase of each class, [U, S]; one phrase at a time, for U may be thousands."""
    best = unseen @ phrases[:, 0].T
    for index in range(1, phrases.shape[1]):
        best = torch.maximum(best, unseen @ phrases[:, index].T)
    return best


def centre_rows(rows: Tensor, mean: Tensor | None = None) -> Tensor:
    """Unit rows after taking away their common direction, [S, D] -> [S, D].

    Prototypes of one classifier share a large common component, which makes every cosine alike; without it the
    cosine tells classes apart. A zero row stays zero.
    """
    return normalise(rows - (rows.mean(dim=0) if mean is None else mean), dim=1)
