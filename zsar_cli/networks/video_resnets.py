"""Residual networks of 3-D convolutions, from clips to grids of feature maps: R3D and R(2+1)D.

Architecture: Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018 (arXiv
1711.11248). Tensors are named as in torchvision's `r3d_18` and `r2plus1d_18` and in the PyTorch release of IG-65M's
`r2plus1d_34`, so that their checkpoints can be read; the classifier `fc` is left out.

Shape letters: N clips, T frames, S side of a frame in pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

__all__ = ["CLASSIFIER", "STEM", "VIDEO_RESNETS", "VideoResNet", "VideoResNetShape", "recognise", "scaled"]

STEM, STEM_MIDDLE = 64, 45  # channels at width 1
CLASSIFIER = "fc."


@dataclass(frozen=True)
class VideoResNetShape:
    """One of the published networks.

    Args:
        blocks: of each of the four stages.
        factored: a convolution over space, then one over time, in the place of one over both.
        own_middles: the channels between the two follow from each convolution's own inputs (Caffe2's networks), not
            from those of its block (torchvision's). They differ in the second convolution of stages 2 to 4.
        epsilon: of batch normalisation.
    """

    blocks: tuple[int, int, int, int]
    factored: bool
    own_middles: bool = False
    epsilon: float = 1e-5


VIDEO_RESNETS: Mapping[str, VideoResNetShape] = MappingProxyType(
    {
        "r3d_18": VideoResNetShape((2, 2, 2, 2), factored=False),
        "r2plus1d_18": VideoResNetShape((2, 2, 2, 2), factored=True),
        "r2plus1d_34": VideoResNetShape((3, 4, 6, 3), factored=True, own_middles=True, epsilon=1e-3),
    }
)


class VideoResNet(nn.Module):
    """Normalised clips [N, 3, T, S, S] -> feature maps [N, C, T', H, H], T' = ceil(T / 8), H = ceil(S / 16).

    C is 512 at width 1.

    Args:
        shape: which network.
        width: factor on all channels, at most 1.
    """

    def __init__(self, shape: VideoResNetShape, width: float = 1.0) -> None:
        super().__init__()
        channels = scaled(STEM, width)
        self.stem = _stem(shape, channels, scaled(STEM_MIDDLE, width))
        self.layer1 = _stage(shape, channels, channels, shape.blocks[0], stride=1)
        self.layer2 = _stage(shape, channels, 2 * channels, shape.blocks[1], stride=2)
        self.layer3 = _stage(shape, 2 * channels, 4 * channels, shape.blocks[2], stride=2)
        self.layer4 = _stage(shape, 4 * channels, 8 * channels, shape.blocks[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm3d):
                module.eps = shape.epsilon

    def forward(self, clips: Tensor) -> Tensor:
        for stage in self.stages():
            clips = stage(clips)
        return clips

    def stages(self) -> Iterator[nn.Module]:
        """Its parts from input to output."""
        yield from (self.stem, self.layer1, self.layer2, self.layer3, self.layer4)


class _Block(nn.Module):
    """Two convolutions; the input, brought to their shape where it differs, is added."""

    def __init__(self, shape: VideoResNetShape, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first = middle(inputs, outputs)
        second = middle(outputs, outputs) if shape.own_middles else first
        self.conv1 = nn.Sequential(_conv(shape, inputs, first, outputs, stride), nn.BatchNorm3d(outputs), _relu())
        self.conv2 = nn.Sequential(_conv(shape, outputs, second, outputs, 1), nn.BatchNorm3d(outputs))
        self.relu = _relu()
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv3d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm3d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = x if self.downsample is None else self.downsample(x)
        result: Tensor = self.relu(self.conv2(self.conv1(x)) + residual)
        return result


def scaled(channels: int, width: float) -> int:
    """Of a number of channels, at least 1."""
    return max(1, round(channels * width))


def middle(inputs: int, outputs: int) -> int:
    """Channels between the two halves of a factored 3x3x3 convolution that give it as many weights as the whole one."""
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)


def _relu() -> nn.ReLU:
    return nn.ReLU(inplace=True)


def _conv(shape: VideoResNetShape, inputs: int, between: int, outputs: int, stride: int) -> nn.Module:
    """3x3x3, whole or factored; the stride is that of space and time."""
    if not shape.factored:
        return nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False)
    space = nn.Conv3d(inputs, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False)
    time = nn.Conv3d(between, outputs, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False)
    return nn.Sequential(space, nn.BatchNorm3d(between), _relu(), time)


def _stem(shape: VideoResNetShape, channels: int, between: int) -> nn.Sequential:
    """3x7x7, whole or factored; halves the side and keeps the frames."""
    stride, padding = (1, 2, 2), (0, 3, 3)
    if not shape.factored:
        whole = nn.Conv3d(3, channels, (3, 7, 7), stride, (1, 3, 3), bias=False)
        return nn.Sequential(whole, nn.BatchNorm3d(channels), _relu())
    space = nn.Conv3d(3, between, (1, 7, 7), stride, padding, bias=False)
    time = nn.Conv3d(between, channels, (3, 1, 1), 1, (1, 0, 0), bias=False)
    return nn.Sequential(space, nn.BatchNorm3d(between), _relu(), time, nn.BatchNorm3d(channels), _relu())


def _stage(shape: VideoResNetShape, inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    first = _Block(shape, inputs, outputs, stride)
    return nn.Sequential(first, *(_Block(shape, outputs, outputs, 1) for _ in range(blocks - 1)))


def recognise(weights: Mapping[str, Tensor]) -> tuple[str, float] | None:
    """Name and width of the network that a state dict is of, by all of its names and shapes; None for any other."""
    known = weights.get("layer1.0.conv2.1.weight")
    if known is None or known.ndim != 1 or not 1 <= len(known) <= STEM:
        return None
    width = len(known) / STEM
    found = {name: value.shape for name, value in weights.items() if not name.startswith(CLASSIFIER)}
    for name, shape in VIDEO_RESNETS.items():
        with torch.device("meta"):
            own = VideoResNet(shape, width).state_dict()
        if found == {key: value.shape for key, value in own.items()}:
            return name, width
    return None
