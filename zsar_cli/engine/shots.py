"""Files in, cuts out: a pipeline reads every frame, small, and what it keeps of them are their differences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.engine.pipeline import Embedding, Pipeline
from zsar_cli.errors import InputError
from zsar_cli.transfer.shots import find_cuts
from zsar_cli.video.types import Geometry, Sampling

__all__ = ["Cuts", "cuts_of"]

Cuts = NDArray[np.float64] | InputError  # [C], seconds, or why they are not known

_RATE = 25  # frames per second that are compared
_LENGTH = 4.0  # seconds; the first frame of a window is the last one of the window before
_STEPS = round(_LENGTH * _RATE)


class _Differences:
    """A model whose embedding of a window is how much its neighbouring frames differ."""

    name = "shots"
    fingerprint = "shots/1"
    precision = "float32"
    sampling = Sampling(frames=_STEPS + 1, window=_LENGTH + 1 / _RATE, stride=_LENGTH)
    geometry = Geometry(size=32)
    device = torch.device("cpu")

    def encode_video(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, T - 1], mean absolute differences, of 255."""
        return windows.float().diff(dim=1).abs().mean(dim=(2, 3, 4))


def cuts_of(pipeline: Pipeline, inputs: Iterable[str | InputError]) -> Iterator[Cuts]:
    """The cuts of each video, in the order of `inputs`.

    Args:
        pipeline: whose settings, but for the sampling, and whose cache are used.
    """
    kept = {name: value for name, value in pipeline.settings.sampling.items() if name == "frame_rate"}
    own = Pipeline([_Differences()], replace(pipeline.settings, sampling=kept), pipeline.cache)
    try:
        for found in own.embed(inputs):
            yield found if isinstance(found, InputError) else _cuts(found[0])
    finally:
        own.close()


def _cuts(video: Embedding) -> NDArray[np.float64]:
    spans = video.spans.numpy()
    steps = (spans[:, 1:] - spans[:, :1]) / (_STEPS + 1)
    times = spans[:, :1] + steps * np.arange(1, _STEPS + 1)
    return find_cuts(times.ravel(), video.windows.double().numpy().ravel())
