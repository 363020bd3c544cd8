"""Labelled videos: a folder per class, or a table of paths and labels. Pure file work, nothing is decoded."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zsar_cli.data.inputs import find_inputs
from zsar_cli.data.tables import TABLES, read_rows
from zsar_cli.errors import InputError, LabelError, UsageError
from zsar_cli.labels import Label, LabelSet, readable, some_of
from zsar_cli.video.types import Excerpt, Window

__all__ = ["Dataset", "Item", "read_dataset", "read_split", "split_lines"]


@dataclass(frozen=True)
class Item:
    """One labelled video, or the part of it from `start` to `end` seconds.

    `key` is its path below the data set, as official split files write it.
    """

    path: str
    label: str
    key: str
    start: float | None = None
    end: float | None = None

    @property
    def source(self) -> str | Excerpt:
        """What is to be read."""
        if self.start is None or self.end is None:
            return self.path
        return Excerpt(self.path, Window(self.start, self.end))

    @property
    def name(self) -> str:
        """`key`, for a part with its times: "film.mp4@12.5-15"."""
        return self.key if self.start is None else f"{self.key}@{self.start:.12g}-{self.end:.12g}"


@dataclass(frozen=True)
class Dataset:
    """Items of at least one class; `classes` holds every label, in order of first mention."""

    items: tuple[Item, ...]
    classes: LabelSet

    def only(self, names: LabelSet) -> Dataset:
        """The items of the named classes (names that read the same are the same class).

        Raises:
            UsageError: a name is no class of this data set; all of them are listed.
        """
        known = {label.text.casefold(): label.name for label in self.classes}
        absent = [label.name for label in names if label.text.casefold() not in known]
        if absent:
            raise UsageError(
                f"the data set has no class {', '.join(map(repr, absent))}; it has {', '.join(self.classes.names)}"
            )
        kept = {known[label.text.casefold()] for label in names}
        items = tuple(item for item in self.items if item.label in kept)
        return Dataset(items, LabelSet.from_names([label for label in self.classes if label.name in kept]))

    def among(self, names: LabelSet) -> Dataset:
        """The same items, with more classes: names that no item need have."""
        return replace(self, classes=self.classes.with_names(list(names)))

    def listed(self, keys: frozenset[str]) -> Dataset:
        """The items a split file lists. Raises UsageError if it lists none of them."""
        items = tuple(item for item in self.items if item.key in keys or Path(item.key).name in keys)
        if not items:
            listed = some_of(sorted(keys), 3)
            raise UsageError(f"none of the {len(self.items)} videos is in the split file; it lists {listed}")
        names = dict.fromkeys(item.label for item in items)
        return replace(self, items=items, classes=LabelSet.from_names([c for c in self.classes if c.name in names]))

    def counts(self) -> Counter[str]:
        """Number of videos by label."""
        return Counter(item.label for item in self.items)


def read_dataset(source: Path, names: Path | None = None) -> Dataset:
    """Read a data set.

    Args:
        source: a folder that holds one folder of videos per class; or a table (see `tables.read_rows`) with the
            columns `path` (relative to the table) and `label`, and perhaps `start` and `end` in seconds,
            where only a part of a video shows it.
        names: .csv with the columns `folder` and `label`, natural names for the folders, and perhaps `descriptions`:
            sentences about each, separated by "|".

    Raises:
        UsageError: it is not there, has no classes, a class has no videos, or a name is missing.
    """
    if source.is_dir():
        found = list(_from_folders(source))
    elif source.suffix.lower() in TABLES and source.is_file():
        found = list(_from_table(source))
    else:
        raise UsageError(
            f"{source}: no such data set; give a folder with one folder per class, or a table ({', '.join(TABLES)})"
        )
    natural = _read_names(names) if names is not None else {}
    if natural:
        absent = sorted({item.label for item in found} - set(natural))
        if absent:
            raise UsageError(f"{names}: has no row for {', '.join(map(repr, absent))}")
        found = [replace(item, label=natural[item.label].name) for item in found]
    described = {label.name: label for label in natural.values()}
    classes = LabelSet.from_names([described.get(name, name) for name in dict.fromkeys(item.label for item in found)])
    # Labels that read the same are one class: the first spelling stands for all.
    spelling = {label.text.casefold(): label.name for label in classes}
    items = tuple(replace(item, label=spelling[readable(item.label).casefold()]) for item in found)
    return Dataset(items, classes)


def read_split(source: Path, number: int = 1) -> frozenset[str]:
    """The videos an official split file lists for testing, as `Item.key` or bare file names.

    - UCF101: a line per video, "Class/video.avi", perhaps with a class number behind it;
    - HMDB51: a folder of files "<class>_test_split<number>.txt", lines "video.avi 2" (1 trains, 2 tests, 0 neither).

    Raises:
        UsageError: it is not there or lists nothing.
    """
    files = sorted(source.glob(f"*_test_split{number}.txt")) if source.is_dir() else [source]
    listed = (pair for file in files for pair in split_lines(file))
    keys = frozenset(name for name, side in listed if not source.is_dir() or side == "2")
    if not keys:
        raise UsageError(f"{source}: lists no videos for testing (split {number})")
    return keys


def split_lines(file: Path) -> Iterator[tuple[str, str | None]]:
    """The videos of a split file as it writes them, each with the number behind it, if there is one.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read as a split file: {error}") from None
    for line in filter(None, map(str.strip, lines)):
        match = re.fullmatch(r"(.+?)(?:\s+(\d+))?", line)
        assert match is not None  # any line that is not empty matches
        yield match[1], match[2]


def _from_folders(source: Path) -> Iterator[Item]:
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise UsageError(f"{source}: holds no folders; a data set is a folder with one folder of videos per class")
    for folder in folders:
        for found in find_inputs([str(folder)]):
            if isinstance(found, InputError):
                raise UsageError(f"the class '{folder.name}' cannot be read: {found}")
            yield Item(found, folder.name, Path(found).relative_to(source).as_posix())


def _from_table(source: Path) -> Iterator[Item]:
    for row in read_rows(source):
        if not row.label:
            raise UsageError(f"{row.place}: its label is empty")
        yield Item(str(row.folder / row.path), row.label, row.path, *(row.span or ()))


def _read_names(file: Path) -> dict[str, Label]:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            if not {"folder", "label"} <= set(reader.fieldnames or ()):
                raise UsageError(
                    f"{file}: needs the columns folder and label, has {', '.join(reader.fieldnames or ())}"
                )
            return {row["folder"]: _label(row["label"], row.get("descriptions")) for row in reader}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{file}: cannot be read as a table of names: {error}") from None


def _label(name: str, descriptions: str | None) -> Label:
    return Label(name, descriptions=tuple(filter(None, map(str.strip, (descriptions or "").split("|")))))


