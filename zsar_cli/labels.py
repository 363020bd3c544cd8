"""The names a user looks for: read from a file or a list, made readable, kept unique. Pure values, no torch.

Every format becomes the same thing, an ordered `LabelSet` of `Label`; docs/formats.md describes the formats.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zsar_cli.errors import LabelError

__all__ = ["Label", "LabelSet", "meant", "readable", "some_of"]

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control codes reach the terminal, surrogates no file
_MEANT = 3  # names that may have been meant
_NAMED_REPEATS = 5  # a list of annotations repeats every label: name a few, count the others

# What a parser found: (where, label) for each mention, and notes on how the file was understood.
_Entry = tuple[str, "Label"]
_Parsed = tuple[list[_Entry], list[str]]


def readable(name: str) -> str:
    """Write a class name the way a sentence would: 'HorseRiding' and 'horse_riding' become 'horse riding'.

    Underscores become spaces. A name without any white space is taken for an identifier and split at its
    capitals; one with white space is taken as written. Capitalised words become lower case, other capitals
    stay ('BMXRiding' -> 'BMX riding', 'playing UNO'), and so do hyphens and digits ('push-up', 'shot put2').
    """
    spaced = unicodedata.normalize("NFC", name)
    if not re.search(r"\s", spaced.strip()):
        spaced = _split_capitals(spaced)
    words = " ".join(spaced.replace("_", " ").split())
    return re.sub(r"[^\W\d_]+", lambda word: word[0].lower() if word[0].istitle() else word[0], words)


def some_of(names: Sequence[str], most: int) -> str:
    """The first names of a list, for a message, and how many more it has: 'a, b and 3 more'."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def meant(name: str, known: Iterable[str], before: str = "") -> str:
    """For a message, which names may have been meant: '; did you mean a or b?', or nothing.

    Those that go on as the name does, or else have it as one of their parts, and the one that is spelled most alike.

    Args:
        before: what all the known ones begin with, where it was taken off.
    """
    known = list(known)
    longer = [one for one in known if name and one.startswith(name)]
    longer = longer or [one for one in known if name in re.split("[-_]", one)]
    found = list(dict.fromkeys([*longer[:_MEANT], *difflib.get_close_matches(name, known, n=1)]))
    return f"; did you mean {' or '.join(before + one for one in found)}?" if found else ""


def _split_capitals(word: str) -> str:
    """'TaiChi' -> 'Tai Chi', 'BMXRiding' -> 'BMX Riding', '3DPrinting' -> '3D Printing'."""
    pieces: list[str] = []
    for before, here, after in zip(" " + word, word, word[1:] + " ", strict=False):
        starts_word = before.islower() or ((before.isupper() or before.isdigit()) and after.islower())
        pieces.append(f" {here}" if here.isupper() and starts_word else here)
    return "".join(pieces)


@dataclass(frozen=True)
class Label:
    """One name to look for.

    Args:
        name: as the user wrote it (runs of white space made one space); this is what results show.
        text: the readable form that is encoded; made from `name` where it is not given.
        descriptions: sentences that say what the action looks like.
        prompts: templates in which `{}` stands for the text, or full sentences.

    Raises:
        LabelError: the name is empty, holds no letter or digit or an unprintable character, or a prompt has
            braces other than `{}`.
    """

    name: str
    text: str = ""
    descriptions: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", " ".join(self.name.split()))
        object.__setattr__(self, "text", " ".join(self.text.split()) or readable(self.name))
        for kind in ("descriptions", "prompts"):
            object.__setattr__(self, kind, _sentences(getattr(self, kind)))
        if not any(character.isalnum() for character in self.text):
            raise LabelError(f"{self.name!r} is not a label: a label needs a letter or a digit")
        for value in (self.name, self.text, *self.descriptions, *self.prompts):
            if bad := _UNSAFE.search(value):
                raise LabelError(f"{value!r} holds the unprintable character {bad[0]!r}; remove it")
        for prompt in self.prompts:
            if set("{}") & set(prompt.replace("{}", "")):
                raise LabelError(f"prompt {prompt!r}: {{}} stands for the label; no other braces are allowed")


