"""Transformers over patches of a clip, those of the Transformers library, as backbones: VideoMAE, TimeSformer, ViViT.

Shape letters: N clips, T frames, S side of a frame in pixels, P = S / 16 patches a side, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.weights.checkpoint import load_network

__all__ = [
    "MOST_TOKENS",
    "PATCH",
    "VIDEO_TRANSFORMERS",
    "VideoTransformer",
    "VideoTransformerShape",
    "load_transformer",
]

PATCH = 16  # side of a patch in pixels
PER_HEAD = 64  # channels of each attention head
MOST_TOKENS = 2**16  # of a clip
# What must be as its kind has it where a checkpoint says it, beside what `VideoTransformerShape.settings` gives.
SAME = ("hidden_act", "layer_norm_eps", "qkv_bias", "attention_type")


@dataclass(frozen=True)
class VideoTransformerShape:
    """One of the published networks.

    Args:
        kind: Transformers' `model_type`.
        heads: of its attention, `PER_HEAD` channels each.
        depth: layers.
        frames: T, which its positions are made for.
        tubelet: frames of a patch.
    """

    kind: str
    heads: int
    depth: int
    frames: int
    tubelet: int = 1

    def channels(self, width: float) -> int:
        """C."""
        return PER_HEAD * max(1, round(self.heads * width))

    def settings(self, side: int, frames: int, width: float) -> dict[str, Any]:
        """Of its configuration in Transformers."""
        channels = self.channels(width)
        patches: dict[str, Any] = {"patch_size": PATCH}
        if self.kind == "videomae":
            # The last norm of one that was not trained to classify is left out: its tokens are those before it.
            patches |= {"tubelet_size": self.tubelet, "use_mean_pooling": True}
        if self.kind == "vivit":
            patches = {"tubelet_size": [self.tubelet, PATCH, PATCH]}
        return {
            "image_size": side, "num_frames": frames, "hidden_size": channels, "intermediate_size": 4 * channels,
            "num_attention_heads": channels // PER_HEAD, "num_hidden_layers": self.depth, **patches,
        }  # fmt: skip


VIDEO_TRANSFORMERS: Mapping[str, VideoTransformerShape] = MappingProxyType(
    {
        "videomae-small": VideoTransformerShape("videomae", heads=6, depth=12, frames=16, tubelet=2),
        "videomae-base": VideoTransformerShape("videomae", heads=12, depth=12, frames=16, tubelet=2),
        "videomae-large": VideoTransformerShape("videomae", heads=16, depth=24, frames=16, tubelet=2),
        "timesformer-base": VideoTransformerShape("timesformer", heads=12, depth=12, frames=8),
        "vivit-base": VideoTransformerShape("vivit", heads=12, depth=12, frames=32, tubelet=2),
    }
)
CLASSES = {"videomae": "VideoMAE", "timesformer": "Timesformer", "vivit": "Vivit"}


class VideoTransformer(nn.Module):
    """Normalised clips [N, 3, T, S, S] -> feature maps [N, C, T / tubelet, P, P]: the tokens after the last layer.

    Args:
        shape: which network.
        model: of Transformers, random weights where it is None.
        settings: see `VideoTransformerShape.settings`.
    """

    def __init__(self, shape: VideoTransformerShape, settings: Mapping[str, Any], model: Any = None) -> None:
        super().__init__()
        self.shape, self.frames, self.patches = shape, settings["num_frames"], settings["image_size"] // PATCH
        self.model = (
            _maker(shape)(_configuration(shape, settings), **_without_pooler(shape)) if model is None else model
        )

    def forward(self, clips: Tensor) -> Tensor:
        """Raises UsageError for another number of frames than its positions are made for."""
        if clips.shape[2] != self.frames:
            raise UsageError(f"{clips.shape[2]} frames: the backbone takes {self.frames}")
        tokens: Tensor = self.model(pixel_values=clips.transpose(1, 2)).last_hidden_state
        times, side = self.frames // self.shape.tubelet, self.patches
        tokens = tokens[:, tokens.shape[1] - times * side * side :]  # behind a class token, where there is one
        if self.shape.kind == "timesformer":  # all times of a patch follow each other
            return tokens.reshape(-1, side, side, times, tokens.shape[2]).permute(0, 4, 3, 1, 2)
        return tokens.reshape(-1, times, side, side, tokens.shape[2]).permute(0, 4, 1, 2, 3)

    def stages(self) -> Iterator[nn.Module]:
        """Its parts from input to output: the embedding, each layer, the last norm where there is one."""
        layers = next(part for part in self.model.modules() if isinstance(part, nn.ModuleList))
        yield self.model.embeddings
        yield from layers
        if self.model.layernorm is not None:
            yield self.model.layernorm


def load_transformer(shape: VideoTransformerShape, settings: Mapping[str, Any], folder: Path, found: Any) -> nn.Module:
    """The network with the weights of a checkpoint.

    Args:
        shape, settings: see `VideoTransformer`.
        folder: the checkpoint.
        found: its config.json.

    Raises:
        ModelError: it is of another shape, or its weights are missing or damaged.
    """
    wanted = _configuration(shape, settings)
    if found.get("model_type") != shape.kind:
        raise ModelError(f"{folder}: is a {found.get('model_type')}, expected a {shape.kind}")
    for key in [*settings, *SAME]:
        own = getattr(wanted, key, None)
        told = found.get(key, own)
        same = list(told) == list(own) if isinstance(told, list) and isinstance(own, list | tuple) else told == own
        if not same and key != "use_mean_pooling":
            raise ModelError(f"{folder}: its {key} is {told}, expected {own}; choose backbone's name, size, frames and "
                             "width to fit")  # fmt: skip
    model = load_network(
        folder, f"{CLASSES[shape.kind]}Model", torch.device("cpu"), torch.float32, config=wanted,
        **_without_pooler(shape),
    )  # fmt: skip
    return VideoTransformer(shape, settings, model)


def _maker(shape: VideoTransformerShape) -> Any:
    import transformers

    return getattr(transformers, f"{CLASSES[shape.kind]}Model")


def _configuration(shape: VideoTransformerShape, settings: Mapping[str, Any]) -> Any:
    import transformers

    return getattr(transformers, f"{CLASSES[shape.kind]}Config")(**settings)


def _without_pooler(shape: VideoTransformerShape) -> dict[str, Any]:
    """ViViT's model has a layer behind its tokens that no classifier uses."""
    return {"add_pooling_layer": False} if shape.kind == "vivit" else {}
