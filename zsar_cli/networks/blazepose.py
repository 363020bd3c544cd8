"""The two networks of BlazePose: one finds people in a frame, the other places landmarks on the body it is shown.

Architecture: Bazarevsky et al., "BlazePose", CVPR workshops 2020 (arXiv 2006.10204), as published in MediaPipe's
`pose_detection.tflite` and `pose_landmark_full.tflite`. Both have the body of an EfficientNet, narrower in the second,
without squeeze-and-excitation. Their segmentation head is left out.

The layers are defined in the order in which the published files use them on the way to each output;
examples/maintenance/blazepose.py relies on it when it copies the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zsar_cli.networks.efficientnet import relu6

__all__ = ["DETECTOR_SIDE", "LANDMARKER_SIDE", "LANDMARKS", "PoseDetector", "PoseLandmarker"]

DETECTOR_SIDE = 224  # of the square image, in pixels
LANDMARKER_SIDE = 256
LANDMARKS = 39  # 33 of the body, then two that give the next crop of a tracker, then four that are not used
COORDINATES = 12  # per anchor: centre, size and four key points of a person

# (repeats, kernel, stride) of the stages; the second begins with expansion 4, all else expands by 6.
STAGES = ((1, 3, 1), (2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2))
STEM = 24  # channels of the first convolution
DETECTOR_WIDTHS = (16, 24, 40, 80, 112, 192)  # channels of the stages
LANDMARKER_WIDTHS = (16, 24, 32, 64, 88, 144)


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution with the even padding that keeps the side, or divides it by the stride."""
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)


def separable(inputs: int, outputs: int, stride: int = 1, activation: bool = True) -> nn.Sequential:
    """Depthwise 3x3, pointwise; ReLU6 in between if `activation`."""
    depthwise = conv(inputs, inputs, 3, stride, groups=inputs)
    between = nn.ReLU6(inplace=True) if activation else nn.Identity()
    return nn.Sequential(depthwise, between, conv(inputs, outputs))


