"""Backbones of whole clips: the published networks, the right cells at the right times, any weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from typer.testing import CliRunner

from zsar_cli.cli.app import app
from zsar_cli.errors import ConfigError, ModelError, UsageError
from zsar_cli.networks.backbone_config import NORMALISATIONS, BackboneConfig
from zsar_cli.networks.backbones import Backbone, network_of, open_backbone
from zsar_cli.networks.video_resnets import VIDEO_RESNETS, VideoResNet, recognise
from zsar_cli.weights.convert import convert

CPU = torch.device("cpu")
NARROW = BackboneConfig("r2plus1d_18", weights="random", size=64, cells=2, width=1 / 8)
VIT = BackboneConfig("videomae-base", weights="random", size=32, cells=2, width=1 / 12, frames=4)
VITS = {name: replace(VIT, name=f"{name}-base") for name in ("videomae", "timesformer", "vivit")}
ALL = {"r3d": replace(NARROW, name="r3d_18"), "r2plus1d": NARROW, **VITS, "resnet": replace(NARROW, name="resnet50")}
MAKERS = {
    "videomae": (transformers.VideoMAEForVideoClassification, transformers.VideoMAEModel, transformers.VideoMAEConfig),
    "timesformer": (
        transformers.TimesformerForVideoClassification, transformers.TimesformerModel, transformers.TimesformerConfig,
    ),
    "vivit": (transformers.VivitForVideoClassification, transformers.VivitModel, transformers.VivitConfig),
}  # fmt: skip


def opened(config: BackboneConfig) -> Backbone:
    return open_backbone(config, CPU, torch.float32)


def frames(count: int = 4, size: int = 64, clips: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (clips, count, size, size, 3), dtype=torch.uint8, generator=generator)


def norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    shapes = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (channels,))
    return {f"{name}.{key}": shape for key, shape in shapes.items()} | {f"{name}.num_batches_tracked": ()}


def published(blocks: tuple[int, ...], factored: bool, own_middles: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's VideoResNet at full width, classifier and all."""
    if factored:
        found: dict[str, tuple[int, ...]] = {"stem.0.weight": (45, 3, 1, 7, 7), **norm("stem.1", 45)}
        found |= {"stem.3.weight": (64, 45, 3, 1, 1), **norm("stem.4", 64)}
    else:
        found = {"stem.0.weight": (64, 3, 3, 7, 7), **norm("stem.1", 64)}
    inputs = 64
    for stage, count in enumerate(blocks, start=1):
        outputs = 32 * 2**stage
        for block in range(count):
            name, first = f"layer{stage}.{block}", (inputs * outputs * 27) // (inputs * 9 + 3 * outputs)
            second = {1: 144, 2: 288, 3: 576, 4: 1152}[stage] if own_middles else first
            for number, come, between in ((1, inputs, first), (2, outputs, second)):
                conv = f"{name}.conv{number}"
                if factored:
                    found |= {f"{conv}.0.0.weight": (between, come, 1, 3, 3), **norm(f"{conv}.0.1", between)}
                    found[f"{conv}.0.3.weight"] = (outputs, between, 3, 1, 1)
                else:
                    found[f"{conv}.0.weight"] = (outputs, come, 3, 3, 3)
                found |= norm(f"{conv}.1", outputs)
            if inputs != outputs:
                found[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1, 1)
                found |= norm(f"{name}.downsample.1", outputs)
            inputs = outputs
    return {**found, "fc.weight": (400, 512), "fc.bias": (400,)}


