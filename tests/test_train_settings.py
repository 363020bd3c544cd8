"""Settings of a training run: sections or single keys, flags above files, every mistake reported at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from zsar_cli.errors import ConfigError
from zsar_cli.networks.backbones import BackboneConfig
from zsar_cli.networks.rest import RestConfig
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.settings import SECTIONS, ClipConfig, RunConfig, is_setting, read_run_config

EXAMPLES = Path(__file__).parents[1] / "examples" / "configs"


def test_nothing_given_is_the_default() -> None:
    assert read_run_config({}, "file") == RunConfig()
    assert RunConfig().train == TrainConfig() and RunConfig().backbone == BackboneConfig()


def test_sections_single_keys_and_flags_mean_the_same() -> None:
    wanted = read_run_config({"train": {"learning_rate": 0.01, "steps": 7}, "clip": {"frames": 4}}, "file")
    assert (wanted.train.learning_rate, wanted.train.steps, wanted.clip.frames) == (0.01, 7, 4)
    assert read_run_config({"learning-rate": 0.01, "steps": 7, "frames": 4}, "file") == wanted
    flags = {"train.learning_rate": 0.01, "train.steps": 7, "clip.frames": 4, "train.seed": None}
    assert read_run_config({"steps": 9, "frames": 5}, "file", flags) == wanted


def test_a_model_is_no_specialist_unless_its_trainer_asks() -> None:
    assert read_run_config({}, "file").specialist is None
    assert read_run_config({"specialist": 0.75}, "file").specialist == 0.75
    assert read_run_config({"specialist": 0.75}, "file", {"specialist": 0.8}).specialist == 0.8
    assert read_run_config({}, "file", {"specialist": None}).specialist is None
    assert is_setting("specialist", 0.75)
    for value, message in ((True, "a valid number"), (0, "greater than 0"), (1.5, "less than or equal to 1")):
        with pytest.raises(ConfigError, match=message):
            read_run_config({"specialist": value}, "file")


def test_what_is_written_is_read_back() -> None:
    values = {"backbone": {"name": "resnet18", "weights": "random"}, "epochs": 3, "specialist": 0.5}
    config = read_run_config(values, "file")
    written = yaml.safe_load(yaml.safe_dump(config.to_dict()))
    del written["train"]["steps"]  # of steps and epochs only one can be given
    assert read_run_config(written, "file") == config and set(written) == {*SECTIONS, "specialist", "source"}


def test_all_mistakes_are_reported_at_once() -> None:
    content = {
        "train": {"steps": 0, "mixup": 2.0, "learning_rate": "fast", "colour": 1},
        "clip": {"flip": 1, "view": "sideways", "frame": 3},
        "backbone": {"name": "vgg"},
        "epoch": 3,
        "seed": True,
    }
    with pytest.raises(ConfigError) as caught:
        read_run_config(content, "my.yaml")
    lines = str(caught.value).splitlines()
    assert lines[0] == "my.yaml:"
    for part in (
        "train: steps is 0; it must be greater than or equal to 1",
        "train: mixup is 2.0; it must be less than or equal to 1",
        "train: learning_rate is 'fast'; it must be a valid number",
        "train: no such key: colour; it has discrimination",
        "flip; did you mean frames?",
        "clip: flip is 1; it must be a valid boolean",
        "clip: view is 'sideways'; it must be 'both', 'whole', 'centre' or 'letterbox'",
        "backbone: name is 'vgg'; allowed: efficientnet-lite0",
        "no such key: epoch; there are the sections train, model, clip, backbone, raw, transfer and their keys, "
        "specialist and source; did you mean epochs?",
        "train: seed is True; it must be a valid integer",
    ):
        assert sum(part in line for line in lines) == 1, part
    assert len(lines) == 11


def test_options_of_the_command_are_hints_as_well() -> None:
    with pytest.raises(ConfigError, match=r"worker; there .* source, and all options; did you mean workers\?"):
        read_run_config({"worker": 3}, "my.yaml", options=("workers", "backbone-weights"))


@pytest.mark.parametrize(
    "value", [{"depth": 10**7}, {"width": 2**40}, {"batch": 10**9}, {"frames": 10**6}, {"size": 10**6}, {"seed": 2**64}]
)
def test_what_memory_could_not_hold_is_refused(value: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="it must be less than"):
        read_run_config(value, "file")
    with pytest.raises(ConfigError, match="parameters; at most 1,000,000,000 are allowed"):
        read_run_config({"depth": 96, "width": 4096}, "file")


def test_settings_made_in_code_are_checked_too() -> None:
    with pytest.raises(ConfigError) as caught:
        RestConfig(features=12, depth=0, dropout=1.0, hidden=3)  # type: ignore[call-arg]
    assert str(caught.value).splitlines() == [
        "depth is 0; it must be greater than or equal to 1",
        "dropout is 1.0; it must be less than 1",
        "no such key: hidden; it has features, posture, text_features, space, width, depth, heads, expansion, dropout, "
        "gate, text_gate, checkpointing",
    ]


def test_values_that_do_not_go_together_are_refused() -> None:
    clips = {"backbone": {"name": "r3d_18", "weights": "random", "width": 0.5, "frames": None}, "reverse": 0.5}
    with pytest.raises(ConfigError, match="those of r3d_18 know the order of their frames, so it takes 0"):
        read_run_config(clips, "file")
    with pytest.raises(ConfigError, match="width 30 must be a multiple of heads"):
        read_run_config({"width": 30}, "file")
    with pytest.raises(ConfigError, match="no package brings weights for resnet18"):
        read_run_config({"backbone": {"name": "resnet18"}}, "file")


def test_posture_refuses_frames_that_squeeze_bodies() -> None:
    for view in ("both", "whole"):
        with pytest.raises(ConfigError, match=rf"a.yaml:\n  clip: view is '{view}', which squeezes bodies; posture"):
            read_run_config({"posture": True, "view": view}, "a.yaml")
    for view in ("letterbox", "centre"):
        assert read_run_config({"posture": True, "view": view}, "a.yaml").shape.posture > 0


def test_yaml_numbers_without_a_point_are_numbers() -> None:
    assert read_run_config(yaml.safe_load("learning_rate: 3e-4"), "file").train.learning_rate == 3e-4


def test_epochs_become_steps_and_the_stronger_of_both_wins() -> None:
    config = read_run_config({"epochs": 3, "batch": 8}, "file")
    assert config.train.for_clips(20).steps == 8  # 60 clips in batches of 8
    assert read_run_config({"epochs": 3}, "file", {"train.steps": 5}).train.for_clips(20).steps == 5
    assert read_run_config({"steps": 5, "batch": 8}, "file", {"train.epochs": 3}).train.for_clips(20).steps == 8
    with pytest.raises(ConfigError, match="two ways to say the same"):
        read_run_config({"epochs": 3, "steps": 5}, "file")
    with pytest.raises(ConfigError, match="two ways to say the same"):
        read_run_config({}, "file", {"train.epochs": 3, "train.steps": 5})


def test_a_number_named_like_a_section_is_a_setting() -> None:
    assert read_run_config({"clip": 0.5}, "file").train.clip == 0.5
    assert is_setting("clip", 0.5) and is_setting("clip", {}) and not is_setting("backbone", "resnet18")


@pytest.mark.parametrize("view", ["both", "whole", "centre", "letterbox"])
def test_classifying_looks_as_training_did(view: str) -> None:
    clip = read_run_config({"view": view, "frames": 5, "clips": 3}, "file").clip
    settings = clip.settings(96)
    assert settings.geometry in clip.geometries(96)
    assert (settings.sampling.windows, settings.sampling.frames, settings.mirror) == (1, 5, True)
    more = replace(clip, classify_frames=9)
    assert (more.settings(96).sampling.frames, more.sampling.frames) == (9, 5)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_the_examples_are_accepted(file: Path) -> None:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    config = read_run_config(content, file.name)
    assert config != RunConfig() and config.backbone.needed_frames in (None, config.clip.frames)
    if config.train.epochs:  # the arithmetic in its comments is about these
        steps = round(config.train.for_clips(545_000).steps, -2)
        assert f" {steps:,} steps" in file.read_text(encoding="utf-8")


def test_there_are_examples() -> None:
    names = {file.stem for file in EXAMPLES.glob("*.yaml")}
    assert {"rest18_kinetics", "rest101_kinetics", "r2plus1d18_kinetics", "exercise_movements"} <= names


@pytest.mark.parametrize("view", ["whole", "centre", "letterbox"])
def test_clips_of_a_finished_model_are_clips_to_train_on(view):
    one = ClipConfig(5, stride=0.5, view=view, flip=False).settings(64)
    assert ClipConfig.of(one).settings(64) == one
    assert ClipConfig.of(one).view == view
