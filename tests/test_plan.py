"""Plans of steps: from the seed and the step alone, every class or every clip as often as was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zsar_cli.training.config import TrainConfig
from zsar_cli.training.grids import ClipFeatures, Grids
from zsar_cli.training.plan import Planner
from zsar_cli.training.sources import evenly

TARGETS = torch.tensor([0] * 90 + [1] * 9 + [2])
OWNER = torch.tensor([2, 0, 1, 1])
CONFIG = TrainConfig(steps=400, batch=7, mixup=0.5)


def test_a_plan_depends_on_the_seed_and_the_step_alone() -> None:
    first, second = Planner(TARGETS, OWNER, CONFIG), Planner(TARGETS, OWNER, CONFIG)
    later = second.plan(5)
    for step, plan in zip(range(6), first.plans(0), strict=False):
        assert plan.step == step
    for name in ("clips", "random", "backwards", "own", "texts", "held"):
        assert torch.equal(getattr(plan, name), getattr(later, name))
    assert not torch.equal(first.plan(4).random, later.random)
    assert not torch.equal(Planner(TARGETS, OWNER, replace(CONFIG, seed=1)).plan(5).random, later.random)


def test_balanced_draws_classes_alike_and_shuffled_clips_once_a_pass() -> None:
    drawn = torch.cat([plan.clips for plan in Planner(TARGETS, OWNER, CONFIG).plans(0)])
    shares = TARGETS[drawn].bincount() / len(drawn)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert len(set(drawn[TARGETS[drawn] == 0].tolist())) == 90
    shuffled = Planner(TARGETS, OWNER, replace(CONFIG, sampler="shuffled"))
    drawn = torch.cat([plan.clips for plan in shuffled.plans(0)])[:200]
    for one in drawn.split(100):
        assert sorted(one.tolist()) == list(range(100))
    assert not torch.equal(*drawn.split(100)) and torch.equal(shuffled.plan(3).clips, drawn[21:28])


def test_texts_are_of_their_classes_and_partners_share_what_is_blended() -> None:
    planner = Planner(TARGETS, OWNER, CONFIG)
    texts = torch.stack([plan.texts for plan in planner.plans(0)])
    assert (OWNER[texts] == torch.arange(3)).all() and set(texts[:, 1].tolist()) == {2, 3}
    plan = planner.plan(0)
    assert plan.partners.tolist() == [1, 0, 3, 2, 5, 4, 6]
    for row, (own, partner) in enumerate(zip(plan.own.tolist(), plan.partners.tolist(), strict=True)):
        wanted = torch.zeros(3)
        wanted[plan.classes[row]] += own
        wanted[plan.classes[partner]] += 1 - own
        torch.testing.assert_close(plan.shares[row], wanted)
        needed = plan.needed(range(row, row + 1)).tolist()
        assert needed == sorted({row, partner} if own < 1 else {row})
    assert plan.held.sum() == 2


def test_evenly_takes_of_each_class_about_as_many() -> None:
    rows = evenly(TARGETS, 21)
    assert TARGETS[rows].bincount().tolist() == [11, 9, 1] and rows.tolist() == sorted(rows.tolist())
    assert evenly(TARGETS, 1).tolist() == [0, 90, 99] and evenly(TARGETS, 1000).tolist() == list(range(100))


def test_shards_are_read_as_one_array_and_parts_of_it_copy_nothing(tmp_path: Path) -> None:
    whole = np.random.default_rng(0).standard_normal((9, 2, 3, 1, 1, 4)).astype(np.float16)
    order = np.array([4, 0, 8, 2, 6, 1, 3, 5, 7])
    places = torch.zeros(9, 2, dtype=torch.int64)
    files = []
    for shard, clips in enumerate(np.split(order, [4])):
        files.append(tmp_path / f"{shard}.npy")
        np.save(files[-1], whole[clips])
        places[clips, 0], places[clips, 1] = shard, torch.arange(len(clips))
    features = ClipFeatures(Grids.mapped(files, places), torch.arange(9))
    rows, views = torch.tensor([8, 1, 1, 5]), torch.tensor([0, 1, 0, 1])
    assert torch.equal(features.take(rows, views), torch.from_numpy(whole[rows, views]))
    some = features.only(torch.tensor([7, 8, 3]), torch.tensor([0, 1, 2]))
    assert some.grids is features.grids and len(some) == 3
    assert torch.equal(torch.cat(list(some.plain(torch.tensor([2, 0])))), torch.from_numpy(whole[[3, 7]]))
