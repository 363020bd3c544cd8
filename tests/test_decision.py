"""How sure an answer is: margins against loops in numpy, decisions one by one, fits that hold, and their files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_model import FakeModel

import zsar_cli
from zsar_cli.engine.background import cosine_to_background
from zsar_cli.engine.calibrations import calibration_text, deciding_for, packaged_calibrations
from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.engine.deciding import Beside, Best, Deciding, decide
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.errors import ConfigError, UsageError
from zsar_cli.evaluation.calibration import Calibrated, calibrate, calibration_error, logistic
from zsar_cli.evaluation.rejection import (
    SIGNALS,
    Background,
    area_under_roc,
    false_positives,
    measure_rejection,
)  # fmt: skip
from zsar_cli.labels import LabelSet
from zsar_cli.text.lexicon import background_actions, packaged_lexicon
from zsar_cli.transfer.decision import GENERAL, NEAREST, Calibration, above_background, above_others
from zsar_cli.transfer.scoring import to_shares

RNG = np.random.default_rng(0)
SURE = Calibration(0.0, 1.0, 1.0, 0.0, 0.0, -1.0, 0.9)


def test_margins_are_what_loops_in_numpy_say():
    own, other = RNG.normal(size=(7, 4)), RNG.normal(size=(7, 20))
    margins = above_background(torch.from_numpy(own), torch.from_numpy(other)).numpy()
    gaps = above_others(torch.from_numpy(own)).numpy()
    for row in range(7):
        nearest = np.sort(other[row])[-NEAREST:].mean()
        for label in range(4):
            expected = (own[row, label] - nearest) / other[row].std(ddof=1)
            assert margins[row, label] == pytest.approx(expected)
            assert gaps[row, label] == pytest.approx(own[row, label] - np.delete(own[row], label).max())


def test_margins_of_one_label_and_of_no_background_are_nothing():
    one = torch.tensor([[3.0], [1.0]])
    assert above_others(one).tolist() == [[0.0], [0.0]]
    assert above_background(one, torch.zeros(2, 0)).tolist() == [[0.0], [0.0]]
    assert SURE.probabilities(one, one, 1) is None


def test_probabilities_follow_the_formula_and_rank_as_similarities_do():
    calibration = Calibration(0.3, 0.5, 0.7, -0.4, 0.1, -0.9, 0.8)
    margins, gaps = torch.tensor([[1.0, -0.5, -2.0]]), torch.tensor([[1.5, -1.5, -3.0]])
    found = calibration.probabilities(margins, gaps, 3)
    expected = [
        1 / (1 + math.exp(-(0.3 + 0.5 * b + 0.7 * o - 0.4 * math.log(3))))
        for b, o in zip([1, -0.5, -2], [1.5, -1.5, -3], strict=True)
    ]
    assert found[0].tolist() == pytest.approx(expected) and expected == sorted(expected, reverse=True)
    assert calibration.unknown_of(margins).tolist() == pytest.approx([1 / (1 + math.exp(-(0.1 - 0.9)))])


def decided(own, other, how=None, strangers=frozenset()):
    """The decision on one video of up to three labels, and their probabilities in their own order."""
    names, actions = ("running", "rowing", "reading")[: len(own)], ("swimming", "sleeping", "sewing")
    similarity = torch.tensor([own])
    order = similarity.argsort(dim=1, descending=True, stable=True)
    best = Best(names, order, to_shares(similarity, 2.0).gather(1, order), similarity.gather(1, order))
    beside = Beside(torch.ones(3, dtype=torch.bool), actions, strangers)
    ((decision, probabilities),) = decide(best, torch.tensor([other]), beside, how or Deciding(SURE))
    return decision, [probabilities[order[0].tolist().index(label)] for label in range(len(own))]


def test_a_clear_answer_is_not_doubtful():
    decision, probabilities = decided([5.0, 0.0, -1.0], [0.0, 1.0, -1.0])
    assert (decision.answer, decision.doubtful, decision.reasons) == ("running", False, ())
    assert decision.unknown < 0.05 and probabilities[0] > 0.95 > 0.05 > probabilities[1]


def test_what_is_nearer_to_other_actions_is_doubtful_and_says_to_which():
    decision, _ = decided([-3.0, -6.0, -6.0], [0.0, 1.0, -1.0])
    assert decision.doubtful and decision.answer == "running"
    assert "nearer to 'sleeping', which is none of the labels" in decision.reasons


def test_labels_that_fit_about_as_well_are_named_where_an_answer_is_doubtful():
    decision, _ = decided([0.51, 0.5, -9.0], [0.0, 1.0, -1.0], Deciding(replace(SURE, right=-1.0)))
    assert decision.doubtful and "'running' and 'rowing' fit about as well" in decision.reasons
    stranger, _ = decided([0.51, 0.5, -9.0], [0.0, 1.0, -1.0], Deciding(replace(SURE, right=-1.0)), {"running"})
    assert stranger.reasons[-1] == "no seen class is related to 'running'"


def test_reject_answers_unknown_and_only_where_it_is_asked_for():
    far = ([-3.0, -6.0, -6.0], [0.0, 1.0, -1.0])
    assert decided(*far)[0].unknown > 0.9
    rejected = decided(*far, Deciding(SURE, reject=0.9))[0]
    assert rejected.answer == "unknown" and not any("are right in" in reason for reason in rejected.reasons)
    assert rejected.reasons[0] == f"unknown is {rejected.unknown:.2f}, above 0.90"
    assert decided(*far, Deciding(SURE, reject=1.0))[0].answer == "running"
    assert decided([5.0, 0.0, -1.0], [0.0, 1.0, -1.0], Deciding(SURE, reject=0.9))[0].answer == "running"


def test_without_a_calibration_there_are_doubts_but_no_probabilities():
    decision, probabilities = decided([-9.0, -9.5, -9.0], [0.0, 1.0, -1.0], Deciding())
    assert probabilities == [None] * 3 and decision.doubtful and decision.unknown == pytest.approx(
        float(GENERAL.unknown_of(above_background(torch.tensor([[-9.0]]), torch.tensor([[0.0, 1.0, -1.0]]))))
    )
    assert not any("are right in" in reason for reason in decision.reasons)


def test_one_label_alone_has_no_probability_and_is_ranked_by_unknown():
    near, none = decided([3.0], [0.0, 1.0, -1.0])
    far, _ = decided([-3.0], [0.0, 1.0, -1.0])
    assert none == [None] and near.unknown < far.unknown and far.doubtful and not near.doubtful


# --- the background


def test_the_background_is_a_fifth_of_the_lexicon_with_its_own_embeddings():
    whole, fifth = packaged_lexicon(), background_actions()
    assert fifth.names == whole.names[::5] and torch.equal(fifth.semantic, whole.semantic[::5])


def test_actions_that_mean_what_a_label_says_are_no_background():
    classifier = zsar_cli.load()
    labels = LabelSet.from_names(["playing the flute"])
    cosine = cosine_to_background(classifier.model.text, labels)[0]
    names = background_actions().names
    near = [name for name, one in zip(names, cosine.tolist(), strict=True) if one >= 0.7]
    assert all("flute" in name or "recorder" in name or "clarinet" in name for name in near), near
    assert classifier.background.labels.names == names
    labelled = classifier.prepare(labels)
    assert labelled.prototypes is not None and classifier.background.prototypes.visual.shape == (len(names), 1280)


def test_the_background_of_several_models_is_the_mean_of_theirs():
    members = [ZeroShotClassifier(model, model.bank()) for model in (FakeModel("fake-1"), FakeModel("fake-2"))]
    members[1].model.name = "other"
    both = Ensemble(members)
    rows = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    apart = [member.score([rows], member.background) for member in members]
    assert torch.allclose(both.score([rows, rows], both.background), (apart[0] + apart[1]) / 2)


# --- fitting


def test_the_logistic_fit_is_where_its_slope_is_zero():
    features = RNG.normal(size=(500, 2))
    truth = (RNG.random(500) < 1 / (1 + np.exp(-(0.5 + features @ [1.0, -2.0])))).astype(float)
    weights = logistic(features, truth)
    assert weights[1] > 0.5 and weights[2] < -1.0

    def loss(w):
        z = w[0] + features @ w[1:]
        return np.logaddexp(0, z).sum() - truth @ z + 0.5e-3 * 500 * (w[1:] ** 2).sum()

    for index in range(3):
        for step in (-1e-3, 1e-3):
            assert loss(weights) < loss(weights + step * np.eye(3)[index])


def test_the_calibration_error_is_a_sum_over_bins():
    probability, right = np.array([0.05, 0.05, 0.95, 0.95, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    # bin 0: mean 0.05, right 0.5; bin 9: mean 0.9667, right 0.6667
    assert calibration_error(probability, right) == pytest.approx(2 / 5 * 0.45 + 3 / 5 * 0.3)


def sample(videos=400, classes=40, noise=1.0, seed=0):
    """Videos near to their own class, by chance; the background is as near as strangers are."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, videos)
    similarity = rng.normal(size=(videos, classes))
    similarity[np.arange(videos), truth] += rng.normal(2.0, noise, videos)
    background = Background(torch.from_numpy(rng.normal(size=(videos, 60))), torch.zeros(classes, 60))
    return torch.from_numpy(similarity), truth, background


