"""The benchmark of the video embedding benchmark's protocol: its prompts, its list of videos, its measures."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cli_runner import Runner
from PIL import Image

FILE = Path(__file__).parents[1] / "examples" / "benchmarks" / "mveb.py"


@pytest.fixture(scope="module")
def mveb() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mveb", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_prompts_are_those_of_the_protocol(mveb: ModuleType) -> None:
    (label,) = mveb.labels_of("hmdb51", ["brush_hair"])
    assert label == {"name": "brush_hair", "prompts": ["a video of brush hair"]}
    assert mveb.labels_of("ucf101", ["ApplyEyeMakeup"])[0]["prompts"] == ["a video of ApplyEyeMakeup"]


@pytest.mark.filterwarnings("ignore")
def test_measures_are_those_of_scikit_learn(mveb: ModuleType) -> None:
    from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

    generator = np.random.default_rng(0)
    pairs = [(f"c{a}", f"c{b}") for a, b in generator.integers(0, 6, (80, 2))] + [
        ("never said", "c1"),
        ("c2", "never true"),
    ]
    truth, answers = zip(*pairs, strict=True)
    found = mveb.measures(pairs)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    for name, measure in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        assert found[name] == pytest.approx(measure(truth, answers, average="macro"))
        assert found[f"{name}_weighted"] == pytest.approx(measure(truth, answers, average="weighted"))


def test_it_runs_over_a_list_of_videos(zsar_tiny: Runner, tmp_path: Path) -> None:
    for name, shade in (("archery", 20), ("riding_a_bike", 200)):
        (tmp_path / "videos" / name).mkdir(parents=True)
        for number in range(2):
            frames = [Image.new("RGB", (32, 32), (shade, step, number)) for step in range(4)]
            frames[0].save(tmp_path / "videos" / name / f"{number}.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "test.txt").write_text("archery/0.gif 1\nriding_a_bike/1.gif 2\n")
    command = [
        sys.executable,
        FILE,
        "--dataset",
        "hmdb51",
        "--videos",
        tmp_path / "videos",
        "--list",
        tmp_path / "test.txt",
    ]
    done = subprocess.run(command, env=zsar_tiny.environment(), capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["videos"], report["classes"]) == (2, 2) and report["accuracy"] in (0, 0.5, 1)
