"""Small random checkpoints of the kinds that open_clip has, in its own layout; skips where it is not installed."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

if importlib.util.find_spec("open_clip") is None:
    pytest.skip("open_clip is not installed (the extra 'openclip')", allow_module_level=True)


def _import() -> tuple[Any, Any]:
    """The package. Beside a torch without CUDA PyPI's torchvision lacks two operators, which nothing here calls."""
    import warnings

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import open_clip
    return open_clip, library  # which takes its operators along when it goes


open_clip, _KEPT = _import()

WORDS = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
HALF = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # As DFN and other plain CLIPs have it.
    "clip": (
        {
            "embed_dim": 24, "quick_gelu": True, "text_cfg": WORDS,
            "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8},
        },
        {"mean": checkpoints.CLIP_MEAN, "std": checkpoints.CLIP_STD, "interpolation": "bicubic"},
    ),
    # PE-Core-T's own image encoder.
    "pe-core": (
        {
            "embed_dim": 512, "custom_text": True, "text_cfg": WORDS,
            "vision_cfg": {
                "image_size": 384, "timm_model_name": "vit_pe_core_tiny_patch16_384", "timm_pool": "map",
                "timm_proj": None,
            },
        },
        HALF,
    ),
    # MobileCLIP2-S0's own image encoder.
    "mobileclip": (
        {
            "embed_dim": 512, "custom_text": True, "text_cfg": {**WORDS, "no_causal_mask": True},
            "vision_cfg": {"image_size": 256, "timm_model_name": "fastvit_mci0", "timm_pool": "avg", "timm_proj": None},
        },
        {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"},
    ),
    # SigLIP 2 with a smaller image encoder.
    "siglip2": (
        {
            "embed_dim": 192, "custom_text": True, "init_logit_bias": -10,
            "vision_cfg": {
                "image_size": 224, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none",
            },
            "text_cfg": {
                **WORDS, "vocab_size": 40, "hf_tokenizer_name": "nobody/of-this-name", "no_causal_mask": True,
                "tokenizer_kwargs": {"clean": "canonicalize"}, "proj_bias": True, "pool_type": "last",
                "norm_kwargs": {"eps": 1e-6}, "act_kwargs": {"approximate": "tanh"},
            },
        },
        HALF,
    ),
}  # fmt: skip


def write(folder: Path, kind: str, pickled: bool = False, **preprocess: Any) -> Path:
    """A checkpoint whose weights depend on nothing but their names."""
    model, usual = KINDS[kind]
    checkpoints.write_json(
        folder, "open_clip_config.json", {"model_cfg": model, "preprocess_cfg": {**usual, **preprocess}}
    )
    if "hf_tokenizer_name" in model["text_cfg"]:
        checkpoints.gemma_tokenizer(folder)
    torch.manual_seed(0)
    network = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {name: _awake(name, value).contiguous() for name, value in network.state_dict().items()}
    if pickled:
        torch.save(weights, folder / "open_clip_pytorch_model.bin")
    else:
        save_file(weights, folder / "open_clip_model.safetensors", {"format": "pt"})
    return folder


def _awake(name: str, value: Tensor) -> Tensor:
    """Layers that begin as next to nothing, so that training goes well, are made to do something."""
    small = {"gamma": 0.3, "running_var": 0.03}
    return next((torch.full_like(value, number) for part, number in small.items() if part in name), value)


@functools.cache
def of(kind: str) -> Path:
    """A checkpoint of the kind, made once; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="zsar-open-clip-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return write(folder / kind, kind)