def test_probabilities_of_classes_that_were_not_seen_are_true():
    calibration, measured = calibrate(*sample(), sharpness=6.0)
    assert measured.error_lists < 0.05 < measured.error_before  # the share is far from true
    assert measured.error_after < measured.error_before / 2
    assert calibration.right_others > 0 and calibration.right_labels < 0 and calibration.unknown_background < 0
    assert measured.kept == pytest.approx(0.95, abs=0.01) and measured.found > 0.15
    again, _ = calibrate(*sample(), sharpness=6.0)
    assert again == calibration


def test_nothing_to_learn_from_is_refused():
    similarity, truth, background = sample(classes=5)
    with pytest.raises(UsageError, match="at least 10 classes, here are 5"):
        calibrate(similarity, truth, background, 2.0)
    similarity, truth, background = sample()
    similarity[np.arange(len(truth)), truth] = -99.0
    with pytest.raises(UsageError, match="all answers are right, or all are wrong"):
        calibrate(similarity, truth, background, 2.0)


def test_the_area_under_the_curve_counts_pairs():
    values, known = np.round(RNG.normal(size=60), 1), RNG.random(60) < 0.5
    pairs = [(a > b) + 0.5 * (a == b) for a in values[known] for b in values[~known]]
    assert area_under_roc(values, known) == pytest.approx(np.mean(pairs))


