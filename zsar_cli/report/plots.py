"""Pictures of an evaluation or a training, as PNG. Needs matplotlib (the extra "plots")."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_plots", "draw_confusion", "draw_curves", "draw_per_class"]

NAMED = 60  # more names than this on an axis cannot be read


def check_plots(folder: Path) -> None:
    """Refuse at once what could not be drawn after hours of work; makes the folder.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the folder cannot be made or written to.
    """
    _figure(1, 1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{folder}: no permission to write there")


def draw_confusion(table: NDArray[np.int64], names: Sequence[str], target: Path) -> None:
    """Confusion matrix [C, C], rows the true classes, each row scaled to sum to 1."""
    figure = _figure(0.22 * len(names) + 3, 0.22 * len(names) + 2.5)
    axes = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="viridis", vmin=0, vmax=1)
    axes.set_xlabel("came first")
    axes.set_ylabel("true class")
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
    figure.colorbar(image, ax=axes, label="share of the true class's videos")
    _save(figure, target)


def draw_per_class(shares: Mapping[str, float], target: Path) -> None:
    """Top-1 of each class as bars, best on top."""
    ordered = sorted(shares.items(), key=lambda pair: pair[1])
    figure = _figure(7, 0.2 * len(ordered) + 1.5)
    axes = figure.subplots()
    axes.barh([name for name, _ in ordered], [share for _, share in ordered])
    axes.axvline(float(np.mean(list(shares.values()))), color="black", linestyle="--", label="mean per class")
    axes.set_xlim(0, 1)
    axes.set_xlabel("top-1")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend(loc="lower right")
    _save(figure, target)


def draw_curves(curves: Mapping[str, Sequence[tuple[int, float]]], target: Path) -> None:
    """One small plot for each named curve of (step, value)."""
    figure = _figure(7, 2.0 * max(1, len(curves)))
    for axes, (name, points) in zip(
        figure.subplots(len(curves), 1, squeeze=False).ravel(), curves.items(), strict=True
    ):
        axes.plot([step for step, _ in points], [value for _, value in points])
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    _save(figure, target)


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("matplotlib", "plots", "drawing") from None
    # A Figure by itself, without pyplot, opens no window and leaves no global state.
    return Figure(figsize=(min(width, 40), min(height, 40)), layout="constrained")


def _save(figure: Any, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, dpi=120)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}") from None
