"""A trained model as a folder: model.yaml, weights.safetensors, prototypes.safetensors. Never a pickle.

model.yaml says what the model is and holds the sha256 of the other files; nothing is used before all of it was checked.
The fingerprint is computed from what is there, so that a bundle cannot pass for another one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zsar_cli.digests import digest, known_sha256, sha256_of
from zsar_cli.errors import ModelError, OutputError
from zsar_cli.plain import read_yaml
from zsar_cli.tensors import write_tensors
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.weights.replace import replace_folder

__all__ = ["FORMAT", "MANIFEST", "Bundle", "check_bundle", "find_bundle", "read_bundle", "write_bundle"]

FORMAT = "zsar.bundle/2"
ALGORITHM = 1  # of making embeddings with a bundle; another way of making them is another space
SCORING = frozenset({"transfer", "specialist"})  # sections of the settings that change scores and no embedding
MANIFEST, WEIGHTS, PROTOTYPES = "model.yaml", "weights.safetensors", "prototypes.safetensors"
# Every key but the last must be there.
KEYS: Mapping[str, type] = MappingProxyType(
    {
        "format": str, "kind": str, "name": str, "text_encoder": str, "settings": dict, "provenance": dict,
        "files": dict, "fingerprint": str,
    }
)  # fmt: skip
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Bundle:
    """A model on disk.

    Args:
        kind: which class reads it, for example "rest".
        name: what its maker called it.
        fingerprint: of its visual space; made of the kind, the sha256 of the weights, the text encoder and all
            settings but those of scoring.
        text_encoder: fingerprint of the text encoder it was trained with.
        settings: all else its class needs to rebuild it: shape, clip spec, transfer.
        provenance: for people: data, command, versions, licence.
        weights: by name.
        bank: its seen classes.
    """

    kind: str
    name: str
    fingerprint: str
    text_encoder: str
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    bank: PrototypeBank


def write_bundle(
    folder: Path,
    *,
    kind: str,
    name: str,
    weights: Mapping[str, Tensor],
    bank: PrototypeBank,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    overwrite: bool = False,
) -> str:
    """Write a bundle, whole or not at all.

    Args:
        folder: made anew; its parent must exist.
        kind, name, weights, settings, provenance: see `Bundle`.
        bank: the seen classes; its `model` is set to the bundle's fingerprint.
        overwrite: replace a bundle that is there.

    Returns:
        the fingerprint.

    Raises:
        OutputError: the folder exists and is no bundle or may not be replaced, or cannot be written.
    """
    if folder.exists() and not (overwrite and (folder / MANIFEST).is_file()):
        raise OutputError(f"{folder} exists; --overwrite replaces a bundle, and nothing else")
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        part.mkdir()
        write_tensors({key: value.contiguous().cpu() for key, value in weights.items()}, part / WEIGHTS)
        manifest: dict[str, Any] = {
            "format": FORMAT,
            "kind": kind,
            "name": name,
            "text_encoder": bank.text_encoder,
            "settings": dict(settings),
            "provenance": dict(provenance),
            "files": {WEIGHTS: sha256_of(part / WEIGHTS)},
        }
        fingerprint = _fingerprint(manifest)
        made = PrototypeBank(bank.labels, bank.semantic, bank.visual, fingerprint, bank.text_encoder, bank.kind)
        made.write(part / PROTOTYPES)
        manifest["files"][PROTOTYPES] = sha256_of(part / PROTOTYPES)
        text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True, width=100)
        (part / MANIFEST).write_text(text, encoding="utf-8")
        replace_folder(part, folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the bundle {folder}: {error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return fingerprint


def read_bundle(folder: Path, kind: str, text_encoder: str) -> Bundle:
    """Read what `write_bundle` wrote.

    Args:
        folder: of the bundle.
        kind: that the caller can use.
        text_encoder: fingerprint of the encoder at hand.

    Raises:
        ModelError: a file is missing or changed, the format is another, or the model needs another text encoder; the
            message names the file and both values.
    """
    manifest = check_bundle(folder)
    if manifest["kind"] != kind:
        raise ModelError(f"{folder} holds a model of the kind '{manifest['kind']}', expected '{kind}'")
    if manifest["text_encoder"] != text_encoder:
        raise ModelError(
            f"{folder} was trained with the text encoder {manifest['text_encoder']}, but this is {text_encoder}; "
            "train it anew or install the encoder it needs"
        )
    try:
        weights = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS} cannot be read: {error}") from None
    # That it is this bundle's bank is known from its check sum, also where a setting was changed since.
    bank = replace(PrototypeBank.read(folder / PROTOTYPES), model=manifest["fingerprint"])
    bank.require(manifest["fingerprint"], text_encoder, str(folder / PROTOTYPES))
    fields = {
        name: manifest[name] for name in ("kind", "name", "fingerprint", "text_encoder", "settings", "provenance")
    }
    return Bundle(**fields, weights=weights, bank=bank)


def find_bundle(folder: Path) -> Path | None:
    """The bundle at a folder: the folder itself, or "model" in it where it is a training run. None if it holds none."""
    return next((place for place in (folder, folder / "model") if (place / MANIFEST).is_file()), None)


def check_bundle(folder: Path) -> dict[str, Any]:
    """Compare a bundle's files with their check sums.

    Returns:
        what model.yaml says, and the "fingerprint" of the model; "files" holds file -> sha256.

    Raises:
        ModelError: a file is missing or changed, the format is another, or model.yaml states another fingerprint.
    """
    manifest = _read_manifest(folder)
    for file, expected in manifest["files"].items():
        path = folder / file
        if not path.is_file():
            raise ModelError(f"{path} is missing: the bundle is not complete; copy it again")
        found = known_sha256(path)
        if found != expected:
            raise ModelError(
                f"{path} was changed or damaged: sha256 {found[:16]}..., model.yaml says {expected[:16]}..."
            )
    try:
        fingerprint = _fingerprint(manifest)
    except TypeError:  # keys of several types have no order
        raise ModelError(f"{folder / MANIFEST}: a key of its settings is no text") from None
    if manifest.get("fingerprint", fingerprint) != fingerprint:
        raise ModelError(
            f"{folder / MANIFEST} states the fingerprint {manifest['fingerprint']}, but its weights and settings are "
            f"those of {fingerprint}; take the line out if a setting was changed on purpose"
        )
    return {**manifest, "fingerprint": fingerprint}


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    """Of the space that a bundle's embeddings lie in."""
    settings = {name: value for name, value in manifest["settings"].items() if name not in SCORING}
    parts = (ALGORITHM, manifest["kind"], manifest["text_encoder"], settings, manifest["files"][WEIGHTS])
    return f"{manifest['kind']}-{digest(*parts)[:12]}"


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ModelError(f"{folder} is no model bundle: it has no {MANIFEST}")
    manifest = read_yaml(path, ModelError)
    if not isinstance(manifest, dict):
        raise ModelError(f"{path} is not a model description")
    if manifest.get("format") != FORMAT:
        older = manifest.get("format") == "zsar.bundle/1"
        hint = "; examples/maintenance/bundle.py in the repository rewrites it" if older else ""
        raise ModelError(
            f"{path} has the format '{manifest.get('format', 'none')}'; this version reads '{FORMAT}'{hint}"
        )
    if wrong := (set(manifest) | {"fingerprint"}) ^ set(KEYS):
        raise ModelError(f"{path} lacks or should not have: {', '.join(sorted(map(str, wrong)))}")
    for key, value in manifest.items():
        if not isinstance(value, KEYS[key]):
            what = "a mapping" if KEYS[key] is dict else "text"
            raise ModelError(f"{path}: {key} must be {what}, not {value!r}")
    files = manifest["files"]
    if set(files) != {WEIGHTS, PROTOTYPES}:
        raise ModelError(f"{path} lists the files {sorted(map(str, files))}, expected {WEIGHTS} and {PROTOTYPES}")
    for file, sha256 in files.items():
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise ModelError(f"{path}: {file} has the check sum {sha256!r}; a sha256 has 64 hex digits")
    return manifest
