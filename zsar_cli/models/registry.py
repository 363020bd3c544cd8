"""Models by name."""

from __future__ import annotations

import torch

from zsar_cli.errors import UsageError
from zsar_cli.models.base import VideoModel
from zsar_cli.models.builtin import BuiltinModel

__all__ = ["MODELS", "load_model"]

MODELS = {"builtin": BuiltinModel}


def load_model(name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> VideoModel:
    """The model of that name, its weights verified, ready on `device`.

    Raises:
        UsageError: no model has that name.
        ModelError: its weights are missing or damaged.
    """
    if name not in MODELS:
        raise UsageError(f"--model {name}: unknown; allowed: {', '.join(MODELS)}")
    return MODELS[name](device, dtype)
