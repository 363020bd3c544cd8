"""Networks that turn the frames of a clip into a grid of features: what the cross-modal Transformer reads.

Some look at each frame by itself, others at the whole clip, and give fewer times than it has frames.

Shape letters: B clips, T frames, T' times of the grid, S side of a frame in pixels, G cells a side, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.networks.backbone_config import (
    BACKBONES,
    FILES,
    NORMALISATIONS,
    OF_CLIPS,
    PACKAGED,
    POSTURE,
    RANDOM,
    BackboneConfig,
)
from zsar_cli.networks.efficientnet import EfficientNetLite, fold_batch_norm
from zsar_cli.networks.parts import FRAMES, in_parts
from zsar_cli.networks.pose import FINGERPRINT as POSE
from zsar_cli.networks.pose import PoseNetwork, open_pose
from zsar_cli.networks.posture import PostureFeatures, describe, fill
from zsar_cli.networks.video_resnets import CLASSIFIER, VIDEO_RESNETS, VideoResNet
from zsar_cli.networks.video_transformers import VIDEO_TRANSFORMERS, VideoTransformer, load_transformer
from zsar_cli.plain import read_json
from zsar_cli.tensors import seeded

__all__ = ["BACKBONES", "PACKAGED", "RANDOM", "Backbone", "BackboneConfig", "assemble", "network_of", "open_backbone"]

CHUNK = 8  # frames whose activations are held at a time where they are computed again in the backward pass
PROCESSOR = "preprocessor_config.json"


class Backbone(nn.Module):
    """Frames to grid features; frozen and in evaluation mode until it is told otherwise.

    Args:
        config: see `BackboneConfig`.
        network: from normalised images [N, 3, S, S] to feature maps [N, C', H, W], or from clips [N, 3, T, S, S] to
            [N, C', T', H, W]; see `network_of`.
        fingerprint: of its weights.
        poser: describes postures, where the config asks for it; on the same device.

    Attributes:
        checkpointing: compute activations again in the backward pass, `CHUNK` frames or one clip at a time. What batch
            normalisation measures, where it is not frozen, is then of these.
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
        for name, values in zip(("mean", "std"), config.colours, strict=True):
            self.register_buffer(name, torch.tensor(values), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, frames: Tensor) -> Tensor:
        """Frames [B, T, S, S, 3], RGB, 0..255 of any type -> float32 [B, T', G, G, C].

        Raises:
            UsageError: T is not what a video Transformer takes.
        """
        self.check_frames(frames.shape[1])
        if self.config.name in OF_CLIPS:
            grid = self._in_parts(frames.movedim(-1, 1), 1)
        else:
            grid = self._in_parts(frames.flatten(0, 1).movedim(-1, 1), CHUNK)
            grid = grid.reshape(*frames.shape[:2], *grid.shape[1:])
        (poser,) = self._poser
        if poser is None:
            return grid
        postures = torch.stack([poser(clip) for clip in frames])
        # At each time of the grid, the mean over the frames around it.
        postures = F.adaptive_avg_pool1d(postures.transpose(1, 2), grid.shape[1]).transpose(1, 2)
        return torch.cat([grid, postures[:, :, None, None].expand(*grid.shape[:-1], -1)], dim=-1)

    def check_frames(self, count: int) -> None:
        """Raises UsageError where T = `count` does not work."""
        needed = self.config.needed_frames
        if needed not in (None, count):
            raise UsageError(f"--frames {count}: the backbone {self.config.name} takes {needed} frames")

    def _in_parts(self, pixels: Tensor, most: int) -> Tensor:
        """The grids of images or clips, computed so that what is held at a time is bounded."""
        if not torch.is_grad_enabled():
            return in_parts(self._grid, pixels, 1 if pixels.ndim == 5 else FRAMES)
        if not self.checkpointing:
            return self._grid(pixels)
        parts = [checkpoint(self._grid, part, use_reentrant=False) for part in torch.split(pixels, most)]
        return torch.cat(parts)

    def _grid(self, pixels: Tensor) -> Tensor:
        """[N, 3, S, S] or [N, 3, T, S, S], 0..255 -> float32 [N, G, G, C] or [N, T', G, G, C]."""
        shape = (3, *(1 for _ in pixels.shape[2:]))
        mean, std = (self.get_buffer(name).reshape(shape) for name in ("mean", "std"))
        normal, cells = (pixels.to(mean) - mean) / std, self.config.cells
        if pixels.ndim == 4:
            maps: Tensor = self.network(normal.contiguous(memory_format=torch.channels_last))
            return F.adaptive_avg_pool2d(maps.float(), cells).permute(0, 2, 3, 1)
        maps = self.network(normal.contiguous())
        return F.adaptive_avg_pool3d(maps.float(), (maps.shape[2], cells, cells)).permute(0, 2, 3, 4, 1)

    def train(self, mode: bool = True) -> Backbone:
        """As `nn.Module.train`; but batch norm keeps its statistics where the config freezes them."""
        super().train(mode)
        frozen = self.config.weights != RANDOM if self.config.freeze_norm is None else self.config.freeze_norm
        if frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                    module.eval()
        return self

    def stages(self) -> Iterator[nn.Module]:
        """The parts of the network from its input to its output, for learning rates that differ by depth."""
        assert isinstance(self.network, _Lite | _ResNet | VideoResNet | VideoTransformer)
        yield from self.network.stages()


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

    def stages(self) -> Iterator[nn.Module]:
        yield self.stem
        yield from self.blocks
        yield self.head


class _ResNet(nn.Module):
    """Transformers' ResNet, feature maps only."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.model(images).last_hidden_state
        return maps

    def stages(self) -> Iterator[nn.Module]:
        yield self.model.embedder
        yield from self.model.encoder.stages


def network_of(config: BackboneConfig) -> nn.Module:
    """The network with random weights from the config's seed; torch's random state is left as it was."""
    with seeded(config.seed):
        if config.name in FILES:
            return _Lite(config.name)
        if config.name in VIDEO_RESNETS:
            return VideoResNet(VIDEO_RESNETS[config.name], config.width)
        if config.name in VIDEO_TRANSFORMERS:
            return VideoTransformer(VIDEO_TRANSFORMERS[config.name], config.transformer)
        from transformers import ResNetConfig, ResNetModel

        return _ResNet(ResNetModel(ResNetConfig(**config.resnet)))


def open_backbone(config: BackboneConfig, device: torch.device, dtype: torch.dtype) -> Backbone:
    """A backbone with its weights, ready on `device`.

    Raises:
        ModelError: the weights are missing, damaged or of another architecture.
        UsageError: the weights are a file, or no folder and no hub id.
    """
    if config.weights == RANDOM:
        network, fingerprint = network_of(config), f"{config.name}-random-{config.seed}"
    elif config.name in FILES:
        network, file = network_of(config), FILES[config.name]
        folded = fold_batch_norm(torch.load(file.verified(), map_location="cpu", weights_only=True))
        network.load_state_dict({key: value for key, value in folded.items() if not key.startswith("classifier.")})
        fingerprint = f"{config.name}-{file.sha256[:12]}"
    else:
        network, fingerprint, own = _from_checkpoint(config)
        if config.normalisation is None:
            config = replace(config, normalisation=own)
        else:
            fingerprint += f"-{config.normalisation}"
    if config.weights in (RANDOM, PACKAGED):
        changed = {"width": config.width, "frames": config.frames, "normalisation": config.normalisation}
        fingerprint += "".join(f"-{key}={value}" for key, value in changed.items() if value not in (None, 1.0))
    if config.posture:
        fingerprint += f"+{POSE}"
    return assemble(config, network, fingerprint, device, dtype)


def assemble(
    config: BackboneConfig, network: nn.Module, fingerprint: str, device: torch.device, dtype: torch.dtype
) -> Backbone:
    """A backbone around a network that has its weights; see `Backbone`."""
    poser = Poser(open_pose(device)).to(device).eval() if config.posture else None
    return Backbone(config, network, fingerprint, poser).to(device=device, dtype=dtype)


def _from_checkpoint(config: BackboneConfig) -> tuple[nn.Module, str, str | None]:
    """A network from a folder or a pulled hub model, its fingerprint, and its normalisation where it says one."""
    from zsar_cli.weights.catalogue import locate
    from zsar_cli.weights.checkpoint import fingerprint, load_network, read_config

    folder = Path(config.weights)
    if folder.is_file():
        raise UsageError(f"{folder}: is a file; make a folder of it: zsar models convert {folder} -o NEW_FOLDER")
    if not folder.is_dir():
        folder = locate(config.weights).path or folder
    found = read_config(folder)
    network: nn.Module
    if config.name in VIDEO_RESNETS:
        network, own = _video_resnet(config, folder, found), None
    elif config.name in VIDEO_TRANSFORMERS:
        shape = VIDEO_TRANSFORMERS[config.name]
        network = load_transformer(shape, config.transformer, folder, found)
        own = None if config.normalisation else _processor_normalisation(folder)
    else:
        for key, wanted in config.resnet.items():
            if found.get(key) != wanted:
                raise ModelError(f"{folder}: is not a {config.name}: its {key} is {found.get(key)}, expected {wanted}")
        network, own = _ResNet(load_network(folder, "ResNetModel", torch.device("cpu"), torch.float32)), None
    return network, fingerprint(folder, found), own


def _video_resnet(config: BackboneConfig, folder: Path, found: Mapping[str, Any]) -> VideoResNet:
    """From a folder that `zsar models convert` wrote."""
    for key, wanted in (("model_type", config.name), ("width", config.width)):
        if found.get(key) != wanted:
            raise ModelError(f"{folder}: its {key} is {found.get(key)}, expected {wanted}")
    network = VideoResNet(VIDEO_RESNETS[config.name], config.width)
    try:
        weights = load_file(folder / "model.safetensors")
        network.load_state_dict({key: value for key, value in weights.items() if not key.startswith(CLASSIFIER)})
    # Of what does not fit, torch and safetensors raise now this and now that.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{folder}: model.safetensors holds no weights of a {config.name}: {reason}") from None
    return network


def _processor_normalisation(folder: Path) -> str | None:
    """The one of `NORMALISATIONS` that a checkpoint's processor applies; None where the checkpoint has no processor.

    Raises:
        ModelError: it applies another one.
    """
    if not (folder / PROCESSOR).is_file():
        return None
    given = read_json(folder / PROCESSOR, ModelError)
    try:
        given = {key: value for key, value in given.items() if value is not None}
        scale = 1 / float(given.get("rescale_factor", 1 / 255))
        offset = 1.0 if given.get("offset", str(given.get("image_processor_type", "")).startswith("Vivit")) else 0.0
        mean, std = ([float(value) for value in given[key]] for key in ("image_mean", "image_std"))
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / PROCESSOR}: does not say how frames are normalised: {error}") from None
    found = torch.tensor([[scale * (value + offset) for value in mean], [scale * value for value in std]])
    for name, values in NORMALISATIONS.items():
        known = torch.tensor(values)
        if found.shape == known.shape and torch.allclose(found, known, rtol=1e-3):
            return name
    raise ModelError(
        f"{folder / PROCESSOR}: normalises by mean {mean} and deviation {std}, which is none of "
        f"{', '.join(NORMALISATIONS)}; give the backbone's normalisation"
    )
