"""Grid features of clips as `zsar train` computes and keeps them with examples/configs/exercise_movements.yaml."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml
from torch import Tensor

from zsar_cli.data.dataset import Dataset, Item
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


def load_features(dataset: Dataset, cache: Path) -> tuple[list[Item], Tensor]:
    """The usable videos, and float16 [N, V, T, G, G, C]; what the cache holds already is not computed again."""
    config, device = run_config(), resolve_device("cpu")
    backbone = open_backbone(config.backbone, device, resolve_precision("auto", device))
    kept = FeatureCache(cache)
    videos, failures = extract(dataset.items, backbone, config.clip, EmbedSettings(), kept)
    for failure in failures:
        print(failure)
    grids = []
    for video in videos:
        parts = [kept.get(key) for key in video.keys]
        grids.append(torch.cat([torch.from_numpy(part.copy()) for part in parts if part is not None]))
    return [video.item for video in videos], torch.stack(grids)
