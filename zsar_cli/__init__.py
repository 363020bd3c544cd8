"""zsar: zero-shot video classification on your own machine.

    from zsar_cli import load
    load().classify("video.mp4", ["archery", "riding a bike"])

The public names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zsar_cli._version import __version__

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import ZeroShotClassifier
    from zsar_cli.engine.ensemble import Ensemble
    from zsar_cli.engine.loading import ClassifierSpec, load
    from zsar_cli.labels import LabelSet
    from zsar_cli.transfer.bank import PrototypeBank

__all__ = ["ClassifierSpec", "Ensemble", "LabelSet", "PrototypeBank", "ZeroShotClassifier", "__version__", "load"]

_HOMES = {
    "LabelSet": "zsar_cli.labels",
    "PrototypeBank": "zsar_cli.transfer.bank",
    "ClassifierSpec": "zsar_cli.engine.loading",
    "ZeroShotClassifier": "zsar_cli.engine.classifier",
    "Ensemble": "zsar_cli.engine.ensemble",
    "load": "zsar_cli.engine.loading",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
