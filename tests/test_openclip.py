"""Dual encoders of open_clip against its own preprocessing, tokens and forward pass."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import open_clip_models
import pytest
import torch
from open_clip_models import open_clip
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import Label
from zsar_cli.models.base import HasTextTower
from zsar_cli.models.open import load_model
from zsar_cli.models.openclip import OpenClip, preprocess_of

CPU = torch.device("cpu")
TEXTS = ("riding a bike", "archery", "a b c d e f g h i j k l m n o p q r s t u v w x y z")
LABELS = [Label(text, prompts=("{}",)) for text in TEXTS]
WITHOUT_TIMM = "clip"  # the smallest, where the kind does not matter


def load(folder: Path, dtype: torch.dtype = torch.float32) -> OpenClip:
    model = load_model(str(folder), CPU, dtype)
    assert isinstance(model, OpenClip) and isinstance(model, HasTextTower)
    return model


def frames(model: OpenClip, count: int = 2) -> Tensor:
    blocks = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(1)).float()
    large = torch.nn.functional.interpolate(blocks, size=model.geometry.size, mode="bilinear")
    return large.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("kind", open_clip_models.KINDS)
@torch.inference_mode()
def test_it_agrees_with_open_clip(kind: str) -> None:
    folder = open_clip_models.of(kind)
    model = load(folder)
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    network.eval()
    pictures = frames(model)
    pixels = torch.stack([transform(Image.fromarray(picture.numpy())) for picture in pictures])
    wanted = network.encode_image(pixels, normalize=True)
    assert (model.encode_frames(pictures) - wanted).abs().max() < 1e-4
    assert (wanted[0] - wanted[1]).abs().max() > 1e-4  # the frames differ, so agreement says something
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(list(TEXTS))
    text = network.encode_text(tokens, normalize=True)
    assert (model.encode_labels(LABELS) - text).abs().max() < 1e-4
    assert (text[0] - text[1]).abs().max() > 1e-4
    assert model.transfer.sharpness == pytest.approx(model.transfer.text_scale * float(network.logit_scale.exp()))
    assert model.tower.languages == ("en",)


@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
def test_frames_of_any_size_are_shaped_as_open_clip_does(mode: str, tmp_path: Path) -> None:
    from fractions import Fraction

    import av
    import numpy as np

    from zsar_cli.video.geometry import shape_frame

    down, across = np.mgrid[0:90, 0:160]
    image = np.stack([down * 2, across, 255 - across], axis=2).astype(np.uint8)
    given = {"resize_mode": mode, "mean": [0.0] * 3, "std": [1.0] * 3}
    preprocess = preprocess_of(tmp_path, given, 32)
    shaped = shape_frame(av.VideoFrame.from_ndarray(image, "rgb24"), preprocess.geometry, Fraction(1), 0)
    ours = preprocess.apply(torch.from_numpy(shaped)[None], CPU, torch.float32)[0]
    config = open_clip.transform.PreprocessCfg(size=32, **given)
    theirs = open_clip.transform.image_transform_v2(config, is_train=False)(Image.fromarray(image))
    assert (ours - theirs).abs().mean() < 0.01  # filters differ by a few levels, another crop by many


def test_pickled_weights_are_read_without_running_code(tmp_path: Path) -> None:
    folder = open_clip_models.write(tmp_path / "pickled", WITHOUT_TIMM, pickled=True)
    model = load(open_clip_models.of(WITHOUT_TIMM))
    assert torch.equal(load(folder).encode_frames(frames(model)), model.encode_frames(frames(model)))

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"a": Evil()}, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than tensors"):
        load(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("text_cfg", {"hf_model_name": "roberta-base"}, "looks up on the hub each time"),
        ("vision_cfg", {"timm_model_name": "hf-hub:someone/else"}, "which open_clip would look up"),
        ("text_cfg", {"tokenizer_kwargs": {"reduction_mask": "random"}}, "'reduction_mask' of the tokenizer"),
        ("text_cfg", {"tokenizer_kwargs": {"trust_remote_code": True}}, "'trust_remote_code' of the tokenizer"),
        ("text_cfg", {"width": 40}, "does not fit open_clip_config.json"),
        ("vision_cfg", {"timm_model_name": "no_such_network"}, "open_clip cannot make it"),
        ("vision_cfg", {"image_size": [32, 64]}, r"squares in RGB|does not fit"),
    ],
)
def test_what_it_does_not_do_is_refused(part: str, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = open_clip_models.write(tmp_path / "model", WITHOUT_TIMM)
    file = folder / "open_clip_config.json"
    config = json.loads(file.read_text())
    config["model_cfg"][part].update(changes)
    file.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_damage_is_named(tmp_path: Path) -> None:
    folder = open_clip_models.write(tmp_path / "model", WITHOUT_TIMM)
    with pytest.raises(UsageError, match="--seen-labels names the outputs of a classifier"):
        load_model(str(folder), CPU, torch.float32, ["a"])
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"open_clip_model.safetensors: is damaged"):
        load(folder)
    weights.unlink()
    with pytest.raises(ModelError, match="no weights beside it"):
        load(folder)
    (folder / "open_clip_config.json").write_text("[]")
    with pytest.raises(ModelError, match="is not a configuration of open_clip"):
        load(folder)


def test_fingerprints_follow_weights_and_configuration(tmp_path: Path) -> None:
    first, same = load(open_clip_models.of(WITHOUT_TIMM)), open_clip_models.write(tmp_path / "same", WITHOUT_TIMM)
    assert load(same).fingerprint == first.fingerprint
    other = load(open_clip_models.write(tmp_path / "other", WITHOUT_TIMM, mean=[0.5] * 3))
    assert other.fingerprint != first.fingerprint and other.tower.fingerprint != first.tower.fingerprint
    half = load(same, torch.bfloat16)
    assert half.precision == "bfloat16" and half.tower.fingerprint != first.tower.fingerprint
    cosine = torch.nn.functional.cosine_similarity(half.encode_frames(frames(half)), first.encode_frames(frames(first)))
    assert cosine.min() > 0.99


def test_labels_are_encoded_in_several_wordings() -> None:
    model = load(open_clip_models.of(WITHOUT_TIMM))
    from zsar_cli.models.dual import action_texts

    mean = normalize(model.tower.encode(action_texts(Label("archery"))).mean(dim=0), dim=0)
    assert (model.encode_labels([Label("archery")])[0] - mean).abs().max() < 1e-6


def test_loading_leaves_the_log_of_the_process_alone() -> None:
    before = list(logging.getLogger().handlers)
    load(open_clip_models.of(WITHOUT_TIMM))
    assert logging.getLogger().handlers == before
