"""What `zsar models list` and `zsar models info` tell of a model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsar_cli.errors import ModelError

if TYPE_CHECKING:
    from zsar_cli.weights.added import ModelFolder
    from zsar_cli.weights.catalogue import Entry
    from zsar_cli.weights.text_entries import TextEntry

__all__ = [
    "accuracy_of",
    "added_facts",
    "added_models",
    "bundle_facts",
    "facts_of",
    "lines_of",
    "place_of",
    "text_facts",
]

OF_ONE_FILE = ("sha256", "classes", "url", "classes_url")  # of weights that are one
UNITS = {"frames": "{} a window", "size": "{0} x {0} pixels", "seconds": "{} of one processor for a window"}


def facts_of(entry: Entry) -> dict[str, Any]:
    """All that is known of a model with a short name, as plain values."""
    from zsar_cli.engine.choosing import extra_of
    from zsar_cli.weights.catalogue import FROM_HUB

    place = place_of(entry.name)
    facts = {
        **asdict(entry), "accuracy": accuracy_of(entry), "needs": extra_of(entry), "here": place is not None,
        "folder": place,
    }  # fmt: skip
    if entry.kind not in FROM_HUB:
        del facts["revision"]
    if entry.kind == "rest":  # its files say it themselves
        for name in OF_ONE_FILE:
            del facts[name]
    return facts


def text_facts(entry: TextEntry) -> dict[str, Any]:
    """Of a sentence encoder."""
    place = place_of(entry.name)
    known = {"languages": " ".join(entry.languages), "accuracy": "unknown", "here": place is not None, "folder": place}
    return {"name": entry.name, "kind": "text", **asdict(entry), **known}


def bundle_facts(folder: Path | None) -> dict[str, Any]:
    """What a bundle says of itself; nothing for what is no bundle."""
    from zsar_cli.weights.bundle import check_bundle, find_bundle

    bundle = find_bundle(folder) if folder is not None else None
    if bundle is None:
        return {}
    manifest = check_bundle(bundle)
    own = {name: manifest[name] for name in ("fingerprint", "text_encoder")}
    return own | {name: manifest["provenance"].get(name) for name in ("data", "command", "versions")}


def added_facts(name: str) -> dict[str, Any]:
    """Of a model that a user added."""
    return {"name": name, "kind": "litert", "here": True, "folder": place_of(name)}


def lines_of(facts: dict[str, Any]) -> list[str]:
    """Facts for people."""
    lines = []
    for key, value in facts.items():
        if value is None and key in (*OF_ONE_FILE, "measured", "needs"):
            continue
        texts = [f"no; zsar models pull {facts['name']}"] if key == "here" and not value else _texts(key, value)
        lines += [f"{key:14} {text}" for text in texts]
    return lines


def _texts(key: str, value: Any) -> list[str]:
    if value is None:
        return ["main (not pinned)" if key == "revision" else "-" if key == "folder" else "unknown"]
    if key in ("reported", "measured"):
        figures = [value] if key == "measured" else value
        return [f"{one['percent']} %  {one['task']}; source: {one['source']}" for one in figures]
    if key in UNITS:
        return [UNITS[key].format(value)]
    if isinstance(value, dict):
        return [f"{name}: {part}" for name, part in value.items()]
    return [("yes" if value else "no") if isinstance(value, bool) else str(value)]


def accuracy_of(entry: Entry) -> str:
    """Who measured a model, if anybody did."""
    if entry.measured_here:
        return "measured here"
    return "reported by others" if entry.reported else "unknown"


def added_models() -> ModelFolder:
    """The models that the user added."""
    from zsar_cli.weights.added import ModelFolder, models_folder

    return ModelFolder(models_folder())


def place_of(name: str) -> str | None:
    """Where a registered or added model is on this machine; None also for one that is damaged."""
    from zsar_cli.weights.catalogue import locate, locate_text
    from zsar_cli.weights.text_entries import TEXT_ENTRIES

    try:
        if added := added_models().find(name):
            return str(added.file.parent)
        path = locate_text(name) if name in TEXT_ENTRIES else locate(name).path
        return str(path or "installed packages")
    except ModelError:
        return None
