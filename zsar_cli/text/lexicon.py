"""The action lexicon: a broad vocabulary of everyday actions, a background to compare labels with.

It takes no part in scores, but tells how far to trust them (see `transfer.decision`). The packaged lexicon is
zsar_cli/lexicon/*.yaml.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from zsar_cli.errors import LabelError
from zsar_cli.labels import Label
from zsar_cli.plain import read_yaml
from zsar_cli.text.encoder import TextEncoder, encode_text_groups

__all__ = ["SEMANTIC_FILE", "Entry", "Lexicon", "background_actions", "packaged_lexicon", "read_entries"]

SEMANTIC_FILE = "semantic.safetensors"
LISTS = ("also", "objects", "places", "clothing")
FIELDS = ("action", *LISTS, "motion")
BACKGROUND_STEP = 5  # of the entries every fifth tells as much as all do, and costs a fifth


@dataclass(frozen=True)
class Entry:
    """One action.

    Args:
        action: its name, as a label would have it.
        also: other names for the same. Name and other names are what the lexicon is searched by.
        objects, places, clothing: what a camera is likely to see with it.
        motion: what it would see move.
    """

    action: str
    also: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    clothing: tuple[str, ...] = ()
    motion: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, its own first."""
        return (self.action, *self.also)


@dataclass(frozen=True)
class Lexicon:
    """N entries as one text encoder sees them.

    Args:
        names: the entries' own names, different.
        semantic: float32 [N, E], unit rows: the normalised mean over each entry's names.
        text_encoder: fingerprint of the encoder that made `semantic`.
        digest: of all names.
    """

    names: tuple[str, ...]
    semantic: Tensor
    text_encoder: str
    digest: str

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def of(cls, entries: Sequence[Entry], encoder: TextEncoder) -> Lexicon:
        """Entries, embedded."""
        groups = [entry.names for entry in entries]
        semantic = encode_text_groups(encoder, groups)
        return cls(tuple(entry.action for entry in entries), semantic, encoder.fingerprint, _digest(groups))


def packaged_lexicon() -> Lexicon:
    """The entries of zsar_cli/lexicon/*.yaml, embedded beforehand: to embed them anew takes half a minute."""
    packaged = resources.files("zsar_cli") / "lexicon" / SEMANTIC_FILE
    with resources.as_file(packaged) as path, safe_open(path, framework="pt") as file:
        known = file.metadata()
        semantic = torch.nn.functional.normalize(file.get_tensor("semantic").float(), dim=1)
    return Lexicon(tuple(json.loads(known["names"])), semantic, known["text_encoder"], known["digest"])


@lru_cache(maxsize=1)
def background_actions() -> Lexicon:
    """Entries of the packaged lexicon, of all kinds: what videos are compared with beside the labels."""
    whole = packaged_lexicon()
    names = whole.names[::BACKGROUND_STEP]
    return Lexicon(names, whole.semantic[::BACKGROUND_STEP], whole.text_encoder, whole.digest)


def read_entries(path: str | os.PathLike[str]) -> tuple[Entry, ...]:
    """Entries of one YAML file, in order.

    Raises:
        LabelError: the file is missing or not such a list; the message names file, entry and what is allowed.
    """
    root = read_yaml(Path(path), LabelError, text=True)
    if not isinstance(root, list) or not root:
        raise LabelError(f"{path}: a lexicon is a list of entries such as '- {{action: juggling, also: [...]}}'")
    entries: list[Entry] = []
    first: dict[str, int] = {}
    for number, item in enumerate(root, start=1):
        try:
            entries.append(_entry(item))
            for name in entries[-1].names:
                if first.setdefault(name.casefold(), number) != number:
                    raise LabelError(f"'{name}' is a name of entry {first[name.casefold()]} too; keep one")
        except LabelError as error:
            action = item.get("action") if isinstance(item, Mapping) else None
            raise LabelError(f"{path}: entry {number}{f' ({action})' if action else ''}: {error}") from None
    return tuple(entries)


def _entry(item: Any) -> Entry:
    """Raises LabelError, without the file's and the entry's name."""
    if not isinstance(item, Mapping):
        raise LabelError(f"{item!r} is no mapping; allowed keys: {', '.join(FIELDS)}")
    if unknown := [key for key in item if key not in FIELDS]:
        raise LabelError(f"unknown key '{unknown[0]}'; allowed: {', '.join(FIELDS)}")
    if not isinstance(item.get("action"), str):
        raise LabelError("needs the key 'action', the name of the action as text")
    lists = {key: _texts(key, item.get(key, [])) for key in LISTS}
    motion = item.get("motion", "")
    if not isinstance(motion, str):
        raise LabelError("'motion' must be one text")
    names = dict.fromkeys(Label(name).text for name in (item["action"], *lists["also"]))
    action, *also = names
    return Entry(action, tuple(also), lists["objects"], lists["places"], lists["clothing"], " ".join(motion.split()))


def _texts(key: str, value: Any) -> tuple[str, ...]:
    """One text or a list of texts."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise LabelError(f"'{key}' must be a list of texts")
    return tuple(text for one in values if (text := " ".join(one.split())))


def _digest(groups: Sequence[Sequence[str]]) -> str:
    content = json.dumps([list(group) for group in groups], ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(content.encode()).hexdigest()[:16]
