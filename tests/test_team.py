"""Two processes with a batch each are one process with both batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli_runner import ROOT, Finished, Runner
from safetensors.torch import load_file
from training_data import SMALL, write_dataset, write_settings

from zsar_cli.training.team import Team

Here = Callable[..., Finished]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TIMES = ("waiting", "computing")


@pytest.mark.parametrize("source", ["grids", "raw"])
def test_two_processes_train_as_one_with_the_doubled_batch(
    tmp_path: Path, zsar: Runner, zsar_here: Here, source: str
) -> None:
    data = write_dataset(tmp_path / "data")
    # A bad file shows that every process skips the same.
    (data / "red_thing" / "bad.mp4").write_bytes(b"no video at all")
    # Dropout would draw other masks for half the clips.
    settings = write_settings(tmp_path, "dropout: 0.0\naccumulation: 2\nvalidation: 0.25\nevaluate_every: 2\n")
    run = ("train", str(data), "--steps", "4", "--source", source, *SMALL, str(settings))
    for name in ("black", "white"):
        (data / f"{name}_thing").symlink_to(data / "blue_thing", target_is_directory=True)
    two = [*TORCHRUN, "-m", "zsar_cli", *run, "-o", str(tmp_path / "two")]
    environment = zsar.environment(OMP_NUM_THREADS="1")
    finished = subprocess.run(two, env=environment, capture_output=True, text=True, timeout=280)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("1 of 13 videos were skipped") == 1, finished.stderr
    zsar_here(*run, "-o", tmp_path / "one", "--batch-size", 16, code=3)
    curves = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    ]
    assert len(curves[0]) == len(curves[1]) == 4
    for step, (one, both) in enumerate(zip(*curves, strict=True)):
        assert one.keys() == both.keys() and ("validation" in one) == (step in (1, 3))
        wanted, found = ({key: value for key, value in record.items() if key not in TIMES} for record in (one, both))
        # Adam's first steps follow the sign of gradients, so rounding of those near 0 is seen later on.
        assert found == pytest.approx(wanted, rel=1e-2 if step else 1e-5)
    weights = [load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("one", "two")]
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-2, atol=4e-3)


FIFTY = """
import json, os, sys
from dataclasses import replace
import torch
torch.set_num_threads(1)
from test_raw import STILL, Shades, networks
from test_training import CONFIG, SCORING, SHAPE, make_features, make_texts
from zsar_cli.training.loop import train
from zsar_cli.training.start import Networks
from zsar_cli.training.team import Team
from pathlib import Path

source, parts, target = sys.argv[1:]
team = Team.of_torchrun(torch.device("cpu")) if "WORLD_SIZE" in os.environ else Team()
config = replace(CONFIG, steps=50, batch=12 // team.count, accumulation=int(parts), match_pairs=4)
clips, shown = (
    (make_features(), Networks(replace(SHAPE, dropout=0.0)))
    if source == "grids"
    else (Shades(), networks(STILL, True))
)
records = []
train(clips, make_texts(), shown, config, SCORING, lambda record, state: records.append(dict(record)), team=team)
if team.first:
    Path(target).write_text(json.dumps([record["loss"] for record in records]))
team.close()
"""


@pytest.mark.parametrize("source", ["grids", "raw"])
def test_after_fifty_steps_the_losses_are_still_those_of_one_process(tmp_path: Path, source: str) -> None:
    script = tmp_path / "fifty.py"
    script.write_text(FIFTY)
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    losses = []
    for before, parts in (([sys.executable], 1), (TORCHRUN, 1), (TORCHRUN, 3)):
        target = tmp_path / "losses.json"
        command = [*before, str(script), source, str(parts), str(target)]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            timeout=280,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        losses.append(json.loads(target.read_text()))
    for others in losses[1:]:
        assert others[0] == pytest.approx(losses[0][0], rel=1e-5)
        assert others == pytest.approx(losses[0], rel=1e-3)
    assert losses[0][-1] < losses[0][0]


def test_shares_of_any_number_are_all_of_it() -> None:
    team = Team()
    assert team.share(7) == range(7) and team.gather(torch.ones(3, 2), 3).shape == (3, 2)
    team.count = 3
    for total in (1, 2, 7, 9):
        rows = [row for rank in range(3) for row in team.share(total, rank)]
        assert rows == list(range(total))
