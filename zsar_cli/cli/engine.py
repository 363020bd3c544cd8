"""From options to the one object that does the work."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsar_cli.cli.console import Messages
from zsar_cli.errors import UsageError, ZsarError
from zsar_cli.labels import LabelSet

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import Classifier, ZeroShotClassifier

__all__ = ["BUILTIN", "cache_folder", "open_classifier", "open_one", "read_labels"]

BUILTIN = "builtin"


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
    model: list[str] | None,
    device: str,
    precision: str,
    weights: str | None = None,
    seen_labels: Path | None = None,
    prototypes: Path | None = None,
    bank: str = "extend",
    lexicon: str | None = None,
    cache_dir: Path | None = None,
    no_cache: bool = False,
    sampling: dict[str, Any] | None = None,
    **embedding: Any,
) -> Classifier:
    """Load the models. `sampling` replaces fields of each model's own sampling where they are not None.

    Raises:
        ZsarError: as `loading.load`.
    """
    from zsar_cli.video.reader import DECODERS
    from zsar_cli.video.sampling import check_sampling
    from zsar_cli.video.types import Sampling

    names = model or [BUILTIN]
    wanted = {name: value for name, value in (sampling or {}).items() if value is not None}
    # What no model could work with is refused before one is loaded.
    check_sampling(replace(Sampling(), **wanted))
    if embedding.get("decoder", DECODERS[0]) not in DECODERS:
        raise UsageError(f"--decoder {embedding['decoder']}: unknown; allowed: {', '.join(DECODERS)}")
    messages.detail(f"loading {', '.join(names)}")
    from zsar_cli.engine.loading import load
    from zsar_cli.engine.pipeline import EmbedSettings

    classifier = load(
        names,
        weights=_numbers(weights),
        seen_labels=seen_labels,
        device=device,
        precision=precision,
        prototypes=prototypes,
        bank=bank,
        lexicon=lexicon,
        cache_dir=None if no_cache else _usable(cache_folder(cache_dir), messages),
    )
    for member in classifier.members:
        one = member.model
        member.embedding = EmbedSettings(sampling=replace(one.sampling, **wanted), **embedding)
        messages.detail(f"{one.fingerprint} on {one.device}, {len(member.bank or ())} seen classes")
    return classifier


def _usable(folder: Path, messages: Messages) -> Path | None:
    """The cache's folder, or None with a warning: a cache saves time, and its loss must not cost the job."""
    from zsar_cli.store.cache import EmbeddingCache

    cache = EmbeddingCache(folder)
    try:
        cache.check()
    except ZsarError as error:
        messages.warning(f"{error}; going on without it")
        return None
    finally:
        cache.close()
    return folder


def open_one(messages: Messages, *, model: list[str] | None, **options: Any) -> ZeroShotClassifier:
    """As `open_classifier`, for what is done with one model.

    Raises:
        UsageError: several were given.
    """
    if model and len(model) > 1:
        raise UsageError(f"--model {', '.join(model)}: only one model can be used here")
    return open_classifier(messages, model=model, **options).members[0]


def _numbers(text: str | None) -> list[float] | None:
    """--weights: numbers with commas between them."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--weights {text}: write numbers with commas between them, such as 1,2") from None
