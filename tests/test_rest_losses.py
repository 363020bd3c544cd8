"""Every objective against a loop in numpy that follows its equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from zsar_cli.training.losses import (
    alignment_loss,
    consistency_loss,
    discrimination_loss,
    episodic_loss,
    hard_negatives,
    matching_loss,
)

Array = NDArray[np.float64]
B, U, S, D = 6, 4, 5, 8


def rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cos(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def log_softmax(values: list[float]) -> Array:
    array = np.array(values)
    return array - np.log(np.exp(array).sum())


TARGETS = torch.tensor([0, 1, 2, 0, 4, 4])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_discrimination_follows_its_equation(smoothing: float) -> None:
    v, p = rows(B, 0), rows(S, 1)
    expected = 0.0
    for b, target in enumerate(TARGETS.tolist()):
        logs = log_softmax([7 * cos(v[b].numpy(), p[s].numpy()) for s in range(S)])
        share = np.full(S, smoothing / S)
        share[target] += 1 - smoothing
        expected -= float(share @ logs) / B
    assert discrimination_loss(v, p, TARGETS, 7.0, smoothing).item() == pytest.approx(expected)


def test_discrimination_of_mixed_videos_is_the_mixture_of_losses() -> None:
    v, p = rows(1, 0), rows(S, 1)
    first, second = (discrimination_loss(v, p, torch.tensor([c]), 7.0).item() for c in (1, 3))
    shares = torch.zeros(1, S, dtype=torch.float64)
    shares[0, 1], shares[0, 3] = 0.3, 0.7
    assert discrimination_loss(v, p, shares, 7.0).item() == pytest.approx(0.3 * first + 0.7 * second)


def test_alignment_counts_every_positive_in_both_directions() -> None:
    v, t = rows(B, 2), rows(U, 3)
    owner = [0, 0, 1, 2, 2, 2]  # label 3 has no video
    positives = torch.nn.functional.one_hot(torch.tensor(owner), U).bool()
    there = -np.mean([log_softmax([5 * cos(v[b].numpy(), t[u].numpy()) for u in range(U)])[owner[b]] for b in range(B)])
    back = []
    for u in range(3):
        logs = log_softmax([5 * cos(v[b].numpy(), t[u].numpy()) for b in range(B)])
        back.append(-np.mean([logs[b] for b in range(B) if owner[b] == u]))
    assert alignment_loss(v, t, positives, 5.0).item() == pytest.approx((there + np.mean(back)) / 2)


def test_hard_negatives_are_the_most_similar_wrong_pairs() -> None:
    similarity = torch.tensor([[0.9, 0.1, 0.8], [0.2, 0.7, 0.3], [0.6, 0.5, 0.4]])
    positives = torch.tensor([[True, False, False], [False, True, False], [True, True, True]])
    videos, labels = hard_negatives(similarity, positives)
    # Video 2 shows every label; then, for labels 0, 1, 2 the most similar video that does not show them.
    assert list(zip(videos.tolist(), labels.tolist(), strict=True)) == [(0, 2), (1, 2), (1, 0), (0, 1), (0, 2)]


def test_matching_is_balanced_cross_entropy() -> None:
    right, wrong = np.array([1.0, -2.0]), np.array([0.5, 3.0, -1.0])
    expected = (np.log(1 + np.exp(-right)).mean() + np.log(1 + np.exp(wrong)).mean()) / 2
    logits, is_right = torch.tensor([*right, *wrong]), torch.arange(5) < 2
    assert matching_loss(logits, is_right, is_right).item() == pytest.approx(expected)
    parts = [matching_loss(logits[part], is_right[part], is_right).item() for part in (slice(0, 3), slice(3, 5))]
    assert sum(parts) == pytest.approx(expected)
    alone = matching_loss(logits[:2], is_right[:2], is_right[:2]).item()
    assert alone == pytest.approx(np.log(1 + np.exp(-right)).mean())


def test_consistency_is_the_divergence_of_the_two_relatedness_matrices() -> None:
    p, t = rows(S, 4), rows(S, 5)
    expected = 0.0
    for s in range(S):
        others = [r for r in range(S) if r != s]
        a = log_softmax([cos(t[s].numpy(), t[r].numpy()) / 0.3 for r in others])
        b = log_softmax([cos(p[s].numpy(), p[r].numpy()) / 0.3 for r in others])
        expected += float(np.exp(a) @ (a - b)) / S
    assert consistency_loss(p, t, 0.3).item() == pytest.approx(expected)
    assert consistency_loss(t, t, 0.3).item() == pytest.approx(0, abs=1e-12)


def test_consistency_moves_the_prototypes_and_not_the_labels() -> None:
    p, t = rows(S, 4).requires_grad_(), rows(S, 5).requires_grad_()
    consistency_loss(p, t, 0.3).backward()
    assert p.grad is not None and p.grad.abs().sum() > 0
    assert t.grad is None


def test_episodic_composes_the_held_out_classes_from_the_others() -> None:
    v, p, t = rows(B, 6), rows(S, 7), rows(S, 8)
    held, kept = [0, 4], [1, 2, 3]
    composed = []
    for h in held:
        weights = np.exp(log_softmax([cos(t[h].numpy(), t[s].numpy()) / 0.2 for s in kept]))
        composed.append(
            sum(w * p[s].numpy() / np.linalg.norm(p[s].numpy()) for w, s in zip(weights, kept, strict=True))
        )
    losses = []
    for b, target in enumerate(TARGETS.tolist()):
        if target in held:
            logs = log_softmax([6 * cos(v[b].numpy(), row) for row in composed])
            losses.append(-logs[held.index(target)])
    held_out = torch.tensor([s in held for s in range(S)])
    result = episodic_loss(v, TARGETS, p, t, held_out, 0.2, 6.0).item()
    assert len(losses) == 4
    assert result == pytest.approx(np.mean(losses))


def test_episodic_without_a_held_out_video_is_zero_and_differentiable() -> None:
    v = rows(2, 6).requires_grad_()
    held_out = torch.tensor([False, False, False, True, True])
    loss = episodic_loss(v, torch.tensor([0, 1]), rows(S, 7), rows(S, 8), held_out, 0.2, 6.0)
    loss.backward()
    assert loss.item() == 0
    assert v.grad is not None and not v.grad.any()
