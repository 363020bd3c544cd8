"""Bundles: exact, whole, and refused by name when anything about them is wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_prototypes import bank

from zsar_cli.errors import ModelError, OutputError, ZsarError
from zsar_cli.weights.bundle import FORMAT, read_bundle, write_bundle

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


def write(folder: Path, **fields: object) -> str:
    values: dict[str, object] = {
        "kind": "rest", "name": "mine", "weights": WEIGHTS, "bank": bank(model="whatever"),
        "settings": {"shape": {"width": 8}}, "provenance": {"data": "made by a test"},
    }  # fmt: skip
    return write_bundle(folder, **(values | fields))  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    fingerprint = write(tmp_path / "model")
    read = read_bundle(tmp_path / "model", "rest", "t-1")
    assert read.weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(read.weights[name], WEIGHTS[name]) for name in WEIGHTS)
    assert torch.equal(read.bank.visual, bank().visual)
    assert read.bank.model == read.fingerprint == fingerprint
    assert read.settings == {"shape": {"width": 8}}
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.yaml", "prototypes.safetensors", "weights.safetensors",
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def manifest_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "model.yaml").read_text())
    return content


def change(folder: Path, **fields: object) -> None:
    (folder / "model.yaml").write_text(yaml.safe_dump({**manifest_of(folder), **fields}))


def test_the_fingerprint_is_that_of_all_that_changes_an_embedding_and_of_nothing_else(tmp_path: Path) -> None:
    first = write(tmp_path / "a")
    same = (
        {"name": "another name"},
        {"provenance": {}},
        {"settings": {"shape": {"width": 8}, "transfer": {"top_k": 3}, "specialist": 0.75}},
        {"bank": bank(seed=3)},
    )
    other = (
        {"weights": {**WEIGHTS, "layer.bias": torch.zeros(2)}},
        {"settings": {"shape": {"width": 8}, "clip": {"mirror": True}}},
        {"settings": {"shape": {"width": 9}}},
        {"bank": bank(text_encoder="t-2")},
        {"kind": "other"},
    )
    for index, fields in enumerate(same):
        assert write(tmp_path / f"same{index}", **fields) == first
    found = {write(tmp_path / f"other{index}", **fields) for index, fields in enumerate(other)}
    assert len(found | {first}) == len(other) + 1


def test_no_bundle_passes_for_another_one(tmp_path: Path) -> None:
    true = write(tmp_path / "true")
    foreign = write(tmp_path / "foreign", weights={"layer.weight": torch.zeros(2, 3), "layer.bias": torch.ones(2)})
    change(tmp_path / "foreign", fingerprint=true)
    message = f"states the fingerprint {true}, but its weights and settings are those of {foreign}; take the line out"
    with pytest.raises(ModelError, match=message):
        read_bundle(tmp_path / "foreign", "rest", "t-1")
    change(tmp_path / "foreign", fingerprint=foreign)
    assert read_bundle(tmp_path / "foreign", "rest", "t-1").fingerprint == foreign


def test_a_changed_setting_changes_the_fingerprint_and_is_no_error(tmp_path: Path) -> None:
    before = write(tmp_path / "model")
    change(tmp_path / "model", settings={"shape": {"width": 8, "heads": 2}})
    read = read_bundle(tmp_path / "model", "rest", "t-1")
    assert read.fingerprint == read.bank.model != before


def test_a_replacement_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(tmp_path / "model")
    rename, calls = os.rename, []

    def failing(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(OutputError, match="No space left on device"):
        write(tmp_path / "model", weights={"x": torch.ones(1)}, overwrite=True)
    assert len(calls) == 3
    assert read_bundle(tmp_path / "model", "rest", "t-1").fingerprint == first
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("file", ["weights.safetensors", "prototypes.safetensors"])
def test_a_flipped_byte_and_a_missing_file_are_named(tmp_path: Path, file: str) -> None:
    write(tmp_path / "model")
    path = tmp_path / "model" / file
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match=rf"{file} was changed or damaged: sha256 \w{{16}}\.\.\., model.yaml says"):
        read_bundle(tmp_path / "model", "rest", "t-1")
    path.unlink()
    with pytest.raises(ModelError, match=rf"{file} is missing"):
        read_bundle(tmp_path / "model", "rest", "t-1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"surprise": 1}, "lacks or should not have: surprise"),
        ({"kind": "other"}, "holds a model of the kind 'other', expected 'rest'"),
        ({"text_encoder": "t-9"}, "trained with the text encoder t-9, but this is t-1"),
        ({"format": "zsar.bundle/1"}, "this version reads 'zsar.bundle/2'; examples/maintenance/bundle.py .* rewrites"),
        ({"format": "zsar.bundle/3"}, f"has the format 'zsar.bundle/3'; this version reads '{FORMAT}'"),
        ({"files": {}}, r"lists the files \[\]"),
        ({"files": None}, "files must be a mapping, not None"),
        ({"files": ["weights.safetensors", "prototypes.safetensors"]}, "files must be a mapping"),
        ({"files": {"weights.safetensors": None, "prototypes.safetensors": None}}, "has the check sum None"),
        ({"files": {1: "a", "b": "c"}}, r"lists the files \['1', 'b'\]"),
        ({"settings": []}, r"settings must be a mapping, not \[\]"),
        ({"kind": 3}, "kind must be text, not 3"),
        ({"provenance": "none"}, "provenance must be a mapping"),
    ],
)
def test_a_manifest_that_does_not_fit(tmp_path: Path, fields: dict[str, object], message: str) -> None:
    write(tmp_path / "model")
    change(tmp_path / "model", **fields)
    with pytest.raises(ZsarError, match=message):
        read_bundle(tmp_path / "model", "rest", "t-1")


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no model bundle: it has no model.yaml"):
        read_bundle(tmp_path, "rest", "t-1")
    (tmp_path / "model.yaml").write_text("[1, 2")
    with pytest.raises(ModelError, match=r"model.yaml: is not a YAML file"):
        read_bundle(tmp_path, "rest", "t-1")


def test_only_a_bundle_is_ever_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    first = write(folder)
    with pytest.raises(OutputError, match="--overwrite replaces a bundle, and nothing else"):
        write(folder)
    assert write(folder, weights={"x": torch.ones(1)}, overwrite=True) != first
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="nothing else"):
        write(precious, overwrite=True)
    assert (precious / "thesis.txt").exists()


def test_an_absent_parent_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the bundle"):
        write(tmp_path / "absent" / "model")
