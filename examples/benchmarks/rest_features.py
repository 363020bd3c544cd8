"""Grid features of clips as `zsar train` computes and keeps them with examples/configs/exercise_movements.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import yaml
from torch import Tensor

from zsar_cli.data.dataset import Item, read_dataset
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.models.device import resolve_device, resolve_precision
from zsar_cli.networks.backbones import open_backbone
from zsar_cli.store.features import FeatureCache
from zsar_cli.training.features import extract
from zsar_cli.training.settings import RunConfig, read_run_config

CONFIGS = Path(__file__).parents[1] / "configs"


def run_config() -> RunConfig:
    """The example's setting."""
    file = CONFIGS / "exercise_movements.yaml"
    return read_run_config(yaml.safe_load(file.read_text(encoding="utf-8")), str(file))


def load_features(dataset: Path, cache: Path) -> tuple[list[str], Tensor]:
    """Names folder/file, and float16 [N, V, T, G, G, C]; what the cache holds already is not computed again."""
    return features_of(read_dataset(dataset).items, cache)


def features_of(items: Sequence[Item], cache: Path, frames: int | None = None) -> tuple[list[str], Tensor]:
    """The same for some videos, with another number of frames."""
    config = run_config()
    device = resolve_device("cpu")
    backbone = open_backbone(config.backbone, device, resolve_precision("auto", device))
    clip = replace(config.clip, frames=frames or config.clip.frames)
    kept = FeatureCache(cache)
    videos, failures = extract(items, backbone, clip, EmbedSettings(), kept)
    for failure in failures:
        print(failure)
    grids = []
    for video in videos:
        parts = [kept.get(key) for key in video.keys]
        grids.append(torch.cat([torch.from_numpy(part.copy()) for part in parts if part is not None]))
    return [video.item.key for video in videos], torch.stack(grids)
