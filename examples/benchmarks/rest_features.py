"""Grid features of clips from the packaged EfficientNet-Lite2, in four views, kept in one file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.models.builtin import VARIANT, WEIGHTS
from zsar_cli.models.efficientnet import VARIANTS, EfficientNetLite, fold_batch_norm
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import Geometry, Sampling

CELLS = 3  # a side, after average pooling of the 9 x 9 map


@cache
def backbone() -> EfficientNetLite:
    """The frozen network, made once."""
    network = EfficientNetLite(VARIANT).eval()
    network.load_state_dict(fold_batch_norm(torch.load(WEIGHTS.verified(), map_location="cpu", weights_only=True)))
    return network


@torch.inference_mode()
def four_views(path: str, frames: int = 4) -> Tensor:
    """Centre crop and whole frame, each as it is and mirrored: float16 [4, T, 3, 3, 1280]."""
    size = VARIANTS[VARIANT].size
    views = []
    for resize in (size, None):
        clip = torch.from_numpy(read_video(path, Sampling(frames=frames), Geometry(size, resize)).frames)
        images = (clip.permute(0, 3, 1, 2).float() - 127) / 128
        for view in (images, images.flip(-1)):
            pooled = F.adaptive_avg_pool2d(backbone().feature_map(view), CELLS)
            views.append(pooled.permute(0, 2, 3, 1).half())
    return torch.stack(views)


def load_features(dataset: Path, kept: Path) -> tuple[list[str], Tensor]:
    """Sorted names folder/file, and float16 [N, 4, 4, 3, 3, 1280]: read from `kept`, or made and written there."""
    if not kept.exists():
        paths = sorted(path for path in dataset.glob("*/*") if path.is_file())
        names = [f"{path.parent.name}/{path.name}" for path in paths]
        grids = torch.stack([four_views(str(path)) for path in paths])
        torch.save({"names": names, "grid": grids}, kept)
    saved = torch.load(kept, weights_only=True)
    return saved["names"], saved["grid"]
