"""Checkpoints in the layout of open_clip: open_clip_config.json and one file of weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zsar_cli.errors import ModelError
from zsar_cli.plain import read_json

__all__ = ["CONFIG", "WEIGHTS", "is_open_clip", "open_clip_weights", "read_open_clip_config"]

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
OTHERS = ("model.safetensors", "model.safetensors.index.json")  # of Transformers, which needs no extra package


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is for open_clip to open; not where Transformers can."""
    other = (folder / "config.json").is_file() and any((folder / name).is_file() for name in OTHERS)
    return (folder / CONFIG).is_file() and not other


def open_clip_weights(folder: Path) -> Path:
    """The file of weights: safetensors, else a pickle of tensors alone, which is read without running code.

    Raises:
        ModelError: there is none.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ModelError(f"{folder}: has {CONFIG} but no weights beside it ({', '.join(WEIGHTS)}); pull or copy it anew")


def read_open_clip_config(folder: Path) -> dict[str, Any]:
    """The configuration, with the mappings model_cfg and in it vision_cfg and text_cfg.

    Raises:
        ModelError: it is no such file.
    """
    content = read_json(folder / CONFIG, ModelError)
    model = content.get("model_cfg") if isinstance(content, dict) else None
    parts = [model.get(key) if isinstance(model, dict) else None for key in ("vision_cfg", "text_cfg")]
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in parts):
        raise ModelError(
            f"{folder / CONFIG}: is not a configuration of open_clip (model_cfg with vision_cfg, text_cfg)"
        )
    return content