PUBLISHED = {
    "r3d_18": (published((2, 2, 2, 2), False, False), 122, 33_371_472),
    "r2plus1d_18": (published((2, 2, 2, 2), True, False), 224, 31_505_325),
    "r2plus1d_34": (published((3, 4, 6, 3), True, True), 416, 63_697_175),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_tensors_have_the_names_and_shapes_of_the_published_networks(name: str) -> None:
    shapes, tensors, parameters = PUBLISHED[name]
    assert len(shapes) == tensors
    learned = [key for key in shapes if "running" not in key and "tracked" not in key]
    assert sum(torch.Size(shapes[key]).numel() for key in learned) == parameters
    with torch.device("meta"):
        own = VideoResNet(VIDEO_RESNETS[name]).state_dict()
    assert {key: tuple(value.shape) for key, value in own.items()} == {
        key: shape for key, shape in shapes.items() if not key.startswith("fc.")
    }
    weights = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    assert recognise(weights) == (name, 1.0)
    assert recognise({**weights, "more": torch.empty(1)}) is None and recognise({}) is None
    assert recognise({"layer1.0.conv2.1.weight": torch.zeros(())}) is None


def test_a_factored_convolution_has_the_weights_of_a_whole_one() -> None:
    whole, factored = (
        sum(p.numel() for p in VideoResNet(VIDEO_RESNETS[name], 1 / 8).parameters())
        for name in ("r3d_18", "r2plus1d_18")
    )
    assert 0.9 < factored / whole < 1.1


@pytest.mark.parametrize(
    ("name", "times"), [("r3d", 1), ("videomae", 2), ("vivit", 2), ("timesformer", 4), ("resnet", 4)]
)
def test_the_grid_has_the_times_and_channels_that_the_config_says(name: str, times: int) -> None:
    config = ALL[name]
    grid = opened(config)(frames(size=config.side))
    assert grid.shape == (2, times, 2, 2, config.channels) and grid.dtype == torch.float32
    assert config.channels == (256 if name == "resnet" else 64)


@pytest.mark.parametrize("name", ["r2plus1d", *VITS])
def test_cells_and_times_are_those_of_the_clip(name: str) -> None:
    """Weights from the seed, so what changes is largest where the clip does: at the end, top right."""
    config = replace(ALL[name], size=128, cells=4)
    if name != "r2plus1d":
        config = replace(config, frames=16)
    still = torch.full((1, 16, 128, 128, 3), 120, dtype=torch.uint8)
    moved = still.clone()
    moved[:, -2:, :32, 96:] = 255
    backbone = opened(config)
    change = (backbone(moved) - backbone(still)).norm(dim=-1)[0]
    time, cell = divmod(int(change.flatten().argmax()), 16)
    assert time >= 7 * len(change) // 8 and cell == 3


@pytest.mark.parametrize("kind", MAKERS)
def test_a_checkpoint_gives_what_transformers_gives(kind: str, tmp_path: Path) -> None:
    classifier, maker, shape = MAKERS[kind]
    config = replace(VITS[kind], weights=str(tmp_path / kind))
    torch.manual_seed(2)
    more = {"tubelet_size": [2, 16, 16]} if kind == "vivit" else {}
    own = classifier(shape(image_size=32, num_frames=4, hidden_size=64, intermediate_size=256, num_attention_heads=1,
                           **more)).eval()  # fmt: skip
    own.save_pretrained(tmp_path / kind)
    processor: dict[str, Any] = {"image_mean": [0.45] * 3, "image_std": [0.225] * 3, "rescale_factor": 1 / 255}
    (tmp_path / kind / "preprocessor_config.json").write_text(json.dumps(processor))
    backbone, clips = opened(config), frames(size=32)
    pixels = (clips.movedim(-1, 2) / 255 - 0.45) / 0.225
    with torch.inference_mode():
        tokens = maker.from_pretrained(tmp_path / kind, **({"add_pooling_layer": False} if kind == "vivit" else {}))(
            pixel_values=pixels
        ).last_hidden_state
        if kind == "timesformer":  # a class token, then all times of each patch
            wanted = tokens[:, 1:].reshape(2, 2, 2, 4, 64).permute(0, 3, 1, 2, 4)
        else:
            wanted = tokens[:, 1 if kind == "vivit" else 0 :].reshape(2, 2, 2, 2, 64)
        torch.testing.assert_close(backbone(clips), wanted, rtol=1e-4, atol=1e-4)
    assert backbone.config.normalisation == "timesformer"  # as the processor says, so that it travels with a bundle
    with pytest.raises(ModelError, match="its hidden_size is 64, expected 128"):
        opened(replace(config, width=1 / 6))
    with pytest.raises(ModelError, match=f"is a {kind}, expected a {'vivit' if kind == 'videomae' else 'videomae'}"):
        opened(replace(config, name="vivit-base" if kind == "videomae" else "videomae-base"))


def test_a_processor_that_normalises_in_another_way_is_refused(tmp_path: Path) -> None:
    shape = transformers.VideoMAEConfig(
        image_size=32, num_frames=4, hidden_size=64, intermediate_size=256, num_attention_heads=1
    )
    transformers.VideoMAEForVideoClassification(shape).save_pretrained(tmp_path)
    config = replace(VIT, weights=str(tmp_path))
    assert opened(config).config.normalisation is None
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.1] * 3, "image_std": [0.1] * 3}))
    with pytest.raises(ModelError, match=r"which is none of imagenet, .*; give the backbone's normalisation"):
        opened(config)
    assert opened(replace(config, normalisation="half")).fingerprint.endswith("-half")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": 1}))
    with pytest.raises(ModelError, match="does not say how frames are normalised"):
        opened(config)


