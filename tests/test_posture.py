"""Postures against geometry worked out by hand, and the kernel that their features stand for."""

from __future__ import annotations

import math

import pytest
import torch

from zsar_cli.networks.posture import DESCRIPTION, PostureFeatures, describe, fill


def standing() -> torch.Tensor:
    """Somebody upright with hanging arms: [1, 33, 3], metres, y down, the left side at positive x."""
    heights = {0: -0.7, 11: -0.5, 13: -0.25, 15: 0.0, 23: 0.0, 25: 0.45, 27: 0.9, 29: 0.95, 31: 0.95}
    points = torch.zeros(33, 3)
    points[:11, 1] = heights[0]
    for left, y in heights.items():
        if left:
            points[left] = torch.tensor([0.2, y, 0.0])
            points[left + 1] = torch.tensor([-0.2, y, 0.0])
    points[[31, 32], 2] = -0.1
    return points[None]


def test_neither_place_nor_size_matters_but_which_way_is_up_does() -> None:
    body = standing()
    described = describe(body)
    assert described.shape == (1, DESCRIPTION)
    torch.testing.assert_close(describe(body + torch.tensor([3.0, -2.0, 1.0])), described)
    # The constant added to the torso's length keeps this from being exact.
    assert (describe(1.3 * body) - described).abs().max() < 0.35
    lying = torch.stack([-body[..., 1], body[..., 0], body[..., 2]], dim=-1)
    assert (describe(lying) - described).abs().max() > 1.5


def test_joint_angles_and_heights_are_those_of_the_body() -> None:
    straight = describe(standing())[0]
    cosines = slice(42, 50)
    torch.testing.assert_close(straight[cosines][:2] * 0.5, -torch.ones(2))  # elbows stretched: 180 degrees
    bent = standing()
    bent[0, 15] = bent[0, 13] + torch.tensor([0.0, 0.0, -0.25])  # the left forearm points forward
    assert float(describe(bent)[0][cosines][0]) == pytest.approx(0, abs=1e-6)
    # Wrists hang 0.5 m below shoulders; the torso is 0.5 m long, and 0.1 is added to it.
    torch.testing.assert_close(straight[58:60] * 0.8, torch.full((2,), 0.5 / 0.6))


def test_frames_without_a_person_take_the_nearest_with_one() -> None:
    described = torch.arange(5.0)[:, None]
    found = torch.tensor([False, True, False, False, True])
    assert fill(described, found)[:, 0].tolist() == [1, 1, 1, 4, 4]
    assert fill(described, torch.zeros(5, dtype=torch.bool)).abs().sum() == 0


def test_features_approximate_a_gaussian_kernel() -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, DESCRIPTION, generator=generator) * torch.tensor([[1.0], [0.7]])
    features = PostureFeatures(channels=65536)
    found = float(features(one) @ features(other))
    assert found == pytest.approx(math.exp(-float((one - other).square().mean()) / 2), abs=0.02)
    assert float(features(one).norm()) == pytest.approx(1, abs=0.02)


def test_features_never_change_between_versions() -> None:
    features = PostureFeatures(channels=8)(torch.linspace(-2, 2, DESCRIPTION))
    torch.testing.assert_close(features, torch.tensor(FROZEN), atol=1e-5, rtol=0)


FROZEN = [0.344844, -0.019694, -0.332970, 0.304562, -0.499999, 0.499899, 0.337107, -0.079876]
