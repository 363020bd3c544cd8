"""Pickled weights to safetensors, without running anything that is in the pickle.

They are of a model of Transformers, whose config.json lies beside them, or of a network that is known by its tensors.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli.digests import sha256_of
from zsar_cli.errors import ModelError, OutputError
from zsar_cli.tensors import write_tensors
from zsar_cli.weights.checkpoint import PICKLES, listed_files
from zsar_cli.weights.hub import SIDE_FILES, SUMS

__all__ = ["convert", "read_pickled"]

NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights
FULL_INDEX = "pytorch_model.bin.index.json"


Recognise = Callable[[Mapping[str, Tensor]], "tuple[str, float] | None"]


def convert(source: Path, target: Path, recognise: Recognise = lambda weights: None) -> Path:
    """Write a copy of a model with model.safetensors in place of pickled weights, and the sums of its files.

    Args:
        source: a folder with config.json and .bin or .pth weights, or such a file with config.json beside it.
        target: the new folder.
        recognise: name and width of a network by its tensors alone, where there is no config.json; one with these as
            `model_type` and `width` is written.

    Returns:
        `target`.

    Raises:
        ModelError: there is nothing to convert, or the file holds more than tensors.
        OutputError: `target` exists or cannot be written.
    """
    folder = source if source.is_dir() else source.parent
    files = _pickles(source)
    if target.exists():
        raise OutputError(f"{target} exists; give the name of a new folder")
    weights: dict[str, Tensor] = {}
    for file in files:
        weights.update(read_pickled(file))
    known = None if (folder / "config.json").is_file() else recognise(weights)
    if known is None and not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: has no config.json, which says what network the weights are for; put it there")
    part = target.with_name(f"{target.name}.part")
    try:
        part.mkdir(parents=True)
        write_tensors(_unshared(weights), part / "model.safetensors", {"format": "pt"})
        if known is None:
            _copy_side_files(folder, part)
        else:
            config = {"model_type": known[0], "width": known[1]}
            (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        sums = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(part.iterdir())]
        (part / SUMS).write_text("".join(sums), encoding="utf-8")
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(f"cannot write {target}: {error}") from None
    return target


def _copy_side_files(folder: Path, target: Path) -> None:
    """Configuration, processor and tokenizer."""
    for pattern in SIDE_FILES:
        for file in folder.glob(pattern):
            if not file.name.endswith(".index.json"):
                shutil.copyfile(file, target / file.name)


def _pickles(source: Path) -> list[Path]:
    """The weight file, or all shards of one checkpoint."""
    if not source.exists():
        raise ModelError(f"{source}: no such file or folder")
    if source.is_file():
        return [source]
    if (index := source / FULL_INDEX).is_file():
        return [source / name for name in listed_files(index)]
    found = sorted({file for pattern in PICKLES for file in source.glob(pattern)})
    usual = [file for file in found if file.name == "pytorch_model.bin"] or found
    if len(usual) != 1:
        what = "no pickled weights" if not usual else f"several: {', '.join(file.name for file in usual)}"
        raise ModelError(f"{source}: holds {what}; name the file to convert")
    return usual


def read_pickled(file: Path) -> dict[str, Tensor]:
    """The tensors of a file, read by torch's restricted unpickler, which runs no code.

    Raises:
        ModelError: it is damaged, or holds more than tensors.
    """
    try:
        content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ModelError(f"{file}: holds more than tensors, which could run any code; zsar does not read it") from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{file}: is damaged or no file of torch: {reason}") from None
    for key in NESTED:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise ModelError(f"{file}: holds no state dict (names and tensors), but a {type(content).__name__}")
    # Training on several devices puts "module." before every name.
    shared = all(str(name).startswith("module.") for name in content)
    named = {str(name).removeprefix("module.") if shared else str(name): value for name, value in content.items()}
    other = [name for name, value in named.items() if not isinstance(value, Tensor)]
    if other:
        raise ModelError(f"{file}: its entry '{other[0]}' is no tensor; convert the state dict alone")
    return named


def _unshared(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each tensor with memory of its own, as safetensors wants it."""
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}