def test_false_positives_are_counted_where_enough_known_ones_pass():
    known = np.array([True] * 20 + [False] * 4)
    values = np.concatenate([np.arange(20.0), [0.5, 1.0, 5.0, -1.0]])
    assert false_positives(values, known) == pytest.approx(2 / 4)  # 19 of 20 are 1 or more


def test_each_signal_finds_videos_whose_class_is_taken_away():
    similarity, truth, background = sample(noise=0.3)
    halves = [np.arange(0, 40, 2), np.arange(1, 40, 2)]
    found = measure_rejection(similarity, truth, background, 2.0, halves)
    assert list(found) == list(SIGNALS)
    assert all(one.auroc[0] > 0.55 for one in found.values()), found
    with pytest.raises(UsageError, match="no half of the classes leaves videos on both sides"):
        measure_rejection(similarity, truth, background, 2.0, [np.arange(40)])


# --- files


def test_the_packaged_calibration_is_for_the_built_in_model_as_it_is():
    names = [name for name, _ in packaged_calibrations()]
    assert names == ["builtin+movinet-a0-stream", "builtin", "movinet-a0-stream"]
    classifier = zsar_cli.load()
    assert classifier.deciding.source == "builtin" and classifier.deciding.calibration is not None
    assert classifier.deciding.reject is None
    for _, values in packaged_calibrations():
        assert values["measured"]["videos"] == 163 and values["measured"]["error_lists"] < 0.05


def test_other_settings_have_no_packaged_calibration():
    plain = zsar_cli.load()
    transfer = replace(plain.model.transfer, temperature=0.2)
    assert zsar_cli.load(transfer=transfer).deciding.calibration is None


def fake(weights=None):
    model = FakeModel()
    return ZeroShotClassifier(model, model.bank())


MEASURED = Calibrated(10, 10, 0.2, 0.1, 0.05, 0.95, 0.3)


def test_a_file_comes_back_for_the_models_it_was_made_for(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(calibration_text(fake(), SURE, MEASURED.to_dict()))
    found = deciding_for(fake(), str(file), "auto")
    assert found == Deciding(SURE, "mine.yaml", 0.9)
    assert found.described["calibration"].startswith("mine.yaml ") and found.described["reject"] == 0.9
    assert deciding_for(fake(), "none") == Deciding()


def test_a_file_of_something_else_is_refused(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(calibration_text(fake(), SURE, MEASURED.to_dict()))
    other = fake()
    other.transfer = replace(other.transfer, top_k=3)
    with pytest.raises(ConfigError, match=r"mine.yaml: was made for transfer \{.*'top_k': 2.* of fake-1, now \{"):
        deciding_for(other, str(file))
    model = FakeModel("fake-2")
    with pytest.raises(ConfigError, match="was made for other models; make one for these by 'zsar calibrate'"):
        deciding_for(ZeroShotClassifier(model, model.bank()), str(file))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("zsar.calibration/1", "zsar.calibration/9"), "is no calibration of this version"),
        (("  reject: 0.9\n", ""), "it lacks reject"),
        (("reject: 0.9", "reject: 1.9"), "reject is 1.9"),
        (("right: 0.0", "right: high"), "right is 'high'"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, change: tuple[str, str], message: str):
    file = tmp_path / "mine.yaml"
    text = calibration_text(fake(), SURE, MEASURED.to_dict())
    assert change[0] in text
    file.write_text(text.replace(*change))
    with pytest.raises(ConfigError, match=message):
        deciding_for(fake(), str(file))


@pytest.mark.parametrize("reject", ["sometimes", 1.5, float("nan")])
def test_reject_is_auto_or_a_share(reject):
    with pytest.raises(UsageError, match="give auto, or a number from 0 to 1"):
        deciding_for(fake(), "none", reject)


def test_reject_auto_needs_a_calibration():
    with pytest.raises(UsageError, match="--reject auto: these models and settings were not calibrated"):
        deciding_for(fake(), reject="auto")
