"""Our arithmetic against Transformers' own processors, given the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import checkpoints
import numpy as np
import pytest
import torch

from zsar_cli.errors import ModelError
from zsar_cli.models.preprocess import Preprocess, read_preprocess
from zsar_cli.video.geometry import centre_square
from zsar_cli.video.types import Geometry

CPU = torch.device("cpu")
TOLERANCE = 2e-6  # the docstring of the module promises it


def processor(folder: Path) -> Any:
    """Transformers' own processor, the one that needs no torchvision."""
    from transformers import AutoImageProcessor
    from transformers.models.vivit.image_processing_vivit import VivitImageProcessor

    if "Vivit" in (folder / "preprocessor_config.json").read_text():
        return VivitImageProcessor.from_pretrained(folder)
    return AutoImageProcessor.from_pretrained(folder, backend="pil")


@pytest.mark.parametrize("family", ["clip", "siglip", "xclip", "videomae", "timesformer", "vivit", "vit"])
def test_same_numbers_as_the_models_own_processor(family: str) -> None:
    folder = checkpoints.of(family)
    ours = read_preprocess(folder)
    side = ours.geometry.resize or ours.geometry.size
    frames = np.random.default_rng(3).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    wanted = processor(folder)(list(frames), return_tensors="pt")["pixel_values"].reshape(3, 3, 32, 32)
    cut = np.stack([centre_square(frame, ours.geometry.size) for frame in frames])
    found = ours.apply(torch.from_numpy(cut)[None], CPU, torch.float32)[0]
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= TOLERANCE
    assert found.std() > 0.1


def read(folder: Path, **config: Any) -> Preprocess:
    usual = {"size": 32, "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps({**usual, **config}))
    return read_preprocess(folder)


@pytest.mark.parametrize(
    ("config", "geometry"),
    [
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}, "do_center_crop": True},
         Geometry(224, 256)),
        ({"size": 224, "crop_size": 224, "do_center_crop": True}, Geometry(224, 224)),  # CLIP's files of 2022
        ({"size": 224}, Geometry(224)),  # ViT's files of 2021: both sides
        ({"size": {"height": 384, "width": 384}}, Geometry(384)),
        ({"size": {"shortest_edge": 224}}, Geometry(224, 224)),
        ({"size": {"shortest_edge": 224}, "image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.875},
         Geometry(224, 256)),
        ({"size": {"shortest_edge": 384}, "image_processor_type": "ConvNextImageProcessor"}, Geometry(384)),
    ],
)  # fmt: skip
def test_sizes_as_files_of_all_ages_give_them(config: dict[str, Any], geometry: Geometry, tmp_path: Path) -> None:
    assert read(tmp_path, **config).geometry == geometry


def test_steps_that_are_off_are_left_out(tmp_path: Path) -> None:
    raw = read(tmp_path, do_rescale=False, do_normalize=False)
    clips = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16, 1).expand(-1, -1, -1, -1, 3)
    assert torch.equal(raw.apply(clips, CPU, torch.float32)[0, 0, 0].flatten(), torch.arange(256.0))


def test_a_nested_processor_file_is_read(tmp_path: Path) -> None:
    inner = {"size": 32, "image_mean": 0.5, "image_std": 0.25}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": inner, "processor_class": "X"}))
    assert read_preprocess(tmp_path) == read(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"do_flip_channel_order": True}, "do_flip_channel_order"),
        ({"rescale_offset": True}, "rescale_offset"),
        ({"image_mean": None}, "image_mean"),
        ({"size": {"height": 32, "width": 64}}, "only squares"),
        ({"size": {"height": 64, "width": 64}, "crop_size": 32, "do_center_crop": True}, "cutting 32"),
        ({"do_resize": False}, "do_resize"),
    ],
)
def test_what_is_not_supported_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message) as error:
        read(tmp_path, **config)
    assert "preprocessor_config.json" in str(error.value)


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no preprocessor_config\.json"):
        read_preprocess(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ModelError, match="not readable JSON"):
        read_preprocess(tmp_path)
