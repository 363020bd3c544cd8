"""Bundles: exact, whole, and refused by name when anything about them is wrong."""

from __future__ import annotations

from pathlib import Path

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


def test_equal_weights_have_equal_fingerprints_and_others_do_not(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", name="another name")
    third = write(tmp_path / "c", weights={**WEIGHTS, "layer.bias": torch.zeros(2)})
    assert first == second != third


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
    ("change", "message"),
    [
        ({"format": "zsar.bundle/2"}, f"has the format 'zsar.bundle/2'; this version reads '{FORMAT}'"),
        ({"surprise": 1}, "lacks or should not have: surprise"),
        ({"kind": "other"}, "holds a model of the kind 'other', expected 'rest'"),
        ({"text_encoder": "t-9"}, "trained with the text encoder t-9, but this is t-1"),
        ({"fingerprint": "rest-000"}, "was made by the model rest-.*, but this is rest-000"),
        ({"files": {}}, r"lists the files \[\]"),
    ],
)
def test_a_manifest_that_does_not_fit(tmp_path: Path, change: dict[str, object], message: str) -> None:
    write(tmp_path / "model")
    manifest = tmp_path / "model" / "model.yaml"
    manifest.write_text(yaml.safe_dump({**yaml.safe_load(manifest.read_text()), **change}))
    with pytest.raises(ZsarError, match=message):
        read_bundle(tmp_path / "model", "rest", "t-1")


def test_what_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no model bundle: it has no model.yaml"):
        read_bundle(tmp_path, "rest", "t-1")
    (tmp_path / "model.yaml").write_text("[1, 2")
    with pytest.raises(ModelError, match=r"model.yaml cannot be read"):
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
