"""EfficientNet-Lite for inference and fine-tuning, with batch normalisation folded into the convolutions.

Architecture: Tan & Le, "EfficientNet", ICML 2019 (arXiv 1905.11946), in the "Lite" form its authors published for
small devices: ReLU6 instead of swish, no squeeze-and-excitation, stem and head of fixed width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "VARIANTS",
    "EfficientNetLite",
    "InvertedResidual",
    "SameConv",
    "Variant",
    "fold_batch_norm",
    "has_one_dnn",
    "relu6",
]

FEATURES = 1280  # width of the layer before the classifier, the same in all variants
BATCH_NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Variant:
    """Scaling of one EfficientNet-Lite: width and depth factors and the input side in pixels."""

    width: float
    depth: float
    size: int


VARIANTS: Mapping[str, Variant] = {
    "efficientnet-lite0": Variant(1.0, 1.0, 224),
    "efficientnet-lite1": Variant(1.0, 1.1, 240),
    "efficientnet-lite2": Variant(1.1, 1.2, 260),
}

# (repeats, kernel, stride, expansion, output channels) of the seven stages of EfficientNet-B0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """Convolution with bias and TensorFlow's "same" padding, which is uneven for even input sides.

    Input [B, C, H, W], output [B, C', ceil(H / stride), ceil(W / stride)]; with `clamps` it is ReLU6 of that.

    On a CPU without gradients oneDNN computes it as torch's own compiler has it done: with a weight that is laid out
    once, and the ReLU6 inside. The numbers are the same. These operations have no public name: a torch may lack them.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, clamps: bool = False
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=True)
        self.clamps = clamps

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu" and x.dtype in _ONE_DNN and len(x) and not torch.is_grad_enabled() and has_one_dnn():
            return self._by_one_dnn(x)
        weight, padding = self._padded(x.shape)
        y = F.conv2d(x, weight, self.bias, self.stride, padding, groups=self.groups)
        return relu6(y) if self.clamps else y

    def _padded(self, shape: torch.Size) -> tuple[Tensor, tuple[int, int]]:
        """The weight, and the padding on either side of images of this shape."""
        total_h, total_w = (
            max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            for side, stride, kernel in zip(shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        # An uneven padding, one more behind than before, is an even one for a kernel that begins with a zero: cheaper
        # than a padded copy of the image.
        weight = F.pad(self.weight, (total_w % 2, 0, total_h % 2, 0)) if total_h % 2 or total_w % 2 else self.weight
        return weight, (-(-total_h // 2), -(-total_w // 2))

    def _by_one_dnn(self, x: Tensor) -> Tensor:
        state = (x.shape, self.weight.data_ptr(), self.weight._version)
        known = _LAID_OUT.get(self)
        if known is None or known[0] is not self.weight or known[1] != state:
            weight, padding = self._padded(x.shape)
            how = (padding, self.stride, self.dilation, self.groups)
            lay_out: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            known = _LAID_OUT[self] = self.weight, state, lay_out(weight.detach().to_mkldnn(), *how, x.shape), how
        *_, weight, how = known
        after = ("hardtanh", [0.0, 6.0]) if self.clamps else ("none", [])
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, self.bias, *how, *after, "")
        return y


_ONE_DNN = (torch.float32, torch.bfloat16)
# Beside the modules, so that copies of them have none: of which weight it was made, in which state, for which images;
# the weight as oneDNN likes it; padding, stride, dilation and groups.
_LAID_OUT: WeakKeyDictionary[SameConv, tuple[Tensor, tuple[Any, ...], Tensor, tuple[Any, ...]]] = WeakKeyDictionary()


@cache
def has_one_dnn() -> bool:
    """Whether this build of torch has the operations."""
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    both = hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight"), hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    return built and all(both)


def relu6(x: Tensor) -> Tensor:
    """In place: new memory for each result costs a CPU as much as the arithmetic."""
    return F.relu6(x, inplace=True)


class InvertedResidual(nn.Module):
    """Expand (1x1), depthwise (k x k), project (1x1); the input is added where shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SameConv(inputs, hidden, clamps=True) if expansion != 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden, clamps=True)
        self.project = SameConv(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y


class EfficientNetLite(nn.Module):
    """Images to feature maps, pooled features and the scores of 1000 ImageNet classes.

    Input: float [B, 3, S, S], RGB as (byte - 127) / 128. The published side S is `VARIANTS[name].size`;
    any side works.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        variant = VARIANTS[name]
        self.stem = SameConv(3, 32, kernel=3, stride=2, clamps=True)
        blocks: list[nn.Module] = []
        channels = 32
        for index, (repeats, kernel, stride, expansion, width) in enumerate(STAGES):
            outputs = round_channels(width * variant.width)
            fixed_depth = index in (0, len(STAGES) - 1)
            for repeat in range(repeats if fixed_depth else math.ceil(repeats * variant.depth)):
                step = stride if repeat == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, kernel, step, expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(channels, FEATURES, clamps=True)
        self.classifier = nn.Linear(FEATURES, 1000)

    def feature_map(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, 1280, ceil(S / 32), ceil(S / 32)]."""
        y: Tensor = self.head(self.blocks(self.stem(images)))
        return y

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> features float32 [B, 1280], the mean of the feature map."""
        return self.feature_map(images).mean(dim=(2, 3), dtype=torch.float32)


def round_channels(width: float) -> int:
    """To the nearest multiple of 8, never more than 10% below `width` (the EfficientNet rule)."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded


def fold_batch_norm(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the published state dict (convolution + batch norm) into ours (convolution with bias).

    y = g (W x - m) / sqrt(v + e) + b  equals  (W g / s) x + (b - m g / s)  with s = sqrt(v + e).
    """
    pairs = {"_conv_stem": ("_bn0", "stem"), "_conv_head": ("_bn1", "head")}
    for key in published:
        if key.startswith("_blocks.") and key.endswith("_depthwise_conv.weight"):
            block = key.split(".")[1]
            source, target = f"_blocks.{block}.", f"blocks.{block}."
            pairs[source + "_expand_conv"] = (source + "_bn0", target + "expand")
            pairs[source + "_depthwise_conv"] = (source + "_bn1", target + "depthwise")
            pairs[source + "_project_conv"] = (source + "_bn2", target + "project")
    folded = {"classifier.weight": published["_fc.weight"], "classifier.bias": published["_fc.bias"]}
    for conv, (norm, target) in pairs.items():
        if f"{conv}.weight" not in published:
            continue  # the first block has no expansion
        scale = published[f"{norm}.weight"] / (published[f"{norm}.running_var"] + BATCH_NORM_EPSILON).sqrt()
        folded[f"{target}.weight"] = published[f"{conv}.weight"] * scale[:, None, None, None]
        folded[f"{target}.bias"] = published[f"{norm}.bias"] - published[f"{norm}.running_mean"] * scale
    return folded
