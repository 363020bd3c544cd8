"""What the embeddings of a library are of: its file `library.yaml`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from zsar_cli._version import __version__
from zsar_cli.errors import UsageError
from zsar_cli.plain import read_yaml
from zsar_cli.records import Run

__all__ = ["SETTINGS", "LibrarySpec", "StoredModel", "is_library", "on_library"]

FORMAT = 1
SETTINGS = "library.yaml"
PRECISION = "kept as float16"


@dataclass(frozen=True)
class StoredModel:
    """What one column of embeddings is of.

    Args:
        name: as `--model` takes it.
        fingerprint: of the model.
        width: D.
        view: the sampling and geometry of the frames it saw, as plain values.
    """

    name: str
    fingerprint: str
    width: int
    view: Mapping[str, Any]


@dataclass(frozen=True)
class LibrarySpec:
    """What the embeddings of a library are of; two with equal specs may become one.

    Args:
        models: one or more.
        sampling: the fields that replace those of each model's own `Sampling`.
        decoder: as `EmbedSettings.decoder`.
        algorithm: of all between a file and the model's input.
    """

    models: tuple[StoredModel, ...]
    sampling: Mapping[str, Any]
    decoder: str
    algorithm: str

    @property
    def columns(self) -> tuple[tuple[str, int], ...]:
        """Name and width of each column of embeddings."""
        return tuple((model.fingerprint, model.width) for model in self.models)

    @property
    def exact(self) -> bool:
        """Whether frames are those of the instants asked for; else they are key frames."""
        return bool(self.sampling.get("exact", True))

    def of(self, names: Sequence[str], folder: Path) -> LibrarySpec:
        """That of some of its models, in this order.

        Raises:
            UsageError: it has none of a name.
        """
        models = {model.name: model for model in self.models}
        if missing := [name for name in names if name not in models]:
            raise UsageError(f"{folder} holds vectors of {_names(self.models)}, not of {missing[0]}")
        return replace(self, models=tuple(models[name] for name in names))

    def require(self, other: LibrarySpec, folder: Path | str) -> None:
        """Refuse embeddings that are made in another way.

        Raises:
            UsageError: names what differs.
        """
        theirs = {model.name: model for model in other.models}
        if {model.name for model in self.models} != set(theirs):
            raise UsageError(f"{folder} holds vectors of {_names(self.models)}, not of {_names(other.models)}")
        for model in self.models:
            _require(folder, f"the fingerprint of {model.name}", model.fingerprint, theirs[model.name].fingerprint)
        _require(folder, "--fast", *("off" if spec.exact else "on" for spec in (self, other)))
        for name in sorted({*self.sampling, *other.sampling} - {"exact"}):
            option = "--" + name.replace("_", "-")
            _require(folder, option, self.sampling.get(name, "the default"), other.sampling.get(name, "the default"))
        _require(folder, "--decoder", self.decoder, other.decoder)
        _require(folder, "the way to frames", self.algorithm, other.algorithm)
        for model in self.models:
            _require(folder, f"{model.name}: the frames", dict(model.view), dict(theirs[model.name].view))

    @classmethod
    def read(cls, file: Path) -> LibrarySpec:
        """Raises UsageError: it is no such file, or of a later format."""
        values = read_yaml(file, UsageError)
        try:
            if (made := int(values["format"])) > FORMAT:
                raise UsageError(f"{file}: is of format {made}, made by a later zsar than {__version__}; update zsar")
            models = tuple(
                StoredModel(str(one["name"]), str(one["fingerprint"]), int(one["width"]), dict(one["view"]))
                for one in values["models"]
            )
            return cls(models, dict(values["sampling"]), str(values["decoder"]), str(values["algorithm"]))
        except (TypeError, KeyError, ValueError) as error:
            raise UsageError(f"{file}: is not as zsar writes it ({type(error).__name__}: {error})") from None

    def to_yaml(self) -> str:
        """What `read` reads."""
        models = [
            {"name": one.name, "fingerprint": one.fingerprint, "width": one.width, "view": _plain(one.view)}
            for one in self.models
        ]
        values = {
            "format": FORMAT, "zsar": __version__, "algorithm": self.algorithm, "decoder": self.decoder,
            "sampling": dict(self.sampling), "models": models,
        }  # fmt: skip
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _require(folder: Path | str, what: str, kept: Any, given: Any) -> None:
    if kept != given:
        raise UsageError(
            f"{folder}: {what} is {kept} in this library, not {given}; another one needs a library of its own"
        )


def _names(models: Sequence[StoredModel]) -> str:
    return ", ".join(model.name for model in models)


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def is_library(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of a library."""
    return os.path.isfile(os.path.join(path, SETTINGS))


def on_library(run: Run) -> Run:
    """What results on a library depend on: the precision that it keeps, whatever computed its embeddings."""
    return replace(run, precision=PRECISION)
