"""BERT (Devlin et al., arXiv 1810.04805), as far as its token embeddings: a forward pass over published weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["token_embeddings"]

EPSILON = 1e-12  # of every layer norm


def token_embeddings(weights: Mapping[str, Tensor], tokens: Tensor, keep: Tensor, heads: int) -> Tensor:
    """What the last layer makes of each token.

    Args:
        weights: float32, under the names that Transformers gives them.
        tokens: int64 [R, L], numbers of the vocabulary.
        keep: bool [R, L], False where padded: no token attends there.
        heads: of attention, a divisor of the width E.

    Returns:
        float32 [R, L, E].
    """
    kind, place = weights["embeddings.token_type_embeddings.weight"], weights["embeddings.position_embeddings.weight"]
    embedded = F.embedding(tokens, weights["embeddings.word_embeddings.weight"]) + kind[0] + place[: tokens.shape[1]]
    x = _norm(weights, "embeddings", embedded)
    layer = 0
    while f"encoder.layer.{layer}.output.dense.weight" in weights:
        x = _layer(weights, f"encoder.layer.{layer}", x, keep, heads)
        layer += 1
    return x


def _layer(weights: Mapping[str, Tensor], name: str, x: Tensor, keep: Tensor, heads: int) -> Tensor:
    """Attention, then two linear maps of each token; after both the input is added and the sum normalised."""
    query, key, value = (
        _linear(weights, f"{name}.attention.self.{part}", x).reshape(*x.shape[:2], heads, -1).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=keep[:, None, None, :])
    seen = _linear(weights, f"{name}.attention.output.dense", seen.transpose(1, 2).flatten(2))
    x = _norm(weights, f"{name}.attention.output", x + seen)
    wide = F.gelu(_linear(weights, f"{name}.intermediate.dense", x))
    return _norm(weights, f"{name}.output", x + _linear(weights, f"{name}.output.dense", wide))


def _linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    scale, shift = weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"]
    normalised: Tensor = torch.layer_norm(x, x.shape[-1:], scale, shift, EPSILON)
    return normalised
