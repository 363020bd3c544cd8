"""A network over many frames, on a CPU some at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["FRAMES", "in_parts"]

# Of these few, no layer's output is larger than 32 MB, beyond which the C library asks the system for new memory, and
# that for zeros, each time: with 8 or 16 float32 frames of 260 pixels EfficientNet-Lite2 takes twice as long a frame.
FRAMES = 4


def in_parts(network: Callable[[Tensor], Tensor], images: Tensor, most: int = FRAMES) -> Tensor:
    """Rows of what a network makes of images, N of N.

    On a CPU it sees the same number of them each time, the last time some of no account: rounded to few digits, results
    may depend on the shape of what is computed, and those of a video must not depend on its company.

    Args:
        network: treats each image by itself.
        images: [N, ...].
        most: of them at a time.
    """
    if images.device.type != "cpu":
        return network(images)
    lacking = -len(images) % most
    filled = torch.cat([images, images.new_zeros(lacking, *images.shape[1:])]) if lacking else images
    return torch.cat([network(part) for part in torch.split(filled, most)])[: len(images)]
