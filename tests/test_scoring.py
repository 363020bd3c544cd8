"""Scores against plain numpy, and what a blend may not depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from zsar_cli.errors import UsageError
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.compose import compose
from zsar_cli.transfer.scoring import TransferSettings, aggregate, conse, score_labels, to_shares

GENERATOR = torch.Generator().manual_seed(5)
UNIT = torch.nn.functional.normalize
BANK = PrototypeBank(
    tuple(f"class {index}" for index in range(12)),
    UNIT(torch.randn(12, 7, generator=GENERATOR)),
    UNIT(torch.randn(12, 5, generator=GENERATOR)),
    "m",
    "t",
)
SEMANTIC = UNIT(torch.randn(4, 7, generator=GENERATOR))
VISUAL = torch.randn(3, 5, generator=GENERATOR)
TEXT = torch.randn(4, 5, generator=GENERATOR)
NAMES = ("a", "b", "c", "d")


def composed(settings: TransferSettings, names: tuple[str, ...] = NAMES) -> PrototypeBank:
    rows = [NAMES.index(name) for name in names]
    return compose(BANK, names, SEMANTIC[rows], settings.top_k, settings.temperature)[0]


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def conse_loop(top_k: int, scale: float) -> np.ndarray:
    result = np.zeros((len(VISUAL), len(SEMANTIC)))
    for row, video in enumerate(VISUAL.double().numpy()):
        powers = np.array([np.exp(scale * cosine(video, seen)) for seen in BANK.visual.double().numpy()])
        posterior = powers / powers.sum()
        best = np.argsort(-posterior)[:top_k]
        named = sum(posterior[index] * BANK.semantic[index].double().numpy() for index in best)
        result[row] = [cosine(named, label) for label in SEMANTIC.double().numpy()]
    return result


@pytest.mark.parametrize("top_k", [1, 4, 50])
def test_conse_agrees_with_a_loop(top_k: int) -> None:
    found = conse(VISUAL, BANK, SEMANTIC, top_k, logit_scale=9.0)
    np.testing.assert_allclose(found.numpy(), conse_loop(top_k, 9.0), atol=1e-5)


def test_the_blend_is_the_weighted_mean_of_scaled_similarities() -> None:
    settings = TransferSettings(
        top_k=4, transfer_weight=2, conse_weight=1, text_weight=3,
        transfer_scale=0.1, conse_scale=0.2, text_scale=0.5, logit_scale=9,
    )  # fmt: skip
    labels = composed(settings)
    parts = np.stack(
        [
            [[cosine(v, p) / 0.1 for p in labels.visual.numpy()] for v in VISUAL.numpy()],
            conse_loop(4, 9.0) / 0.2,
            [[cosine(v, t) / 0.5 for t in TEXT.numpy()] for v in VISUAL.numpy()],
        ]
    )
    found = score_labels(VISUAL, settings, BANK, labels, TEXT)
    np.testing.assert_allclose(found.numpy(), np.average(parts, axis=0, weights=[2, 1, 3]), atol=1e-4)


def test_a_model_without_a_bank_is_scored_by_its_text_alone() -> None:
    found = score_labels(VISUAL, TransferSettings(text_weight=0.5, text_scale=1.0), text=TEXT)
    torch.testing.assert_close(found, UNIT(VISUAL) @ UNIT(TEXT).T)


def test_a_score_does_not_depend_on_the_other_labels() -> None:
    settings = TransferSettings()
    together = score_labels(VISUAL, settings, BANK, composed(settings))
    alone = score_labels(VISUAL, settings, BANK, composed(settings, ("c",)))
    torch.testing.assert_close(together[:, 2:3], alone)


def test_shares_sum_to_one_and_keep_the_order() -> None:
    similarity = torch.tensor([[1.0, 3.0, 2.0]])
    shares = to_shares(similarity, 2.0)
    np.testing.assert_allclose(shares.numpy(), np.exp([[2, 6, 4]]) / np.exp([2, 6, 4]).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 0}, "top_k is 0; it must be greater than or equal to 1"),
        ({"aggregate": "top0"}, "aggregate is top0; allowed: mean, max, and top"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be greater than 0"),
        ({"conse_weight": -1.0}, "conse_weight is -1.0; it must be greater than or equal to 0"),
    ],
)
def test_settings_are_checked(fields: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(TransferSettings(), **fields)


def test_nothing_to_score_with_is_an_error() -> None:
    settings = TransferSettings(transfer_weight=0, conse_weight=0)
    with pytest.raises(UsageError, match="nothing would be scored"):
        score_labels(VISUAL, settings, BANK, composed(settings))


@pytest.mark.parametrize("how", ["mean", "max", "top3"])
def test_of_one_window_the_video_has_the_very_numbers(how: str) -> None:
    similarity = torch.randn(1, 50)
    assert torch.equal(aggregate(similarity, how), similarity[0])  # `similarities` aggregates nothing then


@pytest.mark.parametrize("windows", [1, 2, 7])
def test_windows_are_aggregated_as_a_loop_would(windows: int) -> None:
    similarity = torch.randn(windows, 5, generator=GENERATOR)
    columns = similarity.numpy().T
    np.testing.assert_allclose(aggregate(similarity), [column.mean() for column in columns], atol=1e-6)
    np.testing.assert_allclose(aggregate(similarity, "max"), [column.max() for column in columns], atol=1e-6)
    best = [np.mean(sorted(column)[-3:]) for column in columns]
    np.testing.assert_allclose(aggregate(similarity, "top3"), best, atol=1e-6)
