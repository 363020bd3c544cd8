"""Backbones: the right features from the right weights, in the right place of the grid, with gradients when asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zsar_cli.errors import ConfigError, ModelError, UsageError
from zsar_cli.networks.backbone_config import BACKBONES, FILES, POSTURE, BackboneConfig
from zsar_cli.networks.backbones import Backbone, network_of, open_backbone
from zsar_cli.networks.efficientnet import EfficientNetLite, fold_batch_norm
from zsar_cli.networks.pose import FINGERPRINT, PoseNetwork, Poses
from zsar_cli.networks.posture import DESCRIPTION, PostureFeatures, describe

CPU = torch.device("cpu")
LITE = BackboneConfig("efficientnet-lite0", size=64, cells=2)
TINY = BackboneConfig("resnet18", weights="random", size=64, cells=2)


def opened(config: BackboneConfig) -> Backbone:
    return open_backbone(config, CPU, torch.float32)


def frames(size: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, size, size, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite2"])
def test_the_mean_of_the_grid_is_the_published_feature(name: str) -> None:
    published = torch.load(FILES[name].verified(), weights_only=True)
    whole = EfficientNetLite(name).eval()
    whole.load_state_dict(fold_batch_norm(published))
    images = (frames()[0].permute(0, 3, 1, 2).float() - 127) / 128
    grid = opened(replace(LITE, name=name))(frames())
    assert grid.shape == (2, 3, 2, 2, 1280)
    with torch.inference_mode():
        torch.testing.assert_close(grid[0].mean(dim=(1, 2)), whole(images), rtol=1e-4, atol=1e-4)


def test_rows_of_the_grid_are_rows_of_the_image() -> None:
    picture = torch.zeros(1, 1, 128, 128, 3, dtype=torch.uint8)
    changed = picture.clone()
    changed[:, :, :32, 96:] = 255  # top right
    backbone = opened(replace(LITE, size=128, cells=4))
    moved = (backbone(changed) - backbone(picture)).norm(dim=-1)[0, 0]
    assert moved[0, 3] > 2 * moved[3, 0]


def test_a_resnet_agrees_with_transformers(tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    shape = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}
    torch.manual_seed(4)
    own = ResNetForImageClassification(ResNetConfig(**shape)).eval()  # type: ignore[arg-type]
    own.save_pretrained(tmp_path / "resnet")
    backbone = opened(replace(TINY, weights=str(tmp_path / "resnet")))
    mean, std = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    pixels = (frames()[0].permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        wanted = own.resnet(pixels).last_hidden_state.permute(0, 2, 3, 1)
    torch.testing.assert_close(backbone(frames())[0], wanted, rtol=1e-4, atol=1e-4)
    assert backbone.fingerprint.startswith("resnet-")
    with pytest.raises(ModelError, match="is not a resnet50: its layer_type is basic, expected bottleneck"):
        opened(BackboneConfig("resnet50", weights=str(tmp_path / "resnet")))


def test_random_weights_come_from_the_seed_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second, other = (opened(replace(TINY, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    with torch.inference_mode():
        assert torch.equal(first(frames()), second(frames()))
        assert not torch.allclose(first(frames()), other(frames()))
    assert first.fingerprint == second.fingerprint != other.fingerprint


@pytest.mark.parametrize("config", [replace(LITE, weights="random"), TINY], ids=["lite", "resnet"])
def test_gradients_reach_every_parameter_and_recomputing_changes_none(config: BackboneConfig) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = opened(config).requires_grad_(True)
        backbone.checkpointing = checkpointing
        backbone(frames()).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in backbone.named_parameters()})
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [replace(LITE, weights="random"), TINY], ids=["lite", "resnet"])
def test_the_stages_are_the_whole_network(config: BackboneConfig) -> None:
    backbone = opened(config)
    listed = [id(parameter) for stage in backbone.stages() for parameter in stage.parameters()]
    assert sorted(listed) == sorted(id(parameter) for parameter in backbone.parameters())


@pytest.mark.parametrize("weights", ["random", "trained"])
def test_batch_norm_keeps_the_statistics_of_trained_weights(weights: str) -> None:
    backbone = Backbone(replace(TINY, weights=weights), network_of(TINY), "resnet18-test").train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(frames())
    same = all(torch.equal(value, before[name]) for name, value in backbone.named_buffers())
    assert same == (weights == "trained")


def test_postures_come_after_the_image_channels_and_are_those_of_the_poses(monkeypatch: pytest.MonkeyPatch) -> None:
    world = torch.randn(6, 33, 4, generator=torch.Generator().manual_seed(2))
    found = torch.tensor([False, True, True, False, False, False])  # of two clips of three frames
    world[~found] = 0

    def poses(_: PoseNetwork, clip: Tensor) -> Poses:
        start = 0 if torch.equal(clip, frames()[0]) else 3
        return Poses(world[start : start + 3], world[start : start + 3], found[start : start + 3])

    monkeypatch.setattr(PoseNetwork, "forward", poses)
    grid = opened(replace(LITE, posture=True))(frames())
    assert grid.shape == (2, 3, 2, 2, 1280 + POSTURE)
    assert torch.equal(grid[..., :1280], opened(LITE)(frames()))
    features = PostureFeatures(POSTURE)
    for index, row in enumerate((1, 1, 2)):  # the first frame has nobody and takes the next
        expected = features(describe(world[row, None, :, :3]))[0]
        for cell in grid[0, index].flatten(0, 1):
            torch.testing.assert_close(cell[1280:], expected)
    nobody = features(torch.zeros(DESCRIPTION))
    torch.testing.assert_close(grid[1, :, :, :, 1280:], nobody.expand(3, 2, 2, -1))


def test_postures_keep_their_precision_and_are_never_trained() -> None:
    half = open_backbone(replace(LITE, posture=True), CPU, torch.bfloat16)
    assert half.fingerprint.endswith(FINGERPRINT) and not opened(LITE).fingerprint.endswith(FINGERPRINT)
    assert len(list(half.parameters())) == len(list(opened(LITE).parameters()))
    full = opened(replace(LITE, posture=True))
    torch.testing.assert_close(half(frames())[..., 1280:], full(frames())[..., 1280:])
    full.requires_grad_(True)
    full(frames())[..., 1280:].sum().backward()  # type: ignore[no-untyped-call]
    assert not any(parameter.grad.any() for parameter in full.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "vgg"}, f"'vgg'; allowed: {', '.join(BACKBONES)}"),
        ({"name": "resnet18"}, "no package brings weights for resnet18; give weights: a folder, a hub id"),
        ({"weights": "microsoft/resnet-18"}, "efficientnet-lite0 takes 'packaged' or 'random'"),
        ({"cells": 3}, "cells is 3; frames of 64 pixels give 1 to 2"),
        ({"cells": 0}, "cells is 0"),
    ],
)
def test_a_value_that_cannot_work_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(LITE, **values)  # type: ignore[arg-type]


def test_weights_that_are_nowhere_are_named() -> None:
    with pytest.raises(UsageError, match="no-such-folder"):
        opened(replace(TINY, weights="no-such-folder"))
