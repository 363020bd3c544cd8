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
from zsar_cli.training.config import OBJECTIVES, TrainConfig
from zsar_cli.training.grids import ClipFeatures
from zsar_cli.training.loop import TrainResult, train
from zsar_cli.training.scoring import Scorer, mean_per_class
from zsar_cli.training.start import Networks, embed
from zsar_cli.training.state import Compute, TrainState
from zsar_cli.training.team import Team
from zsar_cli.transfer.scoring import TransferSettings

SHAPE = RestConfig(features=6, text_features=8, space=12, width=16, depth=1, heads=2)
CONFIG = TrainConfig(steps=6, batch=12, match_pairs=4, evaluate_every=2)
SCORING = TransferSettings(top_k=4, temperature=0.2, transfer_weight=0.5, conse_weight=0.0, text_weight=0.5)
CLASSES = 6
TIMES = ("waiting", "computing")


def make_features(noise: float = 0.3) -> ClipFeatures:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(CLASSES, 6, generator=generator)
    targets = torch.arange(CLASSES).repeat_interleave(4)
    grids = centres[targets][:, None, None, None, None] + noise * torch.randn(24, 2, 3, 2, 2, 6, generator=generator)
    return ClipFeatures(grids, targets)


def make_texts() -> TextTokens:
    owner = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    tokens = torch.randn(len(owner), 3, 8, generator=torch.Generator().manual_seed(6))
    return TextTokens(tokens, torch.ones(len(owner), 3, dtype=torch.bool), owner)


def run(
    features: ClipFeatures, texts: TextTokens, shape: RestConfig, config: TrainConfig, report: Any = None, **how: Any
) -> tuple[TrainResult, list[dict[str, float]]]:
    """The result, and the record of each step."""
    history: list[dict[str, float]] = []

    def keep(record: Any, state: TrainState) -> None:
        history.append(dict(record))
        if report is not None:
            report(record, state)

    return train(features, texts, Networks(shape), config, SCORING, keep, **how), history


def embedded(result: TrainResult, features: ClipFeatures) -> torch.Tensor:
    return embed(result.state.averaged, features, torch.arange(len(features)), Team(), Compute())


def weights(result: Any) -> dict[str, torch.Tensor]:
    return {**result.model.state_dict(), **{f"head.{k}": v for k, v in result.head.state_dict().items()}}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    (first, history), (second, _) = (run(make_features(), make_texts(), SHAPE, CONFIG) for _ in range(2))
    other, _ = run(make_features(), make_texts(), SHAPE, replace(CONFIG, seed=1))
    torch.testing.assert_close(weights(first), weights(second), rtol=0, atol=0)
    assert not torch.equal(first.model.video_in.weight, other.model.video_in.weight)
    assert [record["step"] for record in history] == [1, 2, 3, 4, 5, 6]


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run(make_features(), make_texts(), SHAPE, replace(CONFIG, steps=1))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("validation", [0.0, 0.34])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(validation: float) -> None:
    config = replace(CONFIG, validation=validation)
    saved: dict[str, Any] = {}

    def save(record: Any, state: TrainState) -> None:
        if state.step == 3:
            saved.update(copy.deepcopy(state.state_dict()))

    whole, _ = run(make_features(), make_texts(), SHAPE, config, save)
    resumed, history = run(make_features(), make_texts(), SHAPE, config, resume=saved)
    assert [record["step"] for record in history] == [4, 5, 6]
    assert resumed.step == whole.step
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


def test_every_objective_can_be_switched_off_and_one_must_stay() -> None:
    for name in OBJECTIVES:
        off = {other: 0.0 for other in OBJECTIVES if other != name}
        _, history = run(make_features(), make_texts(), SHAPE, replace(CONFIG, steps=1, **off))
        always = {"step", "learning_rate", "loss", "accuracy", "waiting", "computing"}
        assert set(history[0]) == {*always, name}
        assert np.isfinite(history[0]["loss"])
    with pytest.raises(ConfigError, match="every objective"):
        replace(CONFIG, **dict.fromkeys(OBJECTIVES, 0.0))


