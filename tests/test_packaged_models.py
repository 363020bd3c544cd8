"""The bundle that is part of the package: whole, described, and at work from the command line without a network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import videos
import yaml
from cli_runner import Finished

from zsar_cli import load
from zsar_cli.digests import sha256_of
from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.labels import LabelSet
from zsar_cli.weights.bundle import check_bundle
from zsar_cli.weights.catalogue import BUNDLES, ENTRIES

Here = Callable[..., Finished]
NAME = "rest-exercises"
CLASSES = 24


def test_every_bundle_has_an_entry_and_is_whole() -> None:
    folders = sorted(folder.name for folder in BUNDLES.iterdir() if folder.is_dir())
    assert folders == sorted(entry.name for entry in ENTRIES.values() if entry.kind == "rest")
    for name in folders:
        entry = ENTRIES[name]
        files = check_bundle(BUNDLES / name)["files"]
        assert entry.megabytes == pytest.approx(
            sum((BUNDLES / name / file).stat().st_size for file in files) / 1e6, abs=0.05
        )
        clip = yaml.safe_load((BUNDLES / name / "model.yaml").read_text())["settings"]["clip"]
        assert (entry.frames, entry.size) == (clip["sampling"]["frames"], clip["geometry"]["size"])


def test_it_says_how_it_was_made() -> None:
    made = check_bundle(BUNDLES / NAME)["provenance"]
    assert made["data"]["classes"] == CLASSES and made["data"]["videos"] == 575
    assert made["command"].startswith("zsar train exercise_movements ")
    assert "/" not in made["command"].replace("examples/", "").replace("runs/", "").replace("configs/", "")


def test_a_seen_label_is_its_prototype_and_others_are_composed_of_several() -> None:
    classifier = load(NAME)
    assert isinstance(classifier, ZeroShotClassifier)
    bank = classifier.model.bank()
    assert bank is not None and len(bank.labels) == CLASSES
    labelled = classifier.prepare(LabelSet.from_names([bank.labels[5], "doing a cartwheel"]))
    assert labelled.prototypes is not None and labelled.weights is not None
    torch.testing.assert_close(labelled.prototypes.visual[0], bank.visual[5])
    assert labelled.weights[0].argmax() == 5 and labelled.weights[0].count_nonzero() == 1
    assert labelled.weights[1].count_nonzero() > 1


def test_classify_works_with_it_by_name(zsar_here: Here, tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=20, size=(96, 64))
    labels = tmp_path / "labels.txt"
    labels.write_text("doing push-ups\ndoing squats\nriding a bike\n")
    done = zsar_here("classify", clip.path, "--labels", labels, "--model", NAME, "--format", "jsonl")
    assert "far from all that rest-exercises was trained on: riding a bike\n" in done.stderr
    record = done.records[-1]
    assert {item["label"] for item in record["predictions"]} == set(LabelSet.read(labels).names)
    assert np.isclose(sum(item["score"] for item in record["predictions"]), 1, atol=1e-3)


def test_beside_another_model_it_says_what_it_decides(zsar_here: Here, tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mp4", frames=20, size=(96, 64))
    both = ("classify", clip.path, "--model", "builtin", "--model", NAME, "--format", "jsonl")
    three = ("--label", "doing push-ups", "--label", "doing sit-ups", "--label", "riding a bike")
    done = zsar_here(*both, *three)
    assert "rest-exercises decides among: doing push-ups, doing sit-ups\n" in done.stderr
    alone = zsar_here("classify", clip.path, "--format", "jsonl", *three)
    (first,), (second,) = done.records, alone.records
    share = [{item["label"]: item["score"] for item in record["predictions"]} for record in (first, second)]
    assert share[0]["riding a bike"] == pytest.approx(share[1]["riding a bike"], abs=2e-4)
    assert share[0]["doing push-ups"] != pytest.approx(share[1]["doing push-ups"], abs=1e-3)
    lone = zsar_here(*both, "--label", "doing push-ups", "--label", "riding a bike")
    assert "rest-exercises knows doing push-ups of the labels and decides nothing" in lone.stderr


def test_models_verify_and_info_know_it(zsar_here: Here) -> None:
    verified = zsar_here("models", "verify", NAME)
    assert sha256_of(BUNDLES / NAME / "weights.safetensors") in verified.stdout
    facts = json.loads(zsar_here("models", "info", NAME, "--format", "json").stdout)
    assert facts["kind"] == "rest" and facts["data"]["videos"] == 575 and facts["here"]