class InvertedResidual(nn.Module):
    """Expand to `hidden` channels, depthwise, project; the input is added where shapes agree."""

    def __init__(self, inputs: int, hidden: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.expand = nn.Sequential(conv(inputs, hidden), nn.ReLU6(inplace=True)) if hidden != inputs else nn.Identity()
        self.depthwise = conv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = conv(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(relu6(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class Residual(nn.Module):
    """relu6(x + separable(x)), shapes unchanged."""

    def __init__(self, channels: int, activation: bool) -> None:
        super().__init__()
        self.body = separable(channels, channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        return relu6(x + self.body(x))


class Halve(nn.Module):
    """relu6(maxpool(x) + separable(x) with stride 2): half the side, channels unchanged."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, 2, groups=channels)
        self.pointwise = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 1, 0, 1))  # TensorFlow's "same" padding for an even side is uneven
        return relu6(F.max_pool2d(x, 2) + self.pointwise(relu6(self.depthwise(padded))))


def stages(widths: Sequence[int], first: int, last: int) -> nn.Sequential:
    """The stages `first` to `last` (inclusive) of the trunk."""
    blocks: list[nn.Module] = []
    for index in range(first, last + 1):
        repeats, kernel, stride = STAGES[index]
        inputs = widths[index - 1] if index else STEM
        for repeat in range(repeats):
            expansion = 1 if index == 0 else 4 if index == 1 and repeat == 0 else 6
            blocks.append(
                InvertedResidual(inputs, inputs * expansion, widths[index], kernel, stride if repeat == 0 else 1)
            )
            inputs = widths[index]
    return nn.Sequential(*blocks)


def stem() -> nn.Sequential:
    """Image [B, 3, S, S] -> [B, STEM, S / 2, S / 2]."""
    return nn.Sequential(conv(3, STEM, 3, 2), nn.ReLU6(inplace=True))


def trunk_end(width: int) -> nn.Sequential:
    """The last stage's expansion, [B, width, h, w] -> [B, 6 width, h, w], which nothing projects back."""
    wide = 6 * width
    return nn.Sequential(
        conv(width, wide), nn.ReLU6(inplace=True), conv(wide, wide, 3, groups=wide), nn.ReLU6(inplace=True)
    )


def depth_to_space(x: Tensor) -> Tensor:
    """[B, 4 C, h, w] -> [B, C, 2 h, 2 w] in TensorFlow's order: the place within a 2x2 block varies slower than C."""
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, 2, 2, channels // 4, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, channels // 4, 2 * height, 2 * width)


def upsample(x: Tensor) -> Tensor:
    """Twice the side, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def by_anchor(maps: Tensor, values: int) -> Tensor:
    """[B, A * values, h, w] -> [B, h * w * A, values]: A anchors of each cell, row by row."""
    return maps.permute(0, 2, 3, 1).reshape(len(maps), -1, values)


class PoseDetector(nn.Module):
    """Where people may be: float [B, 3, 224, 224] in -1..1 -> boxes [B, 2254, 12] and scores [B, 2254], both raw.

    Anchors: 28 x 28 cells of 2, then 14 x 14 of 2, then 7 x 7 of 6. A box is centre x, y, width, height and x, y of
    four key points, in pixels of the 224; centre and key points count from the centre of the anchor's cell.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = DETECTOR_WIDTHS
        self.to_stride8 = nn.Sequential(stem(), stages(widths, 0, 2))
        self.lateral8 = separable(widths[2], 96, activation=False)
        self.to_stride16 = stages(widths, 3, 4)
        self.lateral16 = separable(widths[4], 192, activation=False)
        self.to_stride32 = nn.Sequential(stages(widths, 5, 5), trunk_end(widths[5]))
        self.down16 = conv(6 * widths[5], 192)
        self.blocks16 = nn.Sequential(Residual(192, activation=False), Residual(192, activation=False))
        self.down8 = conv(192, 96)
        self.blocks8 = nn.Sequential(Residual(96, activation=False), Residual(96, activation=False))
        heads = ((24, 2), (48, 2), (288, 6))  # channels, anchors per cell
        self.boxes = nn.ModuleList(separable(c, anchors * COORDINATES, 2, activation=False) for c, anchors in heads)
        self.scores = nn.ModuleList(separable(c, anchors, 2, activation=False) for c, anchors in heads)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stride8 = self.to_stride8(images)
        stride16 = self.to_stride16(stride8)
        stride32 = self.to_stride32(stride16)
        wide16 = self.blocks16(relu6(self.lateral16(stride16)) + relu6(self.down16(upsample(stride32))))
        wide8 = self.blocks8(relu6(self.lateral8(stride8)) + relu6(self.down8(upsample(wide16))))
        maps = [depth_to_space(x) for x in (wide8, wide16, stride32)]
        boxes = [by_anchor(head(x), COORDINATES) for head, x in zip(self.boxes, maps, strict=True)]
        scores = [by_anchor(head(x), 1) for head, x in zip(self.scores, maps, strict=True)]
        return torch.cat(boxes, dim=1), torch.cat(scores, dim=1).squeeze(-1)


class PoseLandmarker(nn.Module):
    """The body in a square crop: float [B, 3, 256, 256] in 0..1 -> four tensors.

    landmarks [B, 39, 5]: x, y, z in pixels of the crop, then visibility and presence, before the sigmoid.
    presence [B, 1]: 0..1, that there is a person at all.
    world [B, 39, 3]: metres from the middle of the hips, turned as the crop is.
    heat [B, 39, 64, 64]: where each landmark is, before the sigmoid.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = LANDMARKER_WIDTHS
        self.to_stride4 = nn.Sequential(stem(), stages(widths, 0, 1))
        self.to_stride8 = stages(widths, 2, 2)
        self.to_stride16 = stages(widths, 3, 4)
        self.to_stride32 = nn.Sequential(stages(widths, 5, 5), trunk_end(widths[5]))
        self.head = nn.Sequential(
            separable(6 * widths[5], 288),
            nn.ReLU6(inplace=True),
            Halve(288),
            *(Residual(288, activation=True) for _ in range(4)),
            Halve(288),
            *(Residual(288, activation=True) for _ in range(5)),
        )
        self.landmarks = nn.Conv2d(288, LANDMARKS * 5, 2)
        self.presence = nn.Conv2d(288, 1, 2)
        self.world = nn.Conv2d(288, LANDMARKS * 3, 2)
        self.lateral32, self.lateral16, self.lateral8, self.lateral4 = (
            separable(width, 48) for width in (6 * widths[5], widths[4], widths[2], widths[1])
        )
        self.heat = conv(48, LANDMARKS)

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        stride4 = self.to_stride4(crops)
        stride8 = self.to_stride8(stride4)
        stride16 = self.to_stride16(stride8)
        stride32 = self.to_stride32(stride16)
        body = self.head(stride32)
        merged = relu6(self.lateral32(stride32))
        for lateral, x in ((self.lateral16, stride16), (self.lateral8, stride8), (self.lateral4, stride4)):
            merged = upsample(merged) + relu6(lateral(x))
        return (
            self.landmarks(body).reshape(-1, LANDMARKS, 5),
            torch.sigmoid(self.presence(body)).flatten(1),
            self.world(body).reshape(-1, LANDMARKS, 3),
            self.heat(merged),
        )