def test_frames_become_numbers_as_the_network_was_trained() -> None:
    mean, std = NORMALISATIONS["vivit"]
    byte = 200
    assert (byte - mean[0]) / std[0] == pytest.approx((byte / 127.5 - 1 - 0.5) / 0.5)
    seen: list[Tensor] = []
    backbone = opened(replace(NARROW, name="r3d_18"))
    backbone.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    backbone(torch.full((1, 1, 64, 64, 3), byte, dtype=torch.uint8))
    expected = torch.tensor(
        [(byte / 255 - m) / s for m, s in ((0.43216, 0.22803), (0.394666, 0.22145), (0.37645, 0.216989))]
    )
    torch.testing.assert_close(seen[0][0, :, 0, 5, 7], expected)


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_every_stage_and_recomputing_changes_none(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        backbone = opened(ALL[name]).requires_grad_(True)
        backbone.checkpointing = checkpointing
        backbone(frames(size=ALL[name].side)).square().mean().backward()  # type: ignore[no-untyped-call]
        gradients.append({key: parameter.grad for key, parameter in backbone.named_parameters()})
    for stage in backbone.stages():
        assert all(p.grad is not None for p in stage.parameters()) and any(p.grad.any() for p in stage.parameters())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-5)
    listed = [id(parameter) for stage in backbone.stages() for parameter in stage.parameters()]
    assert sorted(listed) == sorted(id(parameter) for parameter in backbone.parameters())


@pytest.mark.parametrize(
    ("weights", "freeze", "kept"),
    [("random", None, False), ("random", True, True), ("x", False, False), ("x", None, True)],
)
def test_batch_norm_keeps_its_statistics_by_choice(weights: str, freeze: bool | None, kept: bool) -> None:
    config = replace(NARROW, weights=weights, freeze_norm=freeze)
    backbone = Backbone(config, network_of(config), "test").train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    backbone(frames())
    assert all(torch.equal(value, before[name]) for name, value in backbone.named_buffers()) == kept


def test_a_clip_is_the_same_in_any_company() -> None:
    for config in (NARROW, VIT):
        backbone, clips = opened(config), frames(size=config.side, clips=3)
        with torch.inference_mode():
            assert torch.equal(backbone(clips)[1], backbone(clips[1:2])[0])


def test_postures_are_averaged_over_the_frames_of_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from zsar_cli.networks.backbones import Poser

    posture = torch.randn(16, 256, generator=torch.Generator().manual_seed(3))
    monkeypatch.setattr(Poser, "forward", lambda *_: posture)
    config = replace(NARROW, posture=True)
    grid = opened(config)(frames(16, clips=1))
    assert grid.shape == (1, 2, 2, 2, 64 + 256)
    for time, part in enumerate(posture.split(8)):
        torch.testing.assert_close(grid[0, time, 1, 1, 64:], part.mean(dim=0))


