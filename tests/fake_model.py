"""A model of a few numbers, for tests of everything around a model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from zsar_cli.labels import Label
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling

SEEN = ("bright", "dark", "left", "right")


class FakeText:
    """Unit vectors that depend on the text alone."""

    fingerprint = "fake-text"

    def encode(self, texts: Sequence[str]) -> Tensor:
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") for text in texts]
        rows = [torch.randn(8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)


class FakeModel:
    """The embedding of a clip is the mean brightness of the 16 blocks of its frames, so it says which frames came."""

    name = "fake"
    precision = "float32"
    sampling = Sampling(windows=2, frames=3)
    geometry = Geometry(size=32)
    transfer = TransferSettings(top_k=2, temperature=0.2)
    device = torch.device("cpu")

    def __init__(self, fingerprint: str = "fake-1") -> None:
        self.fingerprint = fingerprint
        self.text = FakeText()
        self.batches: list[int] = []

    def bank(self) -> PrototypeBank:
        visual = torch.nn.functional.normalize(torch.randn(4, 16, generator=torch.Generator().manual_seed(1)), dim=1)
        return PrototypeBank(SEEN, self.text.encode(SEEN), visual, self.fingerprint, self.text.fingerprint)

    def encode_video(self, clips: Tensor) -> Tensor:
        self.batches.append(len(clips))
        blocks = clips.float().mean(dim=(1, 4)).reshape(len(clips), 4, 8, 4, 8).mean(dim=(2, 4))
        return blocks.flatten(1) / 255 - 0.5

    def encode_labels(self, labels: Sequence[Label]) -> None:
        return None
