"""Label text to embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zsar_cli.labels import Label
from zsar_cli.text.encoder import encode_labels, encode_text_groups, label_texts
from zsar_cli.text.minilm import minilm


class Lengths:
    """A stand-in whose vectors say which text they came from."""

    fingerprint = "lengths"

    def encode(self, texts: Sequence[str]) -> Tensor:
        rows = torch.tensor([[len(text), text.count("a"), 1.0] for text in texts])
        return torch.nn.functional.normalize(rows, dim=1)


def test_a_label_speaks_through_its_name_prompts_and_descriptions() -> None:
    label = Label("PushUp", descriptions=("lying face down",), prompts=("a video of {}", "someone exercising"))
    assert label_texts(label) == ["push up", "a video of push up", "someone exercising", "push up: lying face down"]


def test_groups_are_normalised_means() -> None:
    groups = [["abc", "banana"], ["x"]]
    rows = [Lengths().encode(group).numpy() for group in groups]
    expected = np.stack([row.mean(axis=0) / np.linalg.norm(row.mean(axis=0)) for row in rows])
    np.testing.assert_allclose(encode_text_groups(Lengths(), groups).numpy(), expected, rtol=1e-6)


def test_a_text_that_several_labels_share_is_encoded_once() -> None:
    class Drifting(Lengths):
        """Answers that differ for the same text twice in a batch, as some processors give them."""

        def encode(self, texts: Sequence[str]) -> Tensor:
            return super().encode(texts) + torch.arange(len(texts)).unsqueeze(1) / 1000

    rows = encode_text_groups(Drifting(), [["crane"], ["heron", "crane"], ["crane"], ["heron", "crane"]])
    assert torch.equal(rows[0], rows[2]) and torch.equal(rows[1], rows[3])


def test_minilm_knows_what_is_related() -> None:
    names = ["riding a bike", "cycling on a road", "playing the violin"]
    rows = encode_labels(minilm(), [Label(name) for name in names])
    assert rows.shape == (3, 384)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(3))
    cosine = rows @ rows.T
    assert cosine[0, 1] > 0.5 > cosine[0, 2]


def test_a_text_has_one_embedding_whatever_its_company() -> None:
    encoder = minilm()
    company = [f"doing something with {count} long words and more of them" for count in range(40)]
    alone = encoder.encode(["archery"])
    torch.testing.assert_close(encoder.encode([*company, "archery"])[-1:], alone, atol=1e-5, rtol=0)
