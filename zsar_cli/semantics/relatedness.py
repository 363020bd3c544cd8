"""Relatedness of unseen to seen classes, the weights that compose unseen prototypes (ResT, arXiv 2205.01657)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["centre_rows", "relatedness"]


def relatedness(unseen: Tensor, seen: Tensor, top_k: int, temperature: float) -> Tensor:
    """A = row-softmax(top-k(cos(T_u, T_s)) / tau).

    Args:
        unseen: T_u [U, E], semantic embeddings of the unseen labels.
        seen: T_s [S, E], semantic embeddings of the seen classes.
        top_k: how many seen classes may compose one unseen class; more than S means all.
        temperature: tau > 0 in units of cosine; small values trust the nearest class alone.

    Returns:
        A [U, S], rows sum to 1, at most top_k entries of a row are not 0. A label whose embedding equals that
        of a seen class is not a mixture: its row is that row of the identity.
    """
    cosine = torch.nn.functional.normalize(unseen, dim=1) @ torch.nn.functional.normalize(seen, dim=1).T
    values, indices = cosine.topk(min(top_k, seen.shape[0]), dim=1)
    rows = torch.zeros_like(cosine).scatter_(1, indices, torch.softmax(values / temperature, dim=1))
    same = values[:, 0] > 1 - 1e-5
    rows[same] = torch.zeros_like(rows[same]).scatter_(1, indices[same, :1], 1.0)
    return rows


def centre_rows(rows: Tensor, mean: Tensor | None = None) -> Tensor:
    """Unit rows after taking away their common direction, [S, D] -> [S, D].

    Prototypes of one classifier share a large common component, which makes every cosine alike; without it the
    cosine tells classes apart. A zero row stays zero.
    """
    return torch.nn.functional.normalize(rows - (rows.mean(dim=0) if mean is None else mean), dim=1)
