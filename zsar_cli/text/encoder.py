"""The sentence encoder that turns label text into semantic embeddings."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from zsar_cli.errors import ModelError
from zsar_cli.labels import Label

__all__ = ["SentenceEncoder", "TextEncoder", "encode_labels", "label_texts"]


class TextEncoder(Protocol):
    """Text to unit vectors. `fingerprint` changes whenever the vectors would."""

    fingerprint: str

    @property
    def languages(self) -> tuple[str, ...]:
        """What it was trained to understand, as codes of ISO 639-1 such as "en"; empty where that is not known."""
        ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), E], float32, unit rows, on the CPU."""
        ...


class SentenceEncoder:
    """A sentence-transformers model in a local folder, loaded on first use (that import takes seconds).

    Threads take turns.

    Args:
        folder: holds config, tokenizer and safetensors weights.
        fingerprint: what `encode` depends on, for caches and prototype files.
        languages: see `TextEncoder`.
    """

    def __init__(self, folder: Path, fingerprint: str, languages: tuple[str, ...] = ()) -> None:
        self.folder, self.fingerprint, self.languages = folder, fingerprint, languages
        self._model: Any = None
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), E], float32, unit rows, on the CPU: the same for any device the video model runs on."""
        with self._lock:
            if self._model is None:
                self._model = self._load()
            rows: Tensor = self._model.encode(
                list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False
            )
        return rows.float().cpu()

    def _load(self) -> Any:
        from sentence_transformers import SentenceTransformer

        try:
            with _no_loading_bars():
                return SentenceTransformer(str(self.folder), device="cpu", local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"the text encoder in {self.folder} cannot be loaded: {error}") from None


@contextlib.contextmanager
def _no_loading_bars() -> Iterator[None]:
    """transformers draws a bar while it reads weights; a quarter of a second needs none."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def label_texts(label: Label) -> list[str]:
    """All texts of one label: its readable name, its prompts filled in, its descriptions."""
    prompts = [prompt.replace("{}", label.text) for prompt in label.prompts]
    return [label.text, *prompts, *(f"{label.text}: {description}" for description in label.descriptions)]


def encode_labels(encoder: TextEncoder, labels: Sequence[Label]) -> Tensor:
    """T_u [U, E]: for each label the normalised mean of the embeddings of its texts."""
    return encode_text_groups(encoder, [label_texts(label) for label in labels])


def encode_text_groups(encoder: TextEncoder, groups: Sequence[Sequence[str]]) -> Tensor:
    """[len(groups), E], unit rows: the normalised mean over each group's texts. No group may be empty.

    Each distinct text is encoded once: the same text twice in a batch can differ in the last digit.
    """
    texts = [text for group in groups for text in group]
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    flat = encoder.encode(list(row_of))[[row_of[text] for text in texts]]
    owner = torch.tensor([index for index, group in enumerate(groups) for _ in group])
    sums = torch.zeros(len(groups), flat.shape[1]).index_add_(0, owner, flat)
    return torch.nn.functional.normalize(sums, dim=1)
