"""The nested protocol of examples/benchmarks/builtin.py: what it may and may not choose by."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples" / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "builtin", raising=False)
    return importlib.import_module("builtin")


def test_shares_are_means_over_the_videos_of_each_class(bench: ModuleType) -> None:
    scores = torch.tensor([[9.0, 1, 2, 3, 4, 5, 6], [1.0, 9, 2, 3, 4, 5, 6], [6.0, 5, 0, 4, 3, 2, 1]])
    found = bench.shares(scores, np.array([0, 0, 2]))
    assert found.tolist() == [[0.5, 0.0], [0.5, 0.0]]  # class 0: one of two, and ranks 0 and 6; class 2: rank 6


def test_one_setting_is_simply_measured_and_the_better_of_two_is_chosen(bench: ModuleType) -> None:
    good, bad = np.full((2, 8), 0.75), np.full((2, 8), 0.25)
    np.testing.assert_allclose(bench.nested(bad[None], 50), [0.25, 0.25])
    np.testing.assert_allclose(bench.nested(np.stack([bad, good]), 50), [0.75, 0.75])


def test_a_setting_is_never_measured_on_the_classes_it_was_chosen_on(bench: ModuleType) -> None:
    """Of many settings that guess, the luckiest half of the classes picks one; the other half sees it for the guess."""
    rng = np.random.default_rng(1)
    guesses = (rng.random((400, 2, 20)) < 0.3).astype(float)
    best = guesses[:, 0].mean(axis=1).max()
    assert best > 0.5
    assert bench.nested(guesses, 200)[0] == pytest.approx(0.3, abs=0.06)
