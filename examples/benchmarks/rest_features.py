"""Grid features of clips as `zsar train` computes them with posture, each clip as it is and mirrored, in one file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from zsar_cli.models.backbones import Backbone, BackboneConfig, open_backbone
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import Geometry, Sampling

CONFIG = BackboneConfig("efficientnet-lite2", posture=True)


@cache
def backbone() -> Backbone:
    """The frozen network, made once."""
    return open_backbone(CONFIG, torch.device("cpu"), torch.float32)


@torch.inference_mode()
def two_views(path: str, frames: int = 4) -> Tensor:
    """The letterboxed frames, and their mirror images: float16 [2, T, G, G, C]."""
    read = read_video(path, Sampling(frames=frames), Geometry(CONFIG.side, letterbox=True))
    clip = torch.from_numpy(read.frames)
    return backbone()(torch.stack([clip, clip.flip(2)])).half()


def load_features(dataset: Path, kept: Path) -> tuple[list[str], Tensor]:
    """Sorted names folder/file, and float16 [N, 2, 4, G, G, C]: read from `kept`, or made and written there."""
    if not kept.exists():
        paths = sorted(path for path in dataset.glob("*/*") if path.is_file())
        names = [f"{path.parent.name}/{path.name}" for path in paths]
        grids = torch.stack([two_views(str(path)) for path in paths])
        torch.save({"names": names, "grid": grids}, kept)
    saved = torch.load(kept, weights_only=True)
    return saved["names"], saved["grid"]
