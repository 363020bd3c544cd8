"""The user's own models: .tflite classifiers added by name, each in a folder of its own with the names of its classes.

<models folder>/<name>/model.tflite
<models folder>/<name>/model.json      format, sha256 of the file, labels in the order of its outputs
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from zsar_cli.digests import known_sha256, sha256_of
from zsar_cli.errors import ModelError, OutputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.plain import read_json
from zsar_cli.weights.catalogue import ALIASES, ENTRIES, TFLITE
from zsar_cli.weights.replace import replace_folder
from zsar_cli.weights.text_entries import TEXT_ENTRIES

__all__ = ["AddedModel", "ModelFolder", "models_folder"]

FORMAT = "zsar.model/1"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


def models_folder() -> Path:
    """ZSAR_MODELS_DIR, else the place the platform keeps a user's data."""
    given = os.environ.get("ZSAR_MODELS_DIR")
    return Path(given) if given else Path(platformdirs.user_data_dir("zsar", appauthor=False)) / "models"


@dataclass(frozen=True)
class AddedModel:
    """A model of the folder: its file with its sha256, and the names of its outputs in order."""

    name: str
    file: Path
    sha256: str
    labels: tuple[str, ...]


class ModelFolder:
    """Models added by name.

    Args:
        root: made when the first model is added.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self) -> list[str]:
        """All added models, sorted."""
        names = (file.parent.name for file in self.root.glob("*/model.json"))
        return sorted(name for name in names if NAME.fullmatch(name))  # not what a killed process left half made

    def find(self, name: str) -> AddedModel | None:
        """The model of that name or alias; None where it was never added.

        Raises:
            ModelError: its file is missing or is not what was added.
        """
        name = ALIASES.get(name, name)
        folder = self.root / name
        if not NAME.fullmatch(name) or not (folder / "model.json").is_file():
            return None
        again = f"add it again: zsar models add {name} FILE --seen-labels FILE --overwrite"
        labels, wanted = _read_about(folder, again)
        try:
            found = known_sha256(folder / "model.tflite")
        except OSError as error:
            raise ModelError(f"{folder}: is not a whole model ({error}); {again}") from None
        if found != wanted:
            raise ModelError(
                f"{folder / 'model.tflite'}: is damaged: its sha256 is not the one it was added with; {again}"
            )
        return AddedModel(name, folder / "model.tflite", found, labels)

    def add(
        self,
        name: str,
        file: Path,
        labels: LabelSet,
        check: Callable[[Path, Sequence[str]], object],
        overwrite: bool = False,
    ) -> AddedModel:
        """Copy a classifier under a name, after it was opened and, where the name is known, compared with its sha256.

        Args:
            name: a registered name of this kind, its alias, or one of the user's choice.
            file: the .tflite file.
            labels: the names of its outputs, in order.
            check: opens the file with the names of its outputs, and raises ModelError where it is no such classifier.
            overwrite: replace a model of that name.

        Raises:
            UsageError: the name cannot be used.
            ModelError: the file or the labels are not what the name stands for, or the file is no classifier.
            OutputError: the name is taken, or the folder cannot be written.
        """
        name = ALIASES.get(name, name)
        _check_name(name)
        target = self.root / name
        if target.exists() and not overwrite:
            raise OutputError(f"{target}: a model of that name was added before; --overwrite replaces it")
        _check_known(name, file, labels)
        check(file, labels.names)
        part = self.root / f".{name}.{os.getpid()}.part"
        try:
            part.mkdir(parents=True)
            shutil.copyfile(file, part / "model.tflite")
            digest = _write_about(part, labels.names)
            replace_folder(part, target)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise OutputError(f"{target}: cannot be written: {error.strerror}") from None
        return AddedModel(name, target / "model.tflite", digest, labels.names)


def _read_about(folder: Path, again: str) -> tuple[tuple[str, ...], str]:
    """Labels and sha256 of model.json. Raises ModelError, which ends in what to do `again`."""
    try:
        about = read_json(folder / "model.json", ModelError)
    except ModelError as error:
        raise ModelError(f"{error}; {again}") from None
    about = about if isinstance(about, dict) else {}
    form, labels, sha256 = (about.get(key) for key in ("format", "labels", "sha256"))
    if form != FORMAT:
        raise ModelError(f"{folder}: has the format '{form}'; this version reads '{FORMAT}'; {again}")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels) or sha256 is None:
        raise ModelError(f"{folder}: is not a whole model (its labels or its sha256 are missing); {again}")
    return tuple(labels), str(sha256)


def _write_about(folder: Path, labels: Sequence[str]) -> str:
    """Write model.json; returns the sha256 of the file beside it."""
    digest = sha256_of(folder / "model.tflite")
    about = {"format": FORMAT, "sha256": digest, "labels": list(labels)}
    (folder / "model.json").write_text(json.dumps(about, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return digest


def _check_name(name: str) -> None:
    """A name must be a plain word that no model of another kind has."""
    entry = ENTRIES.get(name)
    if (entry is not None and entry.kind != "litert") or name in TEXT_ENTRIES:
        raise UsageError(f"'{name}' is the name of another kind of model; choose one of your own")
    if not NAME.fullmatch(name) or name.endswith(TFLITE):
        raise UsageError(f"'{name}' cannot name a model; use small letters, digits, '-', '_' and '.'")


def _check_known(name: str, file: Path, labels: LabelSet) -> None:
    """Compare file and class names with what a registered name stands for."""
    entry = ENTRIES.get(name)
    if entry is None:
        return
    if not file.is_file():
        raise ModelError(f"{file}: no such file")
    if entry.sha256 is not None and (found := sha256_of(file)) != entry.sha256:
        raise ModelError(
            f"{file}: is not {name}: its sha256 is {found[:16]}..., expected {entry.sha256[:16]}...; "
            "another file can be added under a name of your own"
        )
    listed = "\n".join(text.casefold() for text in labels.texts)
    if entry.classes is not None and hashlib.sha256(listed.encode()).hexdigest() != entry.classes:
        raise ModelError(
            f"the {len(labels)} seen labels are not the classes of {name} in its order; "
            "take the label map that is published with the model"
        )