def test_a_number_of_frames_that_cannot_work_is_refused() -> None:
    with pytest.raises(UsageError, match="--frames 8: the backbone videomae-base takes 4 frames"):
        opened(VIT)(frames(8, 32))
    assert BackboneConfig("vivit-base", weights="random").needed_frames == 32
    assert NARROW.needed_frames is None


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (
            NARROW,
            {"weights": "packaged"},
            "no package brings weights for r2plus1d_18; give weights: a folder or 'random'",
        ),
        (NARROW, {"frames": 8}, "frames is 8; r2plus1d_18 takes any number"),
        (NARROW, {"width": 2}, "width is 2"),
        (NARROW, {"cells": 5}, "frames of 64 pixels give 1 to 4"),
        (NARROW, {"normalisation": "none"}, "normalisation is 'none'; allowed: imagenet"),
        (VIT, {"size": 40}, "size is 40 and frames 4; videomae-base takes multiples of 16 and 2"),
        (VIT, {"frames": 3}, "takes multiples of 16 and 2"),
        (VIT, {"size": 4096, "frames": 4096}, "make 134217728 tokens"),
        (BackboneConfig(), {"width": 0.5}, "efficientnet-lite2 takes 1 alone"),
    ],
)
def test_a_value_that_cannot_work_is_refused(config: BackboneConfig, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(config, **values)


def test_random_networks_differ_by_all_that_makes_them_differ() -> None:
    changes: list[dict[str, Any]] = [{}, {"seed": 1}, {"width": 1 / 4}, {"normalisation": "half"}, {"name": "r3d_18"}]
    assert len({opened(replace(NARROW, **change)).fingerprint for change in changes}) == len(changes)


@pytest.mark.parametrize("wrap", [lambda weights: weights, lambda weights: {"state_dict": weights}])
def test_a_published_checkpoint_is_converted_and_opened(wrap: Any, tmp_path: Path) -> None:
    own = network_of(NARROW).eval()
    weights = {**own.state_dict(), "fc.weight": torch.zeros(400, 64), "fc.bias": torch.zeros(400)}
    torch.save(wrap(weights), tmp_path / "r2plus1d_18-91a641e6.pth")
    with pytest.raises(UsageError, match=r"is a file; make a folder of it: zsar models convert .*91a641e6\.pth"):
        opened(replace(NARROW, weights=str(tmp_path / "r2plus1d_18-91a641e6.pth")))
    folder = convert(tmp_path / "r2plus1d_18-91a641e6.pth", tmp_path / "new", recognise)
    config = replace(NARROW, weights=str(folder))
    backbone = opened(config)
    with torch.inference_mode():
        assert torch.equal(backbone(frames()), opened(NARROW)(frames()))
    assert backbone.fingerprint.startswith("r2plus1d_18-")
    with pytest.raises(ModelError, match="its model_type is r2plus1d_18, expected r3d_18"):
        opened(replace(config, name="r3d_18"))
    with pytest.raises(ModelError, match=r"its width is 0\.125, expected 1\.0"):
        opened(replace(config, width=1.0))
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="holds no weights of a r2plus1d_18"):
        opened(config)


def test_converting_says_how_to_go_on(tmp_path: Path) -> None:
    torch.save(network_of(NARROW).state_dict(), tmp_path / "x.pth")
    done = CliRunner().invoke(app, ["models", "convert", str(tmp_path / "x.pth"), "-o", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    assert f"zsar train --backbone r2plus1d_18 --backbone-weights {tmp_path / 'new'}" in " ".join(done.stderr.split())


def test_other_weights_without_a_configuration_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        convert(tmp_path / "x.pth", tmp_path / "new", recognise)
    assert not (tmp_path / "new").exists()
