"""What turns label text into semantic embeddings, and what of a label it is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from zsar_cli.labels import Label

__all__ = ["TextEncoder", "encode_labels", "label_texts"]


class TextEncoder(Protocol):
    """Text to unit vectors. `fingerprint` changes whenever the vectors would."""

    fingerprint: str

    @property
    def languages(self) -> tuple[str, ...]:
        """What it was trained to understand, as codes of ISO 639 such as "en"; empty where that is not known."""
        ...

    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), E], float32, unit rows, on the CPU."""
        ...


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
