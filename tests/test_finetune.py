"""Fine-tuning: gradients reach the whole backbone, rates fall with depth, views are what they say, runs resume."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_training import CLASSES, SHAPE, make_texts

from zsar_cli.errors import ConfigError
from zsar_cli.networks.backbones import BackboneConfig, open_backbone
from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.finetune import STORED, Finetune, FinetuneConfig, augment, parameter_groups, plain_view

BACKBONE = BackboneConfig("resnet18", weights="random", size=32, cells=1)
CONFIG = FinetuneConfig(steps=4, batch=6)
STILL = replace(CONFIG, crop=1.0, colour=0.0, jitter=False)
TRAIN = TrainConfig(match_pairs=2, mixup=0.0)


def start(config: FinetuneConfig = CONFIG, **how: Any) -> Finetune:
    torch.manual_seed(1)
    model = RestModel(replace(SHAPE, features=512))
    targets = torch.arange(CLASSES).repeat_interleave(2)
    frames = torch.randint(0, 256, (12, 2 * STORED, 36, 36, 3), dtype=torch.uint8)
    frames[..., 0] = 40 * targets[:, None, None, None].to(torch.uint8)  # a class is a shade of red
    backbone = open_backbone(BACKBONE, torch.device("cpu"), torch.float32)
    return Finetune(
        backbone, model, RestHead(torch.randn(CLASSES, 12)), frames, targets, make_texts(), config, TRAIN, **how
    )


def weights(run: Finetune) -> dict[str, torch.Tensor]:
    state = run.state_dict()
    return {f"{part}.{key}": value for part in ("backbone", "model", "head") for key, value in state[part].items()}


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_reach_every_parameter(recompute: bool) -> None:
    run = start(replace(CONFIG, steps=1, recompute=recompute))
    run.run()
    for part in (run.backbone, run.model, run.head):
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_it_learns_what_the_frames_show() -> None:
    run = start(replace(STILL, steps=12, batch=12, learning_rate=1e-3, backbone_rate=0.3))
    records: list[dict[str, float]] = []
    run.run(lambda record: records.append(dict(record)))
    assert [record["step"] for record in records] == list(range(1, 13))
    assert records[-1]["loss"] < 0.8 * records[0]["loss"]
    assert not run.backbone.training and not run.model.training


def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one() -> None:
    whole, saved = start(), {}

    def keep(record: Any) -> None:
        if record["step"] == 2:
            saved.update(copy.deepcopy(whole.state_dict()))

    whole.run(keep)
    resumed = start()
    resumed.run(resume=saved)
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)
    assert not torch.equal(weights(whole)["backbone.model.embedder.embedder.convolution.weight"],
                           weights(start())["backbone.model.embedder.embedder.convolution.weight"])  # fmt: skip


def test_rates_fall_towards_the_input_and_every_parameter_has_one() -> None:
    run = start()
    config = replace(CONFIG, learning_rate=1.0, backbone_rate=0.5, layer_decay=0.1)
    groups = parameter_groups(run.backbone, run.model, run.head, config, replace(TRAIN, prior_rate=0.01))
    listed = [id(parameter) for group in groups for parameter in group["params"]]
    parts = (run.backbone, run.model, run.head)
    assert sorted(listed) == sorted(id(parameter) for part in parts for parameter in part.parameters())
    rate = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    found = [rate[id(next(stage.parameters()))] for stage in run.backbone.stages()]
    assert found == pytest.approx([0.5 * 0.1**power for power in (4, 3, 2, 1, 0)])
    assert rate[id(run.model.video_in.weight)] == 1.0 and rate[id(run.head.prototypes)] == 0.01


def picture() -> torch.Tensor:
    ramp = torch.linspace(0, 200, 36)
    image = torch.stack([ramp.expand(36, 36), ramp[:, None].expand(36, 36), torch.full((36, 36), 90.0)], dim=-1)
    return image.to(torch.uint8).expand(64, 2, 36, 36, 3)  # red grows to the right, green downwards


def test_views_without_changes_are_the_frames() -> None:
    frames = picture()
    views = augment(frames, 36, STILL, False, torch.Generator().manual_seed(0))
    torch.testing.assert_close(views, frames.float(), rtol=0, atol=1e-2)
    shown = plain_view(frames.repeat(1, STORED, 1, 1, 1), 18)
    assert shown.shape == (64, 2, 18, 18, 3)
    wanted = frames[0, 0].reshape(18, 2, 18, 2, 3).float().mean(dim=(1, 3))
    torch.testing.assert_close(shown[0, 0], wanted, rtol=0, atol=1e-2)


def test_half_of_the_views_are_mirrored_and_none_upside_down() -> None:
    views = augment(picture(), 36, STILL, True, torch.Generator().manual_seed(0))
    slope = views[..., 0].diff(dim=3).mean(dim=(1, 2, 3))
    assert 16 < int((slope < 0).sum()) < 48 and (views[..., 1].diff(dim=2).mean(dim=(1, 2, 3)) > 0).all()


def test_crops_lie_inside_and_keep_what_was_asked_for() -> None:
    views = augment(picture(), 36, replace(STILL, crop=0.5), False, torch.Generator().manual_seed(0))
    width = views[..., 0].amax(dim=(1, 2, 3)) - views[..., 0].amin(dim=(1, 2, 3))
    assert 90 < width.min() < width.max() <= 200  # at least half of the ramp of 200
    assert views[..., 0].amin(dim=(1, 2, 3)).std() > 5
    assert torch.equal(views[:, 0], views[:, 1])  # both frames of a clip alike


def test_colours_change_within_bounds_for_the_whole_clip() -> None:
    views = augment(picture(), 36, replace(STILL, colour=0.2), False, torch.Generator().manual_seed(0))
    change = views.mean(dim=(1, 2, 3, 4)) / picture().float().mean(dim=(1, 2, 3, 4))
    assert 0.8 <= change.min() < 0.9 and 1.1 < change.max() < 1.22  # what is cut off at 0 adds a little
    assert views.min() >= 0 and views.max() <= 255


@pytest.mark.parametrize(
    "change", [{"steps": -1}, {"batch": 0}, {"crop": 0.0}, {"layer_decay": 1.5}, {"accumulation": 9}]
)
def test_a_value_that_cannot_work_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(CONFIG, **change)  # type: ignore[arg-type]
