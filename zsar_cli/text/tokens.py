"""Token embeddings of texts: what a Transformer of ours reads, where a single sentence embedding would hide words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from zsar_cli.text.encoder import TextEncoder

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


class TokenEncoder(TextEncoder, Protocol):
    """A text encoder that also gives what it averages: contextual embeddings of tokens."""

    def tokens(self, groups: Sequence[Sequence[str]]) -> TextTokens:
        """Encode the texts of classes; for each class at least one."""
        ...
