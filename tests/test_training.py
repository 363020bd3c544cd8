"""Training on cached features: reproducible, resumable, honest about validation, and able to learn."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from zsar_cli.errors import ConfigError, UsageError
from zsar_cli.networks.rest import RestConfig
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.inference import (
    SeenBank,
    blend,
    embed_clips,
    mean_per_class,
    seen_bank,
    text_scores,
    transfer_scores,
)
from zsar_cli.training.state import TrainState
from zsar_cli.training.train import ClipFeatures, train_on_features

SHAPE = RestConfig(features=6, text_features=8, space=12, width=16, depth=1, heads=2)
CONFIG = TrainConfig(steps=6, batch=12, match_pairs=4, evaluate_every=2)
CLASSES = 6


def make_features(noise: float = 0.3) -> ClipFeatures:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(CLASSES, 6, generator=generator)
    targets = torch.arange(CLASSES).repeat_interleave(4)
    grids = centres[targets][:, None, None, None, None] + noise * torch.randn(24, 2, 3, 2, 2, 6, generator=generator)
    return ClipFeatures(grids, targets)


def make_texts(captions: bool = True) -> TextTokens:
    generator = torch.Generator().manual_seed(6)
    owner = [0, 0, 1, 2, 3, 4, 5, *([c for c in range(CLASSES) for _ in range(4)] if captions else [])]
    clip = [-1] * 7 + (list(range(24)) if captions else [])
    tokens = torch.randn(len(owner), 3, 8, generator=generator)
    return TextTokens(tokens, torch.ones(len(owner), 3, dtype=torch.bool), torch.tensor(owner), torch.tensor(clip))


def weights(result: Any) -> dict[str, torch.Tensor]:
    return {**result.model.state_dict(), **{f"head.{k}": v for k, v in result.head.state_dict().items()}}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second = (train_on_features(make_features(), make_texts(), SHAPE, CONFIG) for _ in range(2))
    other = train_on_features(make_features(), make_texts(), SHAPE, replace(CONFIG, seed=1))
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)
    assert not torch.equal(first.model.video_in.weight, other.model.video_in.weight)
    assert [record["step"] for record in first.history] == [1, 2, 3, 4, 5, 6]


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_on_features(make_features(), make_texts(), SHAPE, replace(CONFIG, steps=1))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("validation", [0.0, 0.34])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(validation: float) -> None:
    config = replace(CONFIG, validation=validation)
    saved: dict[str, Any] = {}

    def save(record: Any, state: TrainState) -> None:
        if state.step == 3:
            saved.update(copy.deepcopy(state.state_dict()))

    whole = train_on_features(make_features(), make_texts(), SHAPE, config, report=save)
    resumed = train_on_features(make_features(), make_texts(), SHAPE, config, resume=saved)
    assert [record["step"] for record in resumed.history] == [4, 5, 6]
    assert resumed.step == whole.step
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_every_objective_can_be_switched_off_and_one_must_stay() -> None:
    names = ("discrimination", "alignment", "matching", "consistency", "episodic")
    for name in names:
        off = {other: 0.0 for other in names if other != name}
        result = train_on_features(make_features(), make_texts(), SHAPE, replace(CONFIG, steps=1, **off))
        assert set(result.history[0]) == {"step", "learning_rate", "loss", name}
        assert np.isfinite(result.history[0]["loss"])
    with pytest.raises(ConfigError, match="every objective"):
        replace(CONFIG, **dict.fromkeys(names, 0.0))


def test_validation_classes_are_not_trained_on() -> None:
    config = replace(CONFIG, validation=0.34)
    result = train_on_features(make_features(), make_texts(), SHAPE, config)
    assert result.head.prototypes.shape[0] == CLASSES - 2
    scores = {int(r["step"]): r["validation"] for r in result.history if "validation" in r}
    assert sorted(scores) == [2, 4, 6]
    assert scores[result.step] == max(scores.values())


def test_training_learns_the_order_of_frames_which_the_start_cannot_see() -> None:
    generator = torch.Generator().manual_seed(9)
    targets = torch.arange(CLASSES).repeat_interleave(16)
    grids = 0.2 * torch.randn(len(targets), 1, 3, 1, 1, 6, generator=generator)
    for clip, target in enumerate(targets.tolist()):
        pattern, place = divmod(target, 3)  # a class is one of 2 patterns in one of 3 frames
        grids[clip, 0, place, :, :, pattern] += 3
    train, test = (ClipFeatures(grids[part::2], targets[part::2]) for part in (0, 1))
    alone = {"alignment": 0.0, "matching": 0.0, "consistency": 0.0, "episodic": 0.0, "mixup": 0.0}
    config = replace(CONFIG, batch=32, learning_rate=3e-3, prior_rate=0.1, ema=0.0, **alone)

    def accuracy(steps: int) -> float:
        result = train_on_features(train, make_texts(False), SHAPE, replace(config, steps=steps))
        scores = embed_clips(result.model, test.grids) @ result.head.prototypes.detach().T
        return mean_per_class(scores, test.targets)

    assert accuracy(1) < 0.6
    assert accuracy(100) > 0.9


def test_accumulated_parts_weigh_like_one_batch() -> None:
    alone = {"alignment": 0.0, "matching": 0.0, "consistency": 0.0, "episodic": 0.0, "mixup": 0.0}
    shape = replace(SHAPE, dropout=0.0)
    one, three = (
        train_on_features(
            make_features(), make_texts(), shape, replace(CONFIG, steps=1, accumulation=parts, **alone)
        ).history[0]["discrimination"]
        for parts in (1, 3)
    )
    assert three == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("missing", ["clip", "text"])
def test_a_class_without_clips_or_texts_is_named(missing: str) -> None:
    features, texts = make_features(), make_texts()
    if missing == "clip":
        kept = features.targets != 3
        features = ClipFeatures(features.grids[kept], features.targets[kept])
        texts = make_texts(False)
    else:
        texts = texts.select((texts.owner != 3) | (texts.clip >= 0))
    with pytest.raises(UsageError, match="class 3"):
        train_on_features(features, texts, SHAPE, CONFIG)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"ema": 1.0}, {"mixup": 1.5}, {"learning_rate": 0.0}, {"alignment": -1.0}, {"accumulation": 99}],
)
def test_a_value_that_cannot_work_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(CONFIG, **change)


def test_transfer_is_the_mean_over_texts_of_composed_prototypes() -> None:
    generator = torch.Generator().manual_seed(8)
    v, t, semantic, visual = (
        torch.nn.functional.normalize(torch.randn(n, 5, generator=generator), dim=1) for n in (4, 3, 6, 6)
    )
    owner = torch.tensor([0, 1, 1])
    expected = np.zeros((4, 2))
    prototypes = np.zeros((2, 5))
    for row in range(3):
        weight = np.exp((semantic.numpy() @ t[row].numpy()) / 0.2)
        composed = (weight / weight.sum()) @ visual.numpy()
        prototypes[owner[row]] += composed / np.linalg.norm(composed)
    for n in range(4):
        for u in range(2):
            expected[n, u] = v[n].numpy() @ prototypes[u] / np.linalg.norm(prototypes[u])
    result = transfer_scores(v, t, owner, SeenBank(semantic, visual), top_k=6, temperature=0.2)
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    direct = text_scores(v, t, owner)
    both = blend(result, direct)
    assert both.shape == (4, 2)
    torch.testing.assert_close(blend(3 * result + 1, direct), both)  # units and offsets do not count


def test_captions_point_to_their_clips_and_labels_to_their_prototypes() -> None:
    features, texts = make_features(), make_texts()
    result = train_on_features(features, texts, SHAPE, replace(CONFIG, steps=1))
    bank = seen_bank(result.model, result.head.prototypes, features.grids, texts)
    v = embed_clips(result.model, features.grids)
    torch.testing.assert_close(bank.visual[7:], v)
    prototypes = torch.nn.functional.normalize(result.head.prototypes.detach(), dim=1)
    torch.testing.assert_close(bank.visual[:7], prototypes[texts.owner[:7]])


def test_mean_per_class_weighs_small_classes_like_large_ones() -> None:
    scores = torch.eye(3)[[0, 0, 0, 1, 2]]
    assert mean_per_class(scores, torch.tensor([0, 0, 0, 0, 2])) == pytest.approx((0.75 + 1) / 2)
