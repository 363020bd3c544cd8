"""Two processes with a batch each are one process with both batches."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cli_runner import Finished, Runner
from safetensors.torch import load_file
from test_training import CLASSES, CONFIG, SHAPE, make_features, make_texts
from torch import Tensor
from torch.nn.functional import one_hot
from training_data import SMALL, write_dataset, write_settings

from zsar_cli.errors import ConfigError, MissingExtraError
from zsar_cli.training.team import Team
from zsar_cli.training.train import Batch, initial_state, objectives

Here = Callable[..., Finished]


def test_two_processes_train_as_one_with_the_doubled_batch(tmp_path: Path, zsar: Runner, zsar_here: Here) -> None:
    data = write_dataset(tmp_path / "data")
    # Dropout would draw other masks for half the clips; a bad file shows that every process skips the same.
    (data / "red_thing" / "bad.mp4").write_bytes(b"no video at all")
    settings = write_settings(tmp_path, "dropout: 0.0\naccumulation: 2\n")
    run = ("-m", "zsar_cli", "train", str(data), "--steps", "4", *SMALL, str(settings))
    two = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *run,
           "-o", str(tmp_path / "two")]  # fmt: skip
    environment = zsar.environment(ACCELERATE_LOG_LEVEL="ERROR")
    finished = subprocess.run(two, env=environment, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("1 of 9 videos were skipped") == 1, finished.stderr
    zsar_here(*run[2:], "-o", tmp_path / "one", "--batch-size", 16, code=3)
    curves = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(curves[0]) == len(curves[1]) == 4
    for step, (one, both) in enumerate(zip(*curves, strict=True)):
        assert one.keys() == both.keys()
        # Adam's first steps follow the sign of gradients, so rounding of those near 0 is seen later on.
        assert both == pytest.approx(one, rel=1e-2 if step else 1e-5)
    assert abs(curves[0][3]["loss"] - curves[0][0]["loss"]) > 0.05
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("one", "two")]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-2, atol=2e-3)


class Half(Team):
    """One of two processes, told what the other one would send."""

    def __init__(self, rank: int, whole: Tensor) -> None:
        self.rank, self.count = rank, 2
        self._accelerator = SimpleNamespace(gather=lambda mine: whole)


def test_the_mean_of_the_gradients_is_that_of_the_whole_batch() -> None:
    features, texts = make_features(), make_texts()
    state = initial_state(features, texts, replace(SHAPE, dropout=0.0), CONFIG)
    shares = one_hot(features.targets[:12], CLASSES).float()
    batch = Batch(features.grids[:12, 0], shares, torch.ones(12, dtype=torch.bool))

    def gradients(team: Team | None) -> list[Tensor]:
        generator = torch.Generator().manual_seed(4)
        losses = objectives(state.model, state.head, batch, texts, CONFIG, generator, team)
        assert len(losses) == 5
        parameters = [*state.model.parameters(), *state.head.parameters()]
        return list(torch.autograd.grad(torch.stack(list(losses.values())).sum(), parameters))

    whole = state.model.encode_video(batch.grids).detach()
    halves = [gradients(Half(rank, whole)) for rank in (0, 1)]
    for one, first, second in zip(gradients(None), *halves, strict=True):
        torch.testing.assert_close((first + second) / 2, one, rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(first, second) for first, second in zip(*halves, strict=True))


def test_batches_must_be_shared_evenly() -> None:
    with pytest.raises(ConfigError, match=r"batch \(6\) must be a multiple of accumulation \(4\)"):
        Team.check(Team.__new__(Team), 6, 4)


def test_accelerate_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match=r"pip install accelerate"):
        Team()