def test_validation_classes_are_not_trained_on() -> None:
    config = replace(CONFIG, validation=0.34)
    result, history = run(make_features(), make_texts(), SHAPE, config)
    assert result.head.prototypes.shape[0] == CLASSES - 2
    scores = {int(r["step"]): r["validation"] for r in history if "validation" in r}
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
        result, _ = run(train, make_texts(), SHAPE, replace(config, steps=steps))
        scores = embedded(result, test) @ result.head.prototypes.detach().T
        return mean_per_class(scores, test.targets)

    assert accuracy(1) < 0.6
    assert accuracy(100) > 0.9


@pytest.mark.parametrize("parts", [3, 5])
def test_a_batch_in_parts_trains_as_the_whole_batch(parts: int) -> None:
    shape = replace(SHAPE, dropout=0.0)
    (one, first), (some, then) = (
        run(make_features(), make_texts(), shape, replace(CONFIG, accumulation=count)) for count in (1, parts)
    )
    for step, (whole, divided) in enumerate(zip(first, then, strict=True)):
        timeless = [{name: value for name, value in one.items() if name not in TIMES} for one in (whole, divided)]
        assert timeless[1] == pytest.approx(timeless[0], rel=1e-3 if step else 1e-5)
    torch.testing.assert_close(weights(some), weights(one), rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("missing", ["clip", "text"])
def test_a_class_without_clips_or_texts_is_named(missing: str) -> None:
    features, texts = make_features(), make_texts()
    if missing == "clip":
        kept = (features.targets != 3).nonzero()[:, 0]
        features = features.only(kept, features.targets[kept])
    else:
        texts = texts.select(texts.owner != 3)
    with pytest.raises(UsageError, match="class 3"):
        run(features, texts, SHAPE, CONFIG)


@pytest.mark.parametrize(
    "change",
    [{"steps": 0}, {"ema": 1.0}, {"mixup": 1.5}, {"learning_rate": 0.0}, {"alignment": -1.0}, {"accumulation": 99}],
)
def test_a_value_that_cannot_work_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(CONFIG, **change)


def test_validation_scores_as_the_bundle_will() -> None:
    """Against numpy: one embedding a label, the mean of its texts; a prototype composed from it; both blended."""
    features, texts = make_features(), make_texts()
    result, _ = run(features, texts, SHAPE, CONFIG)
    everything = features.take(torch.arange(len(features)))
    scorer = Scorer.of(result.model, result.head, embedded(result, features), texts, SCORING)

    def unit(rows: Any) -> Any:
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    with torch.no_grad():
        rows = unit(result.model.encode_text(texts.tokens, texts.keep).numpy())
        v = [unit(result.model.encode_video(views.float()).numpy()).mean(axis=0) for views in everything]
    semantic = unit(np.stack([rows[:2].sum(axis=0), *rows[2:]]))
    prototypes = unit(result.head.prototypes.detach().numpy())
    asked = unit(np.stack([rows[0] + rows[3], rows[4] + rows[5]]))  # two labels of two texts each
    expected = np.zeros((len(v), 2))
    for label, t in enumerate(asked):
        cosine = semantic @ t
        near = np.argsort(-cosine)[:4]
        weight = np.exp(cosine[near] / 0.2)
        composed = unit((weight / weight.sum()) @ prototypes[near])
        for clip, row in enumerate(unit(np.stack(v))):
            how = scorer.settings
            expected[clip, label] = 0.5 * row @ composed / how.transfer_scale + 0.5 * row @ t / how.text_scale
    two = texts.select(torch.tensor([0, 3, 4, 5]))
    two = TextTokens(two.tokens, two.keep, torch.tensor([0, 0, 1, 1]))
    np.testing.assert_allclose(scorer.scores(embedded(result, features), two).numpy(), expected, rtol=1e-3, atol=1e-3)


def test_mean_per_class_weighs_small_classes_like_large_ones() -> None:
    scores = torch.eye(3)[[0, 0, 0, 1, 2]]
    assert mean_per_class(scores, torch.tensor([0, 0, 0, 0, 2])) == pytest.approx((0.75 + 1) / 2)
