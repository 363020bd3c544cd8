"""A small untrained cross-modal Transformer on a real backbone, as a bundle: quick to make, and deterministic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from zsar_cli.labels import LabelSet
from zsar_cli.models.rest import ClipSettings, round_weights, seen_classes, write_rest
from zsar_cli.networks.backbones import Backbone, BackboneConfig, open_backbone
from zsar_cli.networks.rest import RestConfig, RestModel
from zsar_cli.tensors import seeded
from zsar_cli.text.minilm import minilm
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling

CPU = torch.device("cpu")
SEEN = ("riding a bike", "playing chess", "swimming", "chopping wood")
BACKBONE = BackboneConfig("efficientnet-lite0", size=64, cells=2)
CLIP = ClipSettings(Sampling(frames=3), Geometry(64, 64))
TRANSFER = TransferSettings(top_k=3, temperature=0.1, conse_weight=0.2, text_weight=0.5)


def parts(seed: int = 0, **backbone: Any) -> tuple[RestModel, Backbone, torch.Tensor]:
    """The model, its backbone, and prototypes of `SEEN`."""
    config = BackboneConfig(**{**vars(BACKBONE), **backbone})
    with seeded(seed):
        model = RestModel(RestConfig(features=config.channels, space=32, width=16, depth=1, heads=2, gate=0.5)).eval()
        prototypes = torch.randn(len(SEEN), 32)
    round_weights(model)
    return model, open_backbone(config, CPU, torch.float32), prototypes


def write(folder: Path, seed: int = 0, changed: bool = False, specialist: float | None = None, **backbone: Any) -> str:
    """Write it; returns its fingerprint."""
    model, network, prototypes = parts(seed, **backbone)
    seen = seen_classes(model, prototypes, LabelSet.from_names(SEEN).labels, minilm())
    return write_rest(
        folder, name="small", model=model, backbone=network, seen=seen, clip=CLIP, transfer=TRANSFER,
        provenance={"data": "none: random weights"}, changed=changed, specialist=specialist,
    )  # fmt: skip
