"""`--text-encoder`: classifiers whose names are related by another sentence encoder, on small random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import checkpoints
import pytest
import torch
from cli_runner import Finished, Runner, label_options
from PIL import Image
from sentence_folders import WIDTH, write_sentences

import zsar_cli
from zsar_cli.cli.console import Messages
from zsar_cli.cli.engine import check_languages, open_classifier
from zsar_cli.cli.options import ModelOptions
from zsar_cli.engine.calibrations import made_for
from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.text import sentences
from zsar_cli.text.sentences import Centred, SentenceEncoder

ASKED = label_options(("Fahrrad fahren", "骑自行车", "playing chess"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentences(tmp_path_factory.mktemp("encoders") / "mine")


def used(folder: Path) -> Centred:
    """As classifiers relate names by it."""
    return Centred(SentenceEncoder(folder))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all phrases of the built-in model are embedded once for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def zsar(cache: Path) -> Runner:
    return Runner(cache)


def frames(folder: Path) -> Path:
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (48, 40), (60 * number, 90, 40)).save(folder / f"{number}.png")
    return folder


def test_the_built_in_bank_is_embedded_once(
    folder: Path, zsar_here: Callable[..., Finished], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("explain", *ASKED, "-f", "json", "--text-encoder")
    first = json.loads(zsar_here(*asked, folder).stdout)
    assert all(len(label["components"]) == 5 for label in first["labels"])
    monkeypatch.setattr(sentences, "_load", lambda folder: pytest.fail(f"{folder} was loaded"))
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert json.loads(zsar_here(*asked, copied).stdout) == first, "from the cache, wherever the folder lies by now"


def test_records_name_the_encoder_and_no_calibration_is_taken(
    folder: Path, zsar_here: Callable[..., Finished], tmp_path: Path
) -> None:
    video, zsar = frames(tmp_path / "shot"), zsar_here
    fingerprint = used(folder).fingerprint
    job = ("classify", video, *ASKED, "--frames", 2, "-f", "jsonl")
    run = zsar(*job, "--text-encoder", folder)
    settings = run.records[0]["run"]["settings"]
    assert (settings["text_encoder"], settings["calibration"]) == (fingerprint, None)
    assert run.records[0]["predictions"][0]["probability"] is None
    assert f"--text-encoder {folder}: probabilities were not measured with it" in run.stderr
    assert "understands labels in" not in run.stderr, "nothing is known of its languages"
    plain = zsar(*job)
    assert "text_encoder" not in plain.records[0]["run"]["settings"]
    assert plain.records[0]["run"]["settings"]["calibration"].startswith("builtin ")
    assert "builtin understands labels in en alone" in plain.stderr
    by_variable = zsar(*job, variables={"ZSAR_TEXT_ENCODER": str(folder)})
    assert by_variable.records[0]["run"] == run.records[0]["run"]
    (tmp_path / "zsar.yaml").write_text(f"text-encoder: {folder}\n")
    assert zsar(*job, "--config", tmp_path / "zsar.yaml").records[0]["run"] == run.records[0]["run"]


def test_a_library_is_labelled_by_it(folder: Path, zsar_here: Callable[..., Finished], tmp_path: Path) -> None:
    library = tmp_path / "shots.lib"
    zsar_here("library", "add", library, frames(tmp_path / "shot"), "--windows", 1, "--frames", 2)
    run = zsar_here("classify", library, *ASKED, "-f", "jsonl", "--text-encoder", folder)
    assert run.records[0]["run"]["settings"]["text_encoder"] == used(folder).fingerprint


def test_models_with_a_text_encoder_of_their_own_refuse_it(folder: Path) -> None:
    for model in ("rest-exercises", str(checkpoints.of("clip"))):
        with pytest.raises(UsageError, match=f"{model} understands labels by the text encoder it was trained with"):
            zsar_cli.load(model, text_encoder=folder)


def test_of_several_models_it_reaches_those_that_relate_names(
    folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["builtin", "rest-exercises"]
    both = open_classifier(Messages(), ModelOptions(model=names, text_encoder=str(folder), cache_dir=cache))
    assert capsys.readouterr().err == (
        f"names are related by {folder}; at first use it reads all names of seen classes\n"
        f"--text-encoder {folder}: rest-exercises keeps its own\n"
    )
    fingerprint = used(folder).fingerprint
    assert [member.text_encoder for member in both.members] == [fingerprint, None]
    plain = zsar_cli.load(names, cache_dir=cache)
    assert [one.get("text_encoder") for one in made_for(both)].count(fingerprint) == 1
    assert {"text_encoder"} & {key for one in made_for(plain) for key in one} == set()


def test_a_calibration_of_another_encoder_is_refused(folder: Path, cache: Path, tmp_path: Path) -> None:
    from zsar_cli.engine.calibrations import calibration_text
    from zsar_cli.errors import ConfigError
    from zsar_cli.transfer.decision import GENERAL

    classifier = zsar_cli.load(text_encoder=folder, cache_dir=cache)
    (tmp_path / "mine.yaml").write_text(calibration_text(classifier, GENERAL, {"videos": 1}))
    own = zsar_cli.load(text_encoder=folder, cache_dir=cache, calibration=tmp_path / "mine.yaml")
    assert own.deciding.calibration is not None
    with pytest.raises(ConfigError, match=f"text_encoder {classifier.text_encoder} of builtin-.*, now None"):
        zsar_cli.load(cache_dir=cache, calibration=tmp_path / "mine.yaml")


def test_class_means_are_named_anew_and_other_files_refused(folder: Path, cache: Path, tmp_path: Path) -> None:
    from zsar_cli.errors import PrototypeError

    plain = zsar_cli.load()
    assert plain.bank is not None
    bank = plain.bank.select(["tench", "kayak"])
    means = type(bank)(bank.labels, bank.semantic, bank.visual, bank.model, bank.text_encoder, "class means")
    means.write(tmp_path / "means.safetensors")
    named = zsar_cli.load(text_encoder=folder, cache_dir=cache, prototypes=tmp_path / "means.safetensors")
    assert named.added is not None
    expected = used(folder).encode(["tench", "kayak"])
    torch.testing.assert_close(named.added.semantic, expected, atol=1e-5, rtol=0)
    assert torch.equal(named.added.visual, bank.visual)
    bank.write(tmp_path / "seen.safetensors")
    with pytest.raises(PrototypeError, match="was made with the text encoder minilm-"):
        zsar_cli.load(text_encoder=folder, cache_dir=cache, prototypes=tmp_path / "seen.safetensors")


def test_labels_outside_its_languages_are_named(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sentences, "locate_text", lambda name: folder)
    monkeypatch.setattr("zsar_cli.engine.checks.locate_text", lambda name: folder)
    names = ["Fahrrad fahren", "骑自行车", "ركوب الدراجة", "வண்டி ஓட்டுதல்"]
    classifier = zsar_cli.load(text_encoder="multilingual-minilm", cache_dir=cache)
    check_languages(classifier, LabelSet.from_names(names), Messages())
    said = capsys.readouterr().err
    message = f"builtin understands labels in 50 languages alone; scores mean little for: {names[3]}"
    assert said == f"warning: {message}; translate them, or take another --text-encoder\n"


def test_a_supervised_classifier_takes_it(folder: Path, tmp_path: Path) -> None:
    classifier = zsar_cli.load(str(checkpoints.of("videomae")), text_encoder=folder)
    assert classifier.bank is not None and classifier.bank.semantic.shape == (len(classifier.bank), WIDTH)
    assert classifier.text_encoder == classifier.bank.text_encoder == used(folder).fingerprint


def test_auto_chooses_among_models_that_relate_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    from test_choosing import add_pe_core

    from zsar_cli.engine import choosing

    monkeypatch.setenv("ZSAR_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(choosing, "_runs", lambda entry: True)
    add_pe_core(tmp_path)
    assert choosing.choose_model().name == "pe-core-b"
    chosen = choosing.choose_model(related=True)
    assert chosen.name == "builtin" and "pull" not in chosen.said
