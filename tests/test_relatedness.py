"""Relatedness against a plain numpy loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zsar_cli.transfer.relatedness import centre_rows, relatedness


def oracle(unseen: np.ndarray, seen: np.ndarray, top_k: int, temperature: float) -> np.ndarray:
    """Row by row, with a sort and a sum."""
    result = np.zeros((len(unseen), len(seen)))
    for row, label in enumerate(unseen):
        cosine = [float(label @ other / np.linalg.norm(label) / np.linalg.norm(other)) for other in seen]
        best = sorted(range(len(seen)), key=lambda index: -cosine[index])[:top_k]
        powers = {index: np.exp(cosine[index] / temperature) for index in best}
        for index, power in powers.items():
            result[row, index] = power / sum(powers.values())
    return result


@pytest.mark.parametrize(("top_k", "temperature"), [(1, 0.1), (3, 0.05), (7, 1.0), (100, 0.2)])
def test_agrees_with_a_loop(top_k: int, temperature: float) -> None:
    rng = np.random.default_rng(7)
    unseen, seen = rng.normal(size=(5, 12)), rng.normal(size=(20, 12))
    found = relatedness(torch.from_numpy(unseen), torch.from_numpy(seen), top_k, temperature).numpy()
    np.testing.assert_allclose(found, oracle(unseen, seen, top_k, temperature), atol=1e-12)


def test_a_label_with_the_embedding_of_a_seen_class_is_that_class() -> None:
    seen = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    found = relatedness(3 * seen[4:5], seen, 5, 0.5)
    assert found.tolist() == [[0, 0, 0, 0, 1, 0]]


def test_phrases_count_by_the_nearest_one() -> None:
    rng = np.random.default_rng(11)
    phrases = rng.normal(size=(6, 3, 8))
    phrases /= np.linalg.norm(phrases, axis=2, keepdims=True)
    seen = phrases.mean(axis=1)
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    unseen = rng.normal(size=(4, 8))
    unseen /= np.linalg.norm(unseen, axis=1, keepdims=True)
    expected = np.zeros((4, 6))
    for row, label in enumerate(unseen):
        near = [
            (label @ mean + max(label @ phrase for phrase in of)) / 2 for mean, of in zip(seen, phrases, strict=True)
        ]
        best = np.argsort(near)[::-1][:2]
        powers = np.exp(np.array(near)[best] / 0.1)
        expected[row, best] = powers / powers.sum()
    found = relatedness(*map(torch.from_numpy, (unseen, seen)), 2, 0.1, torch.from_numpy(phrases))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)
    assert not np.allclose(expected, oracle(unseen, seen, 2, 0.1))
    # The mean of a class is that class, whichever phrase of another class is near.
    mean = torch.from_numpy(seen)
    assert torch.equal(relatedness(mean, mean, 3, 0.1, torch.from_numpy(phrases)), torch.eye(6, dtype=mean.dtype))



def test_order_of_labels_and_classes_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    unseen, seen = torch.randn(4, 8, generator=generator), torch.randn(9, 8, generator=generator)
    rows, columns = torch.tensor([2, 0, 3, 1]), torch.randperm(9, generator=generator)
    expected = relatedness(unseen, seen, 3, 0.1)[rows][:, columns]
    torch.testing.assert_close(relatedness(unseen[rows], seen[columns], 3, 0.1), expected)


def test_centred_rows_have_length_one_and_no_common_direction() -> None:
    rows = torch.randn(50, 16, generator=torch.Generator().manual_seed(2)) + 5
    centred = centre_rows(rows)
    expected = rows.numpy() - rows.numpy().mean(axis=0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(centred.numpy(), expected, atol=1e-5)
