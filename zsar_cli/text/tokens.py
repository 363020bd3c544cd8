"""Token embeddings of texts: what a Transformer of ours reads, where a single sentence embedding would hide words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zsar_cli.text.encoder import SentenceEncoder

__all__ = ["TextTokens", "TokenEncoder"]


@dataclass(frozen=True)
class TextTokens:
    """Tokens of R texts of different length.

    Args:
        tokens: float32 [R, L, E], zero where padded.
        keep: bool [R, L], False where padded; every text keeps at least one token.
        owner: int64 [R], the class of each text.
    """

    tokens: Tensor
    keep: Tensor
    owner: Tensor

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def select(self, rows: Tensor) -> TextTokens:
        """The given rows, int64 [R'] or bool [R]."""
        return TextTokens(self.tokens[rows], self.keep[rows], self.owner[rows])


class TokenEncoder(SentenceEncoder):
    """The sentence encoder, one step earlier: contextual token embeddings before they are averaged."""

    def tokens(self, groups: Sequence[Sequence[str]]) -> TextTokens:
        """Encode the texts of classes; for each class at least one."""
        texts = [text for group in groups for text in group]
        owner = [index for index, group in enumerate(groups) for _ in group]
        if self._model is None:
            self._model = self._load()
        rows: list[Tensor] = self._model.encode(texts, output_value="token_embeddings", show_progress_bar=False)
        longest = max(row.shape[0] for row in rows)
        tokens = torch.zeros(len(rows), longest, rows[0].shape[1])
        keep = torch.zeros(len(rows), longest, dtype=torch.bool)
        for index, row in enumerate(rows):
            tokens[index, : row.shape[0]] = row.float().cpu()
            keep[index, : row.shape[0]] = True
        return TextTokens(tokens, keep, torch.tensor(owner))
