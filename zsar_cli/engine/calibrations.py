"""Calibrations as files: what they were made for, those that come with the package, and those of a user.

    schema: zsar.calibration/1
    models: [{fingerprint: .., weight: 1.0, bank: .., transfer: {..}}]    # and text_encoder, if not the packaged one
    calibration: {right: .., right_background: .., ..}        # the fields of `decision.Calibration`
    measured: {videos: .., ..}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from zsar_cli.digests import digest
from zsar_cli.engine.classifier import Classifier
from zsar_cli.engine.deciding import Deciding
from zsar_cli.errors import ConfigError, UsageError
from zsar_cli.plain import read_yaml
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.decision import Calibration

__all__ = ["calibration_text", "deciding_for", "packaged_calibrations"]

SCHEMA = "zsar.calibration/1"
PACKAGED = "calibrations"  # folder
KEYS = {"schema", "models", "calibration", "measured"}


def deciding_for(classifier: Classifier, calibration: str = "auto", reject: float | str | None = None) -> Deciding:
    """How the answers of a classifier are judged.

    Args:
        calibration: "auto" takes the packaged one for these models and settings, if there is one; "none" none; else a
            file.
        reject: see `Deciding.reject`; "auto" takes what the calibration says.

    Raises:
        UsageError: `reject` is no share, or there is no calibration to say it.
        ConfigError: the file is no calibration, or one of other models or settings.
    """
    found: Calibration | None = None
    source = None
    if calibration == "auto":
        for name, values in packaged_calibrations():
            if values["models"] == made_for(classifier):
                found, source = _calibration(values, name), name
    elif calibration != "none":
        values = _read(Path(calibration))
        _require(values["models"], made_for(classifier), calibration)
        found, source = _calibration(values, calibration), Path(calibration).name
    if isinstance(reject, str):
        if reject != "auto":
            raise UsageError(f"--reject {reject}: give auto, or a number from 0 to 1")
        if found is None:
            raise UsageError(
                "--reject auto: these models and settings were not calibrated; give a number from 0 to 1, which "
                "'unknown' of the results is compared with, or --calibration FILE, which 'zsar calibrate' makes"
            )
        reject = found.reject
    if reject is not None and not 0 <= reject <= 1:
        raise UsageError(f"--reject {reject}: give auto, or a number from 0 to 1")
    return Deciding(found, source, reject)


def made_for(classifier: Classifier) -> list[dict[str, Any]]:
    """What similarities depend on, beside the labels: a mapping for each model, in the order of their fingerprints."""
    models = [
        {
            "fingerprint": member.model.fingerprint,
            "weight": weight,
            "bank": " + ".join(_about(bank) for bank in (member.bank, member.added) if bank is not None) or None,
            "transfer": asdict(member.transfer),
            **({} if member.text_encoder is None else {"text_encoder": member.text_encoder}),
        }
        for member, weight in zip(classifier.members, classifier.weights, strict=True)
    ]
    return sorted(models, key=lambda one: str(one["fingerprint"]))


def _about(bank: PrototypeBank) -> str:
    """Not its digest, which last digits of another processor change."""
    return f"{bank.kind}, {len(bank)} classes {digest(*bank.labels)[:12]}"


def calibration_text(classifier: Classifier, calibration: Calibration, measured: Mapping[str, float]) -> str:
    """A file for `deciding_for`."""
    values = {
        "schema": SCHEMA,
        "models": made_for(classifier),
        "calibration": {name: round(value, 6) for name, value in asdict(calibration).items()},
        "measured": dict(measured),
    }
    return yaml.safe_dump(values, sort_keys=False)


def packaged_calibrations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and content of each that comes with the package."""
    folder = resources.files("zsar_cli") / PACKAGED
    for file in sorted(folder.iterdir(), key=lambda one: one.name):
        with resources.as_file(file) as path:
            yield Path(file.name).stem, _read(path)


def _read(path: Path) -> dict[str, Any]:
    values = read_yaml(path, ConfigError)
    if not isinstance(values, dict) or values.get("schema") != SCHEMA or set(values) != KEYS:
        raise ConfigError(f"{path}: is no calibration of this version ({SCHEMA}); make one by 'zsar calibrate'")
    return values


def _calibration(values: Mapping[str, Any], source: str) -> Calibration:
    numbers = values["calibration"]
    if not isinstance(numbers, dict) or (lacking := {one.name for one in fields(Calibration)} - set(numbers)):
        lacks = f"; it lacks {', '.join(sorted(lacking))}" if isinstance(numbers, dict) else ""
        raise ConfigError(f"{source}: 'calibration' must map names to numbers{lacks}")
    try:
        return Calibration(**numbers)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _require(models: Any, wanted: list[dict[str, Any]], source: str) -> None:
    """Refuse a calibration of something else; names the first difference."""
    if models == wanted:
        return
    told = "other models"
    if isinstance(models, list) and [_name(one) for one in models] == [_name(one) for one in wanted]:
        told = next(
            f"{key} {one.get(key)} of {_name(one)}, now {now.get(key)}"
            for one, now in zip(models, wanted, strict=True)
            for key in {**now, **one}
            if one.get(key) != now.get(key)
        )
    advice = "make one for these by 'zsar calibrate', or give --calibration none"
    raise ConfigError(f"{source}: was made for {told}; {advice}")


def _name(model: Any) -> Any:
    return model.get("fingerprint") if isinstance(model, dict) else None
