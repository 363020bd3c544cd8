"""Models added by name: what is checked before a copy is made, and what is found afterwards."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from tflite_files import write_plain

from zsar_cli.errors import ModelError, OutputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.litert import LiteRTModel
from zsar_cli.models.open import load_model
from zsar_cli.weights import added, catalogue
from zsar_cli.weights.added import ModelFolder, models_folder
from zsar_cli.weights.catalogue import ENTRIES, locate

LABELS = LabelSet.from_names(["archery", "playing C#: loudly", "cooking"])
MATRIX = np.eye(3, dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path / "models")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_plain(tmp_path / "given.tflite", MATRIX)


def test_an_added_model_is_found_with_its_names(folder: ModelFolder, file: Path) -> None:
    assert folder.names() == []
    assert folder.find("mine") is None
    added = folder.add("mine", file, LABELS, LiteRTModel)
    file.unlink()  # the copy stands alone
    assert folder.find("mine") == added
    assert added.labels == LABELS.names
    assert folder.names() == ["mine"]
    assert [path.name for path in folder.root.iterdir()] == ["mine"]  # nothing left over
    model = load_model(str(added.file), torch.device("cpu"), torch.float32, added.labels)
    assert model.encode_video(torch.zeros(1, 1, 8, 8, 3, dtype=torch.uint8)).shape == (1, 3)


def test_a_name_that_is_taken_is_replaced_only_when_asked(folder: ModelFolder, file: Path) -> None:
    folder.add("mine", file, LABELS, LiteRTModel)
    other = LabelSet.from_names(["one", "two", "three"])
    with pytest.raises(OutputError, match="--overwrite replaces it"):
        folder.add("mine", file, other, LiteRTModel)
    assert folder.find("mine").labels == LABELS.names  # type: ignore[union-attr]
    assert folder.add("mine", file, other, LiteRTModel, overwrite=True).labels == other.names
    assert folder.find("mine").labels == other.names  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["builtin", "clip-vit-b16", "../up", "A model", "x.tflite", ""])
def test_names_that_cannot_be_used(name: str, folder: ModelFolder, file: Path) -> None:
    with pytest.raises(UsageError, match=r"name"):
        folder.add(name, file, LABELS, LiteRTModel)
    assert not folder.root.exists()


def test_nothing_is_kept_of_what_is_no_classifier(folder: ModelFolder, file: Path) -> None:
    with pytest.raises(ModelError, match="has 3 outputs, but the seen labels are 2"):
        folder.add("mine", file, LabelSet.from_names(["one", "two"]), LiteRTModel)
    file.write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="LiteRT cannot run it"):
        folder.add("mine", file, LABELS, LiteRTModel)
    assert not folder.root.exists()


def test_a_replacement_that_fails_leaves_what_was_there(
    folder: ModelFolder, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.add("mine", file, LABELS, LiteRTModel)
    rename, calls = os.rename, []

    def failing(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OutputError, match="No space left on device"):
        folder.add("mine", file, LabelSet.from_names(["one", "two", "three"]), LiteRTModel, overwrite=True)
    assert folder.find("mine") == before
    assert [path.name for path in folder.root.iterdir()] == ["mine"]


def test_what_a_killed_process_left_half_made_is_no_model(folder: ModelFolder, file: Path) -> None:
    folder.add("mine", file, LABELS, LiteRTModel)
    shutil.copytree(folder.root / "mine", folder.root / ".mine.77.part")
    assert folder.names() == ["mine"]


def test_a_damaged_copy_is_named(folder: ModelFolder, file: Path) -> None:
    added = folder.add("mine", file, LABELS, LiteRTModel)
    content = bytearray(added.file.read_bytes())
    content[-1] ^= 1
    added.file.write_bytes(content)
    with pytest.raises(ModelError, match=r"is damaged: .*zsar models add mine"):
        folder.find("mine")
    added.file.unlink()
    with pytest.raises(ModelError, match=r"is not a whole model .*zsar models add mine"):
        folder.find("mine")


@pytest.mark.parametrize(
    "about",
    [
        "{",
        "{}",
        '{"format": "zsar.model/2", "labels": [], "sha256": ""}',
        "[]",
        "[" * 10**5,
        "3",
        '{"format": "zsar.model/1", "labels": "abc", "sha256": ""}',
    ],
)
def test_a_damaged_description_is_named(about: str, folder: ModelFolder, file: Path) -> None:
    added = folder.add("mine", file, LABELS, LiteRTModel)
    (added.file.parent / "model.json").write_text(about, encoding="utf-8")
    with pytest.raises(ModelError, match="add it again"):
        folder.find("mine")


def known(monkeypatch: pytest.MonkeyPatch, file: Path, labels: LabelSet) -> None:
    """Make the registered MoViNet stand for this file and these labels."""
    entry = replace(
        ENTRIES["movinet-a0-stream"],
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        classes=hashlib.sha256("\n".join(text.casefold() for text in labels.texts).encode()).hexdigest(),
    )
    entries = MappingProxyType({**ENTRIES, entry.name: entry})
    for module in (catalogue, added):
        monkeypatch.setattr(module, "ENTRIES", entries)


def test_a_known_name_stands_for_one_file_and_one_order_of_classes(
    folder: ModelFolder, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match=r"is not movinet-a0-stream: its sha256 is .*expected 6125b36e2485eeb5"):
        folder.add("movinet", file, LABELS, LiteRTModel)
    known(monkeypatch, file, LABELS)
    with pytest.raises(ModelError, match="are not the classes of movinet-a0-stream in its order"):
        folder.add("movinet", file, LabelSet.from_names(LABELS.names[::-1]), LiteRTModel)
    with pytest.raises(ModelError, match="no such file"):
        folder.add("movinet", tmp_path / "missing.tflite", LABELS, LiteRTModel)
    folder.add("movinet", file, LABELS, LiteRTModel)
    assert folder.names() == ["movinet-a0-stream"]
    assert folder.find("movinet") == folder.find("movinet-a0-stream") is not None


def test_without_a_copy_the_message_says_what_to_run() -> None:
    for name in ("movinet", "movinet-a0-stream"):
        with pytest.raises(
            ModelError,
            match=r"run: zsar models pull movinet-a0-stream, or .*: zsar models add movinet-a0-stream FILE.tflite",
        ):
            locate(name)


def test_a_file_by_its_path_needs_names_and_its_own_precision(file: Path) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(UsageError, match="give --seen-labels FILE"):
        load_model(str(file), cpu, torch.float32)
    with pytest.raises(UsageError, match="take --precision auto"):
        load_model(str(file), cpu, torch.bfloat16, LABELS.names)
    assert load_model(str(file), cpu, torch.float32, LABELS.names).name == str(file)


def test_the_folder_follows_the_variable_then_the_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZSAR_MODELS_DIR", str(tmp_path / "here"))
    assert models_folder() == tmp_path / "here"
    monkeypatch.delenv("ZSAR_MODELS_DIR")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert models_folder() == tmp_path / "data" / "zsar" / "models"


def test_labels_survive_as_they_were_written(folder: ModelFolder, file: Path) -> None:
    added = folder.add("mine", file, LABELS, LiteRTModel)
    about = json.loads((added.file.parent / "model.json").read_text(encoding="utf-8"))
    assert about["labels"] == list(LABELS.names)
    assert about["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_weights_page_has_the_sum_that_is_checked() -> None:
    page = (Path(__file__).parents[1] / "weights.md").read_text(encoding="utf-8")
    assert f"`{ENTRIES['movinet-a0-stream'].sha256}`" in page
