"""Windows to vectors by one model, where a bad number or a full device is the failure of one window."""

from __future__ import annotations

import torch
from torch import Tensor

from zsar_cli.models.base import VideoModel

__all__ = ["encode"]


def encode(model: VideoModel, frames: Tensor, most: int) -> list[Tensor | str]:
    """Each window's visual embedding, or why there is none.

    Args:
        model: encodes video.
        frames: uint8 [n, T, S, S, 3].
        most: windows that the model is given at a time. A batch that does not fit into memory is tried in halves.

    Returns:
        n rows, float32 [D], or reasons.
    """
    results: list[Tensor | str] = []
    for part in torch.split(frames, most):
        results += _in_halves(model, part)
    return results


def _in_halves(model: VideoModel, frames: Tensor) -> list[Tensor | str]:
    try:
        rows = model.encode_video(frames)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        if len(frames) > 1:
            half = len(frames) // 2
            return _in_halves(model, frames[:half]) + _in_halves(model, frames[half:])
        return [f"{model.device} has too little memory for one window ({_first_line(error)}); --device cpu has more"]
    bad = "the model gives numbers that are not finite; try --precision fp32, or 'zsar models verify' for its weights"
    return [row.clone() if torch.isfinite(row).all() else bad for row in rows]


def _out_of_memory(error: Exception) -> bool:
    # On a CPU torch raises a plain RuntimeError: "... DefaultCPUAllocator: can't allocate memory".
    told = str(error).lower()
    by_type = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return by_type or "out of memory" in told or "allocate memory" in told


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
