"""What the engine asks of a model, whatever its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from zsar_cli.labels import Label
from zsar_cli.text.encoder import TextEncoder
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling

__all__ = [
    "ConditionsText",
    "FrameModel",
    "HasTextTower",
    "RunsOnOpenVINO",
    "Specialist",
    "VideoEncoder",
    "VideoModel",
    "visual_part",
]


class VideoEncoder(Protocol):
    """Encodes video: what the pipeline asks of a model.

    Attributes:
        name: what `--model` takes.
        fingerprint: of the weights and of all else that decides the visual space.
        precision: of the arithmetic, for example "float32"; it moves embeddings a little within that space.
        sampling, geometry: the frames the model wants unless the user asks for others.
        device: where `encode_video` runs.
    """

    name: str
    fingerprint: str
    precision: str
    sampling: Sampling
    geometry: Geometry
    device: torch.device

    def encode_video(self, windows: Tensor) -> Tensor:
        """Visual embeddings of windows: uint8 [B, T, S, S, 3], RGB -> float32 [B, D] on the CPU."""
        ...


class VideoModel(VideoEncoder, Protocol):
    """Encodes video into the space of its prototypes.

    Attributes:
        transfer: how its scores are made unless the user asks for another way.
        text: the encoder of label text, for relatedness; may be replaced by one with a cache, and where it is the
            packaged sentence encoder, by any other before `bank` is asked.
    """

    transfer: TransferSettings
    text: TextEncoder

    def bank(self) -> PrototypeBank | None:
        """The seen classes, S prototypes; None where the model has none of its own."""
        ...

    def encode_labels(self, labels: Sequence[Label]) -> Tensor | None:
        """The labels in the visual space, [U, D], by the model's own text tower; None where it has none."""
        ...


class FrameModel(ABC):
    """What models have in common that see frames one by one: a window's embedding is the mean of its frames'."""

    @abstractmethod
    def encode_frames(self, frames: Tensor) -> Tensor:
        """Embeddings of frames: uint8 [F, S, S, 3], RGB -> float32 [F, D] on the CPU."""

    def encode_video(self, windows: Tensor) -> Tensor:
        """As `VideoEncoder.encode_video`."""
        return self.encode_frames(windows.flatten(0, 1)).reshape(*windows.shape[:2], -1).mean(dim=1)


@runtime_checkable
class HasTextTower(Protocol):
    """A model whose `encode_labels` asks a text encoder of its own; `tower` may be replaced by one with a cache."""

    tower: TextEncoder


@runtime_checkable
class RunsOnOpenVINO(Protocol):
    """A model whose `encode_video` OpenVINO can compute on a CPU, in the place of torch.

    Attributes:
        openvino: the version that computes; None for torch.
    """

    openvino: str | None

    def use_openvino(self, version: str) -> None:
        """From now on."""
        ...


@runtime_checkable
class ConditionsText(Protocol):
    """A model that rewrites each label's embedding in the light of the video, as X-CLIP does.

    Rows of its `encode_video` are the visual embedding, `width` = D columns, and behind it C columns that the
    rewriting needs; only the first are compared with prototypes.
    """

    width: int

    def condition_text(self, rows: Tensor, text: Tensor) -> Tensor:
        """Rows of `encode_video` [B, D + C] and labels [U, D] -> the labels as each video sees them, [B, U, D]."""
        ...


def visual_part(model: VideoEncoder, rows: Tensor) -> Tensor:
    """Of rows of `encode_video`, what is compared with prototypes, [B, D]."""
    return rows[:, : model.width] if isinstance(model, ConditionsText) else rows


@runtime_checkable
class Specialist(Protocol):
    """A model that was trained on some classes and says nothing of what is far from them."""

    def knows(self, labels: Sequence[Label]) -> Tensor:
        """Which labels are near to a class it was trained on: bool [U]."""
        ...
