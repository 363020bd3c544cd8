"""The action lexicon in use: through `load`, the classifier and the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli_runner import Finished
from fake_model import FakeModel

from zsar_cli import LabelSet, ZeroShotClassifier, load
from zsar_cli.errors import LabelError, UsageError
from zsar_cli.text.lexicon import Entry, Lexicon, packaged_lexicon
from zsar_cli.transfer.compose import Vocabulary, compose_through
from zsar_cli.transfer.scoring import TransferSettings, score_labels

Run = Callable[..., Finished]
SETTINGS = TransferSettings(top_k=2, temperature=0.2, lexicon_share=0.6, lexicon_nearest=2)
ENTRIES = (Entry("lamp", ("light",)), Entry("cellar"), Entry("turning"))


def with_lexicon(settings: TransferSettings = SETTINGS) -> ZeroShotClassifier:
    model = FakeModel()
    return ZeroShotClassifier(model, model.bank(), settings, lexicon=Lexicon.of(ENTRIES, model.text))


def test_a_classifier_composes_and_scores_by_way_of_its_lexicon() -> None:
    classifier = with_lexicon()
    labels = LabelSet.from_names(["jumping", "bright"])
    labelled = classifier.prepare(labels)
    lexicon = Lexicon.of(ENTRIES, classifier.model.text)
    bank = classifier.model.bank()
    vocabulary = Vocabulary.of(bank, lexicon.names, lexicon.semantic, 2, 0.2)
    semantic = classifier.model.text.encode(["jumping", "bright"])
    composed, weights, near = compose_through(
        bank, vocabulary, labels.names, semantic, 2, 0.2, nearest=2, nearest_temperature=0.1, share=0.6
    )
    assert labelled.weights is not None and labelled.entries is not None
    torch.testing.assert_close(labelled.weights, weights)
    torch.testing.assert_close(labelled.entries, near)
    visual = torch.randn(2, 16, generator=torch.Generator().manual_seed(3))
    expected = score_labels(visual, SETTINGS, bank, composed, entries=vocabulary.entries).mean(dim=0)
    plain = score_labels(visual, SETTINGS, bank, composed).mean(dim=0)
    found = score_labels(visual, SETTINGS, classifier.bank, labelled.prototypes, entries=classifier.vocabulary.entries)  # type: ignore[union-attr]
    torch.testing.assert_close(found.mean(dim=0), expected)
    assert not torch.allclose(expected, plain)
    told = classifier.explain(labels).to_dict()["labels"]
    assert {part["entry"] for part in told[0]["expanded_by"]} <= {"lamp", "cellar", "turning"}
    assert told[1]["kind"] == "seen" and not told[1]["expanded_by"]
    assert classifier.run(labels).settings["lexicon"] == lexicon.digest


def test_no_share_and_a_users_own_bank_use_no_lexicon() -> None:
    assert with_lexicon(replace(SETTINGS, lexicon_share=0.0)).lexicon is None
    model = FakeModel()
    means = replace(model.bank(), kind="class means")
    classifier = ZeroShotClassifier(model, means, SETTINGS, lexicon=Lexicon.of(ENTRIES, model.text))
    assert classifier.lexicon is None and classifier.vocabulary is None
    assert classifier.run(LabelSet.from_names(["jumping"])).settings["lexicon"] is None


def test_a_lexicon_of_another_encoder_is_refused() -> None:
    model = FakeModel()
    with pytest.raises(UsageError, match=r"embedded by minilm-.*reads labels with fake-text.*--lexicon none"):
        ZeroShotClassifier(model, model.bank(), SETTINGS, lexicon=packaged_lexicon())


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text("- {action: yodelling on a mountain, also: [yodelling]}\n- {action: archery, also: [toxophily]}\n")
    return file


def test_load_takes_a_file_beside_the_packaged_lexicon_or_none(mine: Path) -> None:
    packaged = packaged_lexicon()
    extended = load(lexicon=mine).lexicon
    assert extended is not None
    assert set(extended.names) - set(packaged.names) == {"yodelling on a mountain", "archery"}
    assert len(extended) == len(packaged) + 2
    assert load().lexicon is not None and load(lexicon="none").lexicon is None
    with pytest.raises(LabelError, match=r"cannot be read: No such file"):
        load(lexicon=mine.with_name("absent.yaml"))
    settings = TransferSettings()
    with pytest.raises(UsageError, match=r"--lexicon .*mine.yaml: builtin composes labels from no bank"):
        load(lexicon=mine, transfer=settings)


def test_explain_shows_the_entries_and_a_users_own_among_them(zsar_here: Run, mine: Path) -> None:
    given = ("explain", "--label", "yodelling", "--label", "riding a bike", "--format", "json")
    own = json.loads(zsar_here(*given, "--lexicon", mine, code=0).stdout)["labels"][0]["expanded_by"]
    assert own[0]["entry"] == "yodelling on a mountain" and own[0]["cosine"] > 0.8
    without = json.loads(zsar_here(*given, "--lexicon", "none", code=0).stdout)["labels"]
    assert all(label["expanded_by"] == [] for label in without)
    packaged = json.loads(zsar_here(*given, code=0).stdout)["labels"]
    assert all(label["expanded_by"] for label in packaged)
    assert packaged[0]["expanded_by"] != own
    for label in (*packaged, *without):
        assert sum(part["weight"] for part in label["components"]) <= 1.001
    table = zsar_here("explain", "--label", "yodelling", "--lexicon", mine, code=0).stdout
    assert "by way of: yodelling on a mountain" in " ".join(table.split())


def test_a_malformed_lexicon_ends_the_run_before_a_model_is_loaded(zsar_here: Run, mine: Path) -> None:
    mine.write_text("- {action: a, tool: b}\n")
    run = zsar_here("explain", "--label", "x", "--lexicon", mine, code=2)
    assert "mine.yaml: entry 1 (a): unknown key 'tool'; allowed: action, also, objects" in run.prose
