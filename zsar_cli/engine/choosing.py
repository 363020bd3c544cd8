"""`--model auto`: the best model that is on this machine. And which would be the best to have.

What is best goes by the figure that the catalogue has of a model (`Entry.figure`), highest first. The figures are of
different sets of actions; models without one are never chosen by themselves.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zsar_cli.engine.machine import Machine, this_machine
from zsar_cli.errors import UsageError
from zsar_cli.weights.added import ModelFolder, models_folder
from zsar_cli.weights.catalogue import ENTRIES, Entry

__all__ = ["AUTO", "Choice", "choose_model", "cost_of", "extra_of", "fits", "is_auto", "recommend"]

AUTO = "auto"
BUILTIN = "builtin"
RELATED = (BUILTIN, "litert", "supervised")  # kinds of models that relate the names of their classes to labels
PACKAGES = {"openclip": "open_clip", "litert": "ai_edge_litert"}  # what a kind of model needs beside zsar
PATIENCE = 2.0  # seconds by the clock for a window on the processors of a machine, beyond which a model is too slow
SHARE = 4  # of the memory: weights take at most one part in so many


@dataclass(frozen=True)
class Choice:
    """Which model was chosen, and why.

    Args:
        name: as `--model` takes it.
        said: one line for the user.
        notes: better ones that are here and cannot be used.
    """

    name: str
    said: str
    notes: tuple[str, ...] = ()


def is_auto(names: Sequence[str] | None) -> bool:
    """Whether zsar is to choose.

    Raises:
        UsageError: it is to choose one of several.
    """
    if names and AUTO in names and len(names) > 1:
        raise UsageError(f"--model {AUTO} chooses one model; give it alone, or name all of them")
    return not names or list(names) == [AUTO]


def choose_model(
    prototypes: str | os.PathLike[str] | None = None, models_dir: str | None = None, related: bool = False
) -> Choice:
    """The model with the best figure among those that are on this machine and can run.

    Args:
        prototypes: a prototype file, the model of which goes before all others.
        models_dir: as `ClassifierSpec.models_dir`.
        related: among those alone that relate names, as `ClassifierSpec.text_encoder` needs.

    Raises:
        ModelError: a model that was added is damaged.
    """
    ranked = [entry for entry in _ranked() if not related or entry.kind in RELATED]
    here = [entry for entry in ranked if _is_here(entry, models_dir)]
    notes = tuple(
        f"{entry.name} is on this machine but needs the extra {extra_of(entry)}" for entry in here if not _runs(entry)
    )
    usable = [entry for entry in here if _runs(entry)]
    if prototypes is not None and (made_by := _maker(Path(prototypes))):
        usable.sort(key=lambda entry: not _made(entry, made_by))
    best = usable[0]
    if best.name != BUILTIN or len(usable) > 1 or related:
        assert best.figure is not None
        return Choice(best.name, f"model: {best.name}, {_told(best)}", notes)
    better = recommend(this_machine(gpu=False))
    said = f"model: {BUILTIN}, the only one here"
    if better.name != BUILTIN:
        said += f"; better: zsar models pull {better.name} ({cost_of(better)}; {_told(better)})"
    return Choice(BUILTIN, said, notes)


def recommend(machine: Machine, licence: str | None = None) -> Entry:
    """The best model that a machine can run at a bearable speed.

    Args:
        licence: a text that its licence must hold, such as "Apache"; None takes any.

    Raises:
        UsageError: no model has such a licence.
    """
    for entry in _ranked():
        allowed = licence is None or licence.lower() in (entry.licence or "").lower()
        if allowed and (entry.name == BUILTIN or fits(entry, machine)):
            return entry
    raise UsageError(f"--licence {licence}: no model that fits this machine has a licence with that in its name")


def fits(entry: Entry, machine: Machine) -> bool:
    """Whether a machine has the memory for a model, and processors that need not be waited for, or a GPU."""
    gigabytes = (entry.megabytes or 0) / 1000
    if machine.memory is not None and gigabytes * SHARE > machine.memory:
        return False
    if machine.gpu is not None and gigabytes * SHARE <= machine.gpu:
        return True
    return entry.seconds is not None and entry.seconds / machine.cores <= PATIENCE


def cost_of(entry: Entry) -> str:
    """What a model takes before it runs: a download, under a licence, perhaps a package."""
    needs = "" if _runs(entry) else f", needs {extra_of(entry)}"
    return f"{entry.download}, {entry.licence or 'licence unknown'}{needs}"


def extra_of(entry: Entry) -> str | None:
    """What a model needs beside zsar, as pip takes it; None for nothing."""
    return f"zsar[{entry.kind}]" if entry.kind in PACKAGES else None


def _ranked() -> list[Entry]:
    """All that have a figure, the best first."""
    known = [entry for entry in ENTRIES.values() if entry.figure is not None]
    return sorted(known, key=lambda entry: -entry.figure.percent if entry.figure else 0)


def _told(entry: Entry) -> str:
    assert entry.figure is not None
    return f"{entry.figure.percent:g}% on {entry.figure.task}"


def _is_here(entry: Entry, models_dir: str | None) -> bool:
    if entry.kind == BUILTIN:
        return True
    folder = Path(models_dir) if models_dir is not None else models_folder()
    if entry.kind == "litert":
        return ModelFolder(folder).find(entry.name) is not None
    if not _hub_folder(entry.source).is_dir():  # the package that knows takes a while to import
        return False
    from zsar_cli.weights.hub import find_snapshot

    return find_snapshot(entry.source, entry.revision) is not None


def _hub_folder(repo: str) -> Path:
    """Where the Hugging Face cache has a repository."""
    given = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    cache = Path(os.path.expandvars(given or Path(home) / "hub")).expanduser()
    return cache / f"models--{repo.replace('/', '--')}"


def _runs(entry: Entry) -> bool:
    package = PACKAGES.get(entry.kind)
    return package is None or importlib.util.find_spec(package) is not None


def _maker(prototypes: Path) -> str | None:
    """Fingerprint of the model that made a prototype file; None for what is none, which is refused elsewhere."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(prototypes, framework="np") as file:
            return (file.metadata() or {}).get("model")
    except (SafetensorError, OSError):
        return None


def _made(entry: Entry, fingerprint: str) -> bool:
    """Whether a fingerprint is of a model, as far as can be told without loading it."""
    begins = {"litert": f"litert1-{(entry.sha256 or '')[:12]}"}
    return fingerprint.startswith(begins.get(entry.kind, f"{entry.kind}-"))
