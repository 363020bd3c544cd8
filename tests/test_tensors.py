"""Random tensors that leave the caller's random numbers alone."""

from __future__ import annotations

import pytest
import torch

from zsar_cli.networks.backbones import BackboneConfig, network_of
from zsar_cli.tensors import seeded


def test_numbers_from_a_seed_are_those_of_a_generator_of_that_seed() -> None:
    with seeded(7):
        found = torch.rand(3)
    assert torch.equal(found, torch.rand(3, generator=torch.Generator().manual_seed(7)))


def test_the_callers_random_state_is_untouched_on_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    reseeded: list[object] = []
    for owner in (torch, torch.random, torch.cuda, torch.mps, torch.xpu):
        for name in ("manual_seed", "manual_seed_all", "seed"):
            if hasattr(owner, name):
                monkeypatch.setattr(owner, name, reseeded.append)
    before = torch.get_rng_state()
    with seeded(3):
        torch.rand(5)
    network_of(BackboneConfig("efficientnet-lite0", weights="random", size=64, cells=2))
    with pytest.raises(KeyError), seeded(3):
        torch.rand(5)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
    assert reseeded == []
