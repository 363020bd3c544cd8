"""From body landmarks to features of a posture: what a linear map of them can tell apart is what a kernel would.

A posture is described by directions of bones, cosines of joint angles, and distances in lengths of the torso: neither
the place nor the size of the person matters, and which way is up does, because lying and standing are postures. Random
Fourier features (Rahimi and Recht, 2007) of that description approximate a Gaussian kernel, so the mean of the features
over the frames of a clip stands for the set of postures in it, and their spread for the movement.

Shape letters: N frames, P = 33 landmarks as in `models.pose`, K channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DESCRIPTION", "PostureFeatures", "describe", "fill"]

HEAD = tuple(range(11))
SHOULDERS, ELBOWS, WRISTS, HIPS, KNEES, ANKLES, TOES = ((left, left + 1) for left in (11, 13, 15, 23, 25, 27, 31))
LIMBS = ((SHOULDERS, ELBOWS), (ELBOWS, WRISTS), (HIPS, KNEES), (KNEES, ANKLES), (ANKLES, TOES))
JOINTS = ((SHOULDERS, ELBOWS, WRISTS), (ELBOWS, SHOULDERS, HIPS), (SHOULDERS, HIPS, KNEES), (HIPS, KNEES, ANKLES))
DESCRIPTION = 3 * (2 * len(LIMBS) + 4) + 2 * len(JOINTS) + 8 + 5  # numbers that `describe` gives
# About their standard deviations over real videos, so that each kind counts alike.
DIRECTION, LENGTH = 0.5, 0.8
EPSILON = 1e-6


def describe(world: Tensor) -> Tensor:
    """[N, 33, 3], metres, y pointing down -> [N, DESCRIPTION], each of a standard deviation about 1."""
    angles = torch.cat([_directions(world), _cosines(world)], dim=1) / DIRECTION
    torso = (_middle(world, SHOULDERS) - _middle(world, HIPS)).norm(dim=1, keepdim=True)
    # The constant, in metres, bounds what a collapsed torso gives.
    return torch.cat([angles, _lengths(world) / (torso + 0.1) / LENGTH], dim=1)


def _directions(world: Tensor) -> Tensor:
    """Unit vectors along limbs, torso and neck, and across shoulders and hips: [N, 3 * 14]."""
    limbs = [_way(world[:, start], world[:, end]) for limb in LIMBS for start, end in zip(*limb, strict=True)]
    shoulders, hips, head = (_middle(world, points) for points in (SHOULDERS, HIPS, HEAD))
    across = [_way(world[:, right], world[:, left]) for left, right in (SHOULDERS, HIPS)]
    return torch.cat([*limbs, _way(hips, shoulders), _way(shoulders, head), *across], dim=1)


def _cosines(world: Tensor) -> Tensor:
    """Of the angles at the joints, -1 where a limb is straight: [N, 8]."""
    places = [tuple(world[:, index] for index in joint) for joints in JOINTS for joint in zip(*joints, strict=True)]
    return torch.stack([(_way(at, one) * _way(at, other)).sum(dim=1) for one, at, other in places], dim=1)


def _lengths(world: Tensor) -> Tensor:
    """Gaps between hands, feet, head and shoulders, then how far hands and feet hang below shoulders and hips and how
    far the shoulders are below the hips, in metres: [N, 8 + 5]."""
    wrists, ankles, shoulders = ([world[:, index] for index in pair] for pair in (WRISTS, ANKLES, SHOULDERS))
    head, chest, hips = (_middle(world, points) for points in (HEAD, SHOULDERS, HIPS))
    gaps = [wrists[0] - wrists[1], ankles[0] - ankles[1]]
    for wrist, ankle, shoulder in zip(wrists, ankles, shoulders, strict=True):
        gaps += [wrist - head, wrist - ankle, wrist - shoulder]
    drops = [wrist - chest for wrist in wrists] + [ankle - hips for ankle in ankles] + [chest - hips]
    return torch.stack([gap.norm(dim=1) for gap in gaps] + [drop[:, 1] for drop in drops], dim=1)


def _middle(world: Tensor, points: Sequence[int]) -> Tensor:
    return world[:, list(points)].mean(dim=1)


def _way(start: Tensor, end: Tensor) -> Tensor:
    """The unit vector from one to the other, [N, 3]."""
    return F.normalize(end - start, dim=1, eps=EPSILON)


def fill(described: Tensor, found: Tensor) -> Tensor:
    """Frames without a person take the description of the nearest frame with one; without any, all are zero.

    Args:
        described: [T, K] of the frames of one clip.
        found: bool [T].
    """
    known = found.nonzero()[:, 0]
    if not len(known):
        return torch.zeros_like(described)
    every = torch.arange(len(found), device=found.device)
    return described[known[(every[:, None] - known).abs().argmin(dim=1)]]


class PostureFeatures(nn.Module):
    """Random Fourier features sqrt(2 / K) cos(W d + b) of a description d; W and b follow from a fixed seed.

    Args:
        channels: K.
        bandwidth: of the Gaussian kernel, in units of the length of a typical description.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, channels: int = 1024, bandwidth: float = 1.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        scale = 1 / (bandwidth * math.sqrt(DESCRIPTION))
        self.register_buffer(
            "frequencies", scale * torch.randn(DESCRIPTION, channels, generator=generator), persistent=False
        )
        self.register_buffer("phases", 2 * math.pi * torch.rand(channels, generator=generator), persistent=False)

    def forward(self, described: Tensor) -> Tensor:
        """[..., DESCRIPTION] -> [..., K]."""
        channels = self.frequencies.shape[1]
        return math.sqrt(2 / channels) * torch.cos(described @ self.frequencies + self.phases)
