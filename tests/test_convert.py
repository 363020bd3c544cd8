"""Pickled weights to safetensors: the same model comes out, and nothing in the pickle is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from safetensors.torch import load_file

from zsar_cli.errors import ModelError, OutputError
from zsar_cli.models.open import load_model
from zsar_cli.weights.convert import convert
from zsar_cli.weights.hub import verify_folder

CPU = torch.device("cpu")


def pickled(folder: Path, name: str = "pytorch_model.bin", wrap: Any = lambda weights: weights) -> Path:
    """The image classifier with its weights pickled."""
    shutil.copytree(checkpoints.of("vit"), folder)
    file = folder / "model.safetensors"
    torch.save(wrap(load_file(file)), folder / name)
    file.unlink()
    return folder


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("pytorch_model.bin", lambda weights: weights),
        ("best.pth", lambda weights: {"state_dict": {f"module.{key}": value for key, value in weights.items()}}),
    ],
)
def test_the_same_model_comes_out(name: str, wrap: Any, tmp_path: Path) -> None:
    source = pickled(tmp_path / "old", name, wrap)
    target = convert(source, tmp_path / "new")
    original, ours = (load_model(str(path), CPU, torch.float32) for path in (checkpoints.of("vit"), target))
    clips = torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8)
    assert torch.equal(original.encode_video(clips), ours.encode_video(clips))
    assert {item.file for item in verify_folder(target)} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }
    assert not list(target.glob("*.bin")) and not list(target.glob("*.pth"))


def test_shards_become_one_file(tmp_path: Path) -> None:
    source = pickled(tmp_path / "old")
    weights = torch.load(source / "pytorch_model.bin", weights_only=True)
    (source / "pytorch_model.bin").unlink()
    names = sorted(weights)
    index = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({key: weights[key] for key in part}, source / file)
        index.update(dict.fromkeys(part, file))
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    target = convert(source, tmp_path / "new")
    assert load_file(target / "model.safetensors").keys() == weights.keys()
    assert not (target / "pytorch_model.bin.index.json").exists()


def test_tied_weights_are_written_out(tmp_path: Path) -> None:
    source = pickled(
        tmp_path / "old", wrap=lambda weights: {"a": weights["classifier.bias"], "b": weights["classifier.bias"]}
    )
    written = load_file(convert(source, tmp_path / "new") / "model.safetensors")
    assert torch.equal(written["a"], written["b"])


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch exploded",)


def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = pickled(tmp_path / "old")
    (source / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Bomb()}, protocol=2))
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        convert(source, tmp_path / "new")
    torch.save({"weight": Bomb()}, source / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than tensors"):
        convert(source, tmp_path / "new")
    assert not (tmp_path / "exploded").exists() and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [([1, 2], "holds no state dict"), ({}, "holds no state dict"), ({"epoch": 3}, "'epoch' is no tensor")],
)
def test_what_is_no_state_dict_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    source = pickled(tmp_path / "old", wrap=lambda _: content)
    with pytest.raises(ModelError, match=message):
        convert(source, tmp_path / "new")


def test_damage_and_absence_are_named(tmp_path: Path) -> None:
    source = pickled(tmp_path / "old")
    (source / "pytorch_model.bin").write_bytes((source / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(ModelError, match="is damaged or no file of torch"):
        convert(source, tmp_path / "new")
    with pytest.raises(ModelError, match="no such file"):
        convert(source / "absent.bin", tmp_path / "new")
    (source / "pytorch_model.bin").unlink()
    with pytest.raises(ModelError, match="holds no pickled weights"):
        convert(source, tmp_path / "new")
    for name in ("a.pth", "b.pth"):
        (source / name).touch()
    with pytest.raises(ModelError, match=r"several: a\.pth, b\.pth; name the file"):
        convert(source, tmp_path / "new")


def test_weights_without_a_configuration_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        convert(tmp_path / "x.pth", tmp_path / "new")


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(OutputError, match="exists"):
        convert(pickled(tmp_path / "old"), tmp_path / "new")
