"""Windows to vectors by one model, where a bad number or a full device is the failure of one window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.models.base import FrameModel, VideoEncoder

__all__ = ["encode", "stacked"]


def stacked(frames: Sequence[NDArray[np.uint8]], device: torch.device) -> Tensor:
    """F frames [S, S, 3] as one tensor, uint8 [F, S, S, 3]; for CUDA in pinned memory, out of which it copies fast."""
    whole = torch.empty((len(frames), *frames[0].shape), dtype=torch.uint8, pin_memory=device.type == "cuda")
    np.stack(frames, out=whole.numpy())
    return whole


def encode(model: VideoEncoder, frames: Tensor, shown: Tensor, most: int) -> list[Tensor | str]:
    """Each window's visual embedding, or why there is none.

    Args:
        model: encodes video. One that sees single frames sees each of them once, however many windows show it.
        frames: uint8 [F, S, S, 3].
        shown: int64 [n, T], which of the frames each window shows.
        most: windows that the model is given at a time. A batch that does not fit into memory is tried in halves.

    Returns:
        n rows, float32 [D], or reasons.
    """
    if not isinstance(model, FrameModel):
        return [row for part in torch.split(shown, most) for row in _in_halves(model, model.encode_video, frames[part])]
    parts = torch.split(frames, most * shown.shape[1])
    found = [row for part in parts for row in _in_halves(model, model.encode_frames, part)]
    return [_mean([found[frame] for frame in window]) for window in shown.tolist()]


def _mean(rows: Sequence[Tensor | str]) -> Tensor | str:
    """Of the frames of a window; the first reason where one has none."""
    wrong = next((row for row in rows if isinstance(row, str)), None)
    return wrong or torch.stack([row for row in rows if isinstance(row, Tensor)]).mean(dim=0)


def _in_halves(model: VideoEncoder, run: Callable[[Tensor], Tensor], inputs: Tensor) -> list[Tensor | str]:
    """Rows of what a model makes of windows, or of frames."""
    try:
        rows = run(inputs)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        if len(inputs) > 1:
            half = len(inputs) // 2
            return _in_halves(model, run, inputs[:half]) + _in_halves(model, run, inputs[half:])
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
