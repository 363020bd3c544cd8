"""What can be refused of a choice of models before anything is loaded: torch alone takes seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from zsar_cli.errors import PrototypeError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.device import check_device, check_precision, check_runtime
from zsar_cli.weights.added import ModelFolder, models_folder
from zsar_cli.weights.catalogue import ALIASES, locate, locate_text, nameless_classes

__all__ = ["check_distinct", "check_models", "check_weights", "named_by_hand"]

BANKS = ("extend", "replace")


def check_models(
    names: Sequence[str],
    weights: Sequence[float] | None = None,
    seen_labels: str | None = None,
    prototypes: str | None = None,
    bank: str = "extend",
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "auto",
    models_dir: str | None = None,
    text_encoder: str | None = None,
) -> None:
    """Refuse values of a `ClassifierSpec` that no weights are needed to tell.

    Raises:
        UsageError: a value is unknown, or does not go with another.
        LabelError: the label file that names outputs cannot be used.
        ModelError: a model or the text encoder is not on this machine, or there is no such prototype file.
    """
    if bank not in BANKS:
        raise UsageError(f"--bank {bank}: unknown; allowed: {', '.join(BANKS)}")
    if bank == "replace" and prototypes is None:
        raise UsageError("--bank replace needs --prototypes: there is nothing to put in the place of the model's bank")
    if not names or (weights is not None and len(names) == 1):
        raise UsageError("--weights needs several models" if names else "no model; give at least one name")
    check_distinct([ALIASES.get(name, name) for name in names])
    if weights is not None:
        check_weights(weights)
        if len(weights) > len(names):
            raise UsageError(f"--weights: {len(names)} models need {len(names)} weights, not {len(weights)}")
    check_device(device)
    check_precision(precision)
    check_runtime(runtime)
    if prototypes is not None and not Path(prototypes).is_file():
        raise PrototypeError(f"{prototypes}: no such prototype file")
    if text_encoder is not None:
        locate_text(text_encoder)
    unnamed = None if seen_labels is None else named_by_hand(names)
    if seen_labels is not None and not Path(seen_labels).is_fifo():  # a pipe can be read once, by who needs the names
        LabelSet.read(seen_labels)
    folder = ModelFolder(Path(models_dir) if models_dir is not None else models_folder())
    for name in names:
        if folder.find(name) is None and locate(name).kind == "litert" and name != unnamed:
            raise nameless_classes(name)


def check_distinct(names: Sequence[str]) -> None:
    """Refuse a model that is given twice. Raises UsageError."""
    if len(set(names)) < len(names):
        raise UsageError(f"--model {', '.join(names)}: each model can be given once; --weights makes one count more")


def check_weights(weights: Sequence[float]) -> None:
    """Refuse weights of several models that no mean can be taken with. Raises UsageError."""
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or sum(weights) == 0:
        raise UsageError(f"--weights {','.join(map(str, weights))}: must be 0 or more, and not all 0")


def named_by_hand(names: Sequence[str]) -> str:
    """The model whose outputs --seen-labels names: the only model, or the only one that is a path.

    Raises:
        UsageError: it could be several, or none.
    """
    paths = [name for name in names if Path(name).exists()] if len(names) > 1 else list(names)
    if len(paths) != 1:
        raise UsageError(f"--seen-labels belongs to one model given as a file or folder; here are {len(paths)} such")
    return paths[0]
