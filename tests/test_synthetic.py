"""Trained from scratch on seen combinations, the model recognises unseen ones: the paper's claim in small."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch

BENCHMARK = Path(__file__).parent.parent / "examples" / "benchmarks" / "synthetic.py"


def load_benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("synthetic", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["synthetic"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_unseen_combinations_use_seen_words_only() -> None:
    synthetic = load_benchmark()
    names = synthetic.make_synthetic(clips=1).names
    assert len(set(names)) == 24
    for seed in range(20):
        seen, held = synthetic.split(24, 6, seed)
        assert sorted([*seen.tolist(), *held.tolist()]) == list(range(24))
        words = {word for i in seen.tolist() for word in names[i].split()}
        assert {word for i in held.tolist() for word in names[i].split()} <= words


def test_the_clip_shows_what_its_name_says() -> None:
    synthetic = load_benchmark()
    clip = synthetic.make_clip("red", "square", "down", torch.Generator().manual_seed(0))
    assert clip.shape == (4, 4, 4, 192)
    pixels = clip.unflatten(3, (8, 8, 3)).transpose(2, 3).flatten(1, 2).flatten(2, 3)  # [T, 32, 32, 3]
    red = pixels[..., 0] > 0.5
    rows = [frame.nonzero().float().mean(dim=0)[0].item() for frame in red]
    assert rows == sorted(rows) and rows[-1] - rows[0] > 6
    assert (pixels[..., 2] > 0.6).sum() == 0


def test_training_from_scratch_composes_unseen_combinations() -> None:
    synthetic = load_benchmark()
    found = synthetic.accuracy(synthetic.make_synthetic(40), 6, 0, synthetic.CONFIG)
    assert found["chance"] < 0.17
    assert found["no training"] < 0.5
    assert found["transfer"] >= 0.7
    assert found["direct text"] >= 0.7
