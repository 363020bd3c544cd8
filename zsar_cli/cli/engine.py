"""From options to the one object that does the work."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsar_cli.cli.console import Messages
from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet

if TYPE_CHECKING:
    from zsar_cli.classifier import ZeroShotClassifier

__all__ = ["cache_folder", "open_classifier", "read_labels"]


def cache_folder(given: Path | None) -> Path:
    """--cache-dir, else the place the platform keeps such things."""
    if given is not None:
        return given
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = str(Path.home() / "Library" / "Caches")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "zsar"


def read_labels(file: Path | None, names: list[str] | None, messages: Messages) -> LabelSet:
    """--labels and --label together; what was noticed while reading is a warning.

    Raises:
        LabelError: the file or a name cannot be used.
        UsageError: neither was given.
    """
    if file is None and not names:
        raise UsageError("no labels: give --labels FILE, or --label NAME once for each name")
    labels = LabelSet.read(file) if file is not None else LabelSet.from_names(names or [])
    if file is not None and names:
        labels = LabelSet.from_names([*labels, *names])
    for note in labels.notes:
        messages.warning(note)
    return labels


def open_classifier(
    messages: Messages,
    *,
    model: str,
    device: str,
    precision: str,
    prototypes: Path | None = None,
    bank: str = "extend",
    cache_dir: Path | None = None,
    no_cache: bool = False,
    sampling: dict[str, Any] | None = None,
    **embedding: Any,
) -> ZeroShotClassifier:
    """Load the model. `sampling` replaces fields of the model's own sampling where they are not None.

    Raises:
        ZsarError: as `classifier.load`.
    """
    messages.detail(f"loading the model '{model}'")
    from dataclasses import replace

    from zsar_cli.loading import load
    from zsar_cli.pipeline import EmbedSettings

    classifier = load(
        model,
        device=device,
        precision=precision,
        prototypes=prototypes,
        bank=bank,
        cache_dir=None if no_cache else cache_folder(cache_dir),
    )
    wanted = {name: value for name, value in (sampling or {}).items() if value is not None}
    classifier.embedding = EmbedSettings(sampling=replace(classifier.model.sampling, **wanted), **embedding)
    messages.detail(
        f"{classifier.model.fingerprint} on {classifier.model.device}, {len(classifier.bank or ())} seen classes"
    )
    return classifier