def _sentences(values: Iterable[str]) -> tuple[str, ...]:
    """Tidy white space, leave out empty values and repeats, keep the order."""
    return tuple(dict.fromkeys(text for value in values if (text := " ".join(value.split()))))


@dataclass(frozen=True)
class LabelSet:
    """Ordered labels, no two of which read the same (case aside).

    Args:
        labels: at least one.
        notes: what the user should know of how the list was read; no part of equality or of the digest.

    Raises:
        LabelError: there is no label, or two read the same; `from_names` and `read` merge those instead.
    """

    labels: tuple[Label, ...]
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if not self.labels:
            raise LabelError("no labels; give at least one name")
        seen: dict[str, Label] = {}
        for label in self.labels:
            first = seen.setdefault(label.text.casefold(), label)
            if first is not label:
                raise LabelError(f"{first.name!r} and {label.name!r} read the same; keep one")

    def __len__(self) -> int:
        return len(self.labels)

    def __iter__(self) -> Iterator[Label]:
        return iter(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """The names as the user wrote them, in order."""
        return tuple(label.name for label in self.labels)

    @property
    def texts(self) -> tuple[str, ...]:
        """The readable forms, in the order of `names`."""
        return tuple(label.text for label in self.labels)

    @cached_property
    def digest(self) -> str:
        """'sha256:' and the first 16 hex digits over everything that a score or a result shows of the labels.

        Two sets with equal digests give every video the same scores. Order is left out, since it changes no
        score: so never key a matrix whose rows follow this set's order by the digest alone.
        """
        rows = sorted([label.name, label.text, label.descriptions, label.prompts] for label in self.labels)
        content = json.dumps(rows, ensure_ascii=False, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()[:16]

    @classmethod
    def of(cls, labels: LabelSet | str | os.PathLike[str] | Iterable[str | Label]) -> LabelSet:
        """A `LabelSet` as it is, a path to a label file, or a list of names.

        Raises:
            LabelError: as `read` and `from_names` do.
        """
        if isinstance(labels, LabelSet):
            return labels
        if isinstance(labels, str | os.PathLike):
            return cls.read(labels)
        return cls.from_names(labels)

    @classmethod
    def from_names(cls, names: Iterable[str | Label]) -> LabelSet:
        """Labels from a list; names that read the same are merged into the first, and a note says so.

        Raises:
            LabelError: the list is empty or holds something that is neither a name nor a `Label`.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise LabelError(f"expected a list of names such as ['archery'], not {names!r}")
        entries = []
        for number, name in enumerate(names, start=1):
            where = f"label {number}"
            if not isinstance(name, str | Label):
                raise LabelError(f"{where}: {name!r} is not text")
            entries.append((where, name) if isinstance(name, Label) else _entry(where, name))
        if not entries:
            raise LabelError("no labels; the list is empty, give at least one name")
        return _merge(entries, [])

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> LabelSet:
        """Labels from a .txt, .csv, .yaml, .yml or .json file (see docs/formats.md); a pipe is read as .txt.

        Raises:
            LabelError: the file is missing, a folder, empty, of another kind, not UTF-8, or a line is wrong.
        """
        file = Path(path)
        if not file.exists():
            raise LabelError(f"{path}: no such label file; give a path to a file ({', '.join(_PARSERS)})")
        if file.is_dir():
            raise LabelError(f"{path}: is a folder; give a label file ({', '.join(_PARSERS)})")
        kind = file.suffix.lower()
        if kind not in _PARSERS and not file.is_file():
            kind = ".txt"  # a pipe, such as the /dev/fd/63 that a shell makes of <(command)
        if kind not in _PARSERS:
            raise LabelError(f"{path}: unknown kind of label file {file.suffix!r}; allowed: {', '.join(_PARSERS)}")
        try:
            data = file.read_bytes()
        except OSError as error:
            raise LabelError(f"{path}: cannot be read: {error.strerror}") from error
        return cls._parse(data, str(path), kind)

    @classmethod
    def read_text(cls, data: bytes, source: str) -> LabelSet:
        """Labels from the content of a .txt file, wherever it came from; `source` names it in messages.

        Raises:
            LabelError: as `read` does.
        """
        return cls._parse(data, source, ".txt")

    @classmethod
    def _parse(cls, data: bytes, source: str, kind: str) -> LabelSet:
        try:
            entries, notes = _PARSERS[kind](_decode(data, source, kind))
        except LabelError as error:
            raise LabelError(f"{source}: {error}") from error.__cause__
        if not entries:
            raise LabelError(f"no labels in {source}; write one name per line or list item")
        merged = _merge(entries, notes)
        return replace(merged, notes=tuple(f"{source}: {note}" for note in merged.notes))

    def with_names(self, names: Iterable[str | Label]) -> LabelSet:
        """These labels and others behind them, merged as `from_names` does it, with the notes on both.

        Raises:
            LabelError: as `from_names` does.
        """
        merged = LabelSet.from_names([*self, *names])
        return replace(merged, notes=self.notes + merged.notes)


def _entry(where: str, name: str, descriptions: Iterable[str] = (), prompts: Iterable[str] = ()) -> _Entry:
    try:
        return where, Label(name, descriptions=tuple(descriptions), prompts=tuple(prompts))
    except LabelError as error:
        raise LabelError(f"{where}: {error}") from None


def _merge(entries: list[_Entry], notes: list[str]) -> LabelSet:
    """Keep the first of the labels that read the same, with the descriptions and prompts of all of them."""
    groups: dict[str, list[_Entry]] = {}
    repeats: list[str] = []
    for where, label in entries:
        group = groups.setdefault(label.text.casefold(), [])
        group.append((where, label))
        first_where, first = group[0]
        if len(group) > 1:
            of = "repeats" if first.name == label.name else f"reads as {first.name!r} of"
            repeats.append(f"{label.name!r} ({where}, {of} {first_where})")
    if repeats:
        notes = [*notes, f"{len(repeats)} repeated label(s) merged: {some_of(repeats, _NAMED_REPEATS)}"]
    return LabelSet(tuple(_joined([label for _, label in group]) for group in groups.values()), tuple(notes))


def _joined(labels: list[Label]) -> Label:
    """The first of labels that read the same, with the descriptions and prompts of all."""
    first, *others = labels
    if not others:
        return first
    descriptions = tuple(text for label in labels for text in label.descriptions)
    return replace(first, descriptions=descriptions, prompts=tuple(text for label in labels for text in label.prompts))


def _decode(data: bytes, source: str, kind: str) -> str:
    """The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one."""
    encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        # utf-8-sig counts from behind the mark.
        position = error.start + (len(data) - len(error.object))
        line = len(re.split(rb"\r\n|\r|\n", data[:position]))
        wanted = "UTF-16" if encoding == "utf-16" else "UTF-8"
        raise LabelError(
            f"line {line}: byte {position} (0x{data[position]:02x}) is not {wanted}; save the file as UTF-8, "
            f"for example: iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(source)} > utf8{kind}"
        ) from None
    if "\0" in text:
        raise LabelError("this is not a text file; a label file holds names, one per line or list item")
    return re.sub(r"\r\n?", "\n", text)


def _unnumbered(pairs: list[tuple[str, str]]) -> list[str] | None:
    """The names of (index, name) pairs if the indices run 0, 1, .. or 1, 2, ..; otherwise None."""
    indices, names = [index for index, _ in pairs], [name for _, name in pairs]
    runs = ([str(start + offset) for offset in range(len(pairs))] for start in (0, 1))
    # '1 arm push-up', '2 arm push-up' are names: without their numbers they would be the same.
    return names if len(set(names)) == len(pairs) > 1 and indices in runs else None


_NUMBERED = "the numbers beside the labels are taken as indices and left out"


def _parse_txt(text: str) -> _Parsed:
    """One label per line, `name` or `name: description`; `#` starts a comment."""
    wheres, lines = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        # A '#' inside a line must stand alone, so that 'C# lesson' and 'team #1' stay whole.
        if content := re.sub(r"(^\s*#|\s#(\s|$)).*", "", line).strip():
            wheres.append(f"line {number}")
            lines.append(content)
    pairs = [(words[0], words[-1]) for line in lines if len(words := line.split(maxsplit=1)) == 2]
    names = _unnumbered(pairs) if len(pairs) == len(lines) else None
    entries = []
    for where, line in zip(wheres, names or lines, strict=True):
        name, _, description = re.sub(r":(\s+|$)", "\n", line, count=1).partition("\n")
        entries.append(_entry(where, name, [description]))
    return entries, [_NUMBERED] if names else []


def _parse_csv(text: str) -> _Parsed:
    """Columns `label` or `name`, and perhaps `description` and `prompt`; without a header a single column."""
    delimiter, header = _csv_header(next((line for line in text.split("\n") if line.strip()), ""))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise LabelError(f"line {reader.line_num}: not valid CSV: {error}") from error
    entries = []
    for line, row in rows[1:] if header else rows:
        if header and len(row) > len(header):
            hint = f"quote cells that contain {delimiter!r}"
            raise LabelError(f"line {line}: {len(row)} cells under {len(header)} columns; {hint}")
        if not header and (len(row) > 1 or re.search(r"[;\t]", row[0])):
            raise LabelError(f"line {line}: several columns and no header; add one with a column named label")
        cells = dict(zip(header or ["name"], row, strict=False))
        lists = [cells.get(key, "").split("|") for key in ("descriptions", "prompts")]
        entries.append(_entry(f"line {line}", cells.get("name", ""), *lists))
    unused = [cell for cell, key in zip(rows[0][1], header, strict=False) if not key] if header else []
    return entries, [f"columns not used: {', '.join(map(repr, unused))}"] if unused else []


def _csv_header(line: str) -> tuple[str, list[str]]:
    """The delimiter and, per column, the field it holds ('' for others); none without a header."""
    for delimiter in (",", ";", "\t"):
        cells = next(csv.reader([line], delimiter=delimiter), [])
        header = [_KEYS.get(cell.strip().lower(), "") for cell in cells]
        if "name" not in header:
            continue
        for key in ("name", "descriptions", "prompts"):
            if header.count(key) > 1:
                spellings = " or ".join(spelling for spelling in _KEYS if _KEYS[spelling] == key)
                raise LabelError(f"line 1: more than one column {spellings}; keep one of {cells}")
        return delimiter, header
    return ",", []


# The spellings of a field in a .csv header and in a .yaml or .json mapping.
_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "name": "name",
        "label": "name",
        "description": "descriptions",
        "descriptions": "descriptions",
        "prompt": "prompts",
        "prompts": "prompts",
    }
)


class _Pairs(list[tuple[str, Any]]):
    """A mapping as written: order and repeated keys kept. Beside it a tree holds only str, None and list."""


def _parse_yaml(text: str) -> _Parsed:
    """A list or mapping of labels. Composed only: `yes` and `1.0` stay text, and nothing is executed."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)  # CBaseLoader crashes on deep nesting
    except yaml.YAMLError as error:
        raise LabelError(f"not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise LabelError(_TOO_DEEP) from error
    if root is None:
        return [], []
    items = [root] if isinstance(root.value, str) else root.value
    marks = [(item[0] if isinstance(item, tuple) else item).start_mark for item in items]
    return _parse_tree(_yaml_tree(root), [f"line {mark.line + 1}" for mark in marks])


_TOO_DEEP = "nested too deeply; expected a list or a mapping of labels"


def _yaml_tree(node: Any, depth: int = 0) -> Any:
    """The tree of a YAML node. The bound on depth also stops aliases that point at themselves."""
    if depth > 3:
        raise LabelError(_TOO_DEEP)
    if node.id == "scalar":
        is_null = node.style is None and node.value in ("", "~", "null")
        return None if is_null else node.value
    if node.id == "mapping":
        for key, _ in node.value:
            if key.id != "scalar":
                raise LabelError(f"line {key.start_mark.line + 1}: a key must be text, not a {key.id}")
        return _Pairs((key.value, _yaml_tree(value, depth + 1)) for key, value in node.value)
    return [_yaml_tree(item, depth + 1) for item in node.value]


def _parse_json(text: str) -> _Parsed:
    """As `_parse_yaml`, for JSON."""
    try:
        tree = json.loads(text, object_pairs_hook=_Pairs, parse_int=str, parse_float=str, parse_constant=str)
    except json.JSONDecodeError as error:
        if not text.strip():
            return [], []
        raise LabelError(f"line {error.lineno}: not valid JSON: {error.msg}") from error
    except RecursionError as error:
        raise LabelError(_TOO_DEEP) from error
    count = len(tree) if isinstance(tree, list) else 1
    return _parse_tree(tree, [f"item {number}" for number in range(1, count + 1)])


def _parse_tree(tree: Any, wheres: list[str]) -> _Parsed:
    """Labels of a list of names or mappings, or of a mapping from names to descriptions or mappings."""
    if not isinstance(tree, list):
        raise LabelError(f"expected a list or a mapping of labels, not {tree!r}")
    if not isinstance(tree, _Pairs):
        return [_item(where, item) for where, item in zip(wheres, tree, strict=True)], []
    if len(tree) == 1 and tree[0][0].lower() in ("labels", "names", "classes", "categories"):
        raise LabelError(f"{tree[0][0]!r} reads like a heading; put the list or mapping itself at the top level")
    if all(isinstance(value, str) for _, value in tree):
        names = _unnumbered(tree) or _unnumbered([(value, key) for key, value in tree])
        if names:
            return [_entry(where, name) for where, name in zip(wheres, names, strict=True)], [_NUMBERED]
    entries = []
    for where, (name, value) in zip(wheres, tree, strict=True):
        fields = value if isinstance(value, _Pairs) else [("descriptions", value)]
        entries.append(_item(where, _Pairs([("name", name), *fields])))
    return entries, []


def _item(where: str, item: Any) -> _Entry:
    """One label of a tree: a name, or a mapping with a name."""
    if not isinstance(item, _Pairs):
        item = _Pairs([("name", item)])
    fields: dict[str, list[str]] = {}
    for spelling, value in item:
        key = _KEYS.get(spelling)
        if key is None:
            raise LabelError(f"{where}: unknown key {spelling!r}; allowed: {', '.join(_KEYS)}")
        if key in fields:
            raise LabelError(f"{where}: {spelling!r} is given twice; a list holds several values")
        fields[key] = [_scalar(where, spelling, v) for v in (value if type(value) is list else [value])]
    if len(fields.get("name", [])) != 1:
        raise LabelError(f"{where}: a label needs one name; write `name: ...`")
    return _entry(where, fields["name"][0], fields.get("descriptions", ()), fields.get("prompts", ()))


def _scalar(where: str, key: str, value: Any) -> str:
    """Text as written; JSON's true and null come as Python values."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    if isinstance(value, str):
        return value
    raise LabelError(f"{where}: {key!r} must be text or a list of texts, not {value!r}")


_PARSERS: Mapping[str, Callable[[str], _Parsed]] = MappingProxyType(
    {".txt": _parse_txt, ".csv": _parse_csv, ".yaml": _parse_yaml, ".yml": _parse_yaml, ".json": _parse_json}
)
