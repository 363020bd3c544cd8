"""The data sets of the field as lists: their classes by natural names, and on which side of a split each stands.

The lists lie in `lists/`, a .csv each, whose first lines say where it is from. docs/protocols.md describes them.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet

__all__ = ["HALF", "LISTS", "ClassList", "Halves", "KnownClass", "class_list", "letters"]

LISTS = ("ucf101", "hmdb51", "activitynet", "kinetics400", "kinetics600", "kinetics700")
HALF = "half:"  # and the seed
FOLDER = Path(__file__).with_name("lists")

# Indices of the classes in the half of a seed, of so many classes.
Halves = Callable[[int, int], list[int]]


@dataclass(frozen=True)
class KnownClass:
    """One class: the folder that the data set has for it, its natural name, and its part of each split by classes."""

    folder: str
    label: str
    parts: Mapping[str, str]


@dataclass(frozen=True)
class ClassList:
    """The classes of a data set, in the order of their folders; `about` says where the list is from, line by line."""

    name: str
    about: tuple[str, ...]
    classes: tuple[KnownClass, ...]
    splits: tuple[str, ...]

    @property
    def labels(self) -> LabelSet:
        """All natural names."""
        return LabelSet.from_names([one.label for one in self.classes])

    @cached_property
    def _by_key(self) -> Mapping[str, KnownClass]:
        return {letters(name): one for one in self.classes for name in (one.folder, one.label)}

    def label_of(self, folder: str, place: str) -> str:
        """The natural name of a class as a folder or an official file writes it; only its letters and digits count.

        Args:
            folder: "ApplyEyeMakeup", "apply_eye_makeup" or "apply eye makeup".
            place: where it stands, for the message.

        Raises:
            UsageError: the data set has no such class.
        """
        found = self._by_key.get(letters(folder))
        if found is None:
            near = difflib.get_close_matches(letters(folder), self._by_key, n=1)
            hint = f"; did you mean '{self._by_key[near[0]].folder}'?" if near else ""
            raise UsageError(f"{place}: '{folder}' is no class of {self.name}{hint}")
        return found.label

    def side(self, split: str, part: str, half: Halves) -> tuple[str, ...]:
        """The natural names on one side of a split by classes, in order.

        Args:
            split: one of `splits`, or "half:SEED" of the "50/50" protocol, of which the half is the part test.
            part: train, val or test.
            half: draws that half.

        Raises:
            UsageError: there is no such split, or nothing on that side of it.
        """
        if split.startswith(HALF):
            seed = split.removeprefix(HALF)
            if not seed.isascii() or not seed.isdigit() or int(seed) >= 2**32:
                raise UsageError(f"--split {split}: the seed of a half is a number from 0 on, such as {HALF}0")
            drawn = set(half(len(self.classes), int(seed)))
            parts = ["test" if index in drawn else "train" for index in range(len(self.classes))]
        elif split in self.splits:
            parts = [one.parts[split] for one in self.classes]
        else:
            allowed = ", ".join([*self.splits, f"{HALF}SEED"])
            raise UsageError(f"--split {split}: {self.name} has no such split of its classes; allowed: {allowed}")
        if part not in parts:
            there = ", ".join(sorted({one for one in parts if one}))
            raise UsageError(f"--part {part}: the split {split} of {self.name} has the parts {there}")
        return tuple(one.label for one, given in zip(self.classes, parts, strict=True) if given == part)


@cache
def class_list(name: str) -> ClassList:
    """One of the lists that this package has.

    Raises:
        UsageError: it has none of that name.
    """
    if name not in LISTS:
        raise UsageError(f"'{name}': no list of classes; allowed: {', '.join(LISTS)}")
    lines = (FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    about = tuple(line.removeprefix("# ") for line in lines if line.startswith("#"))
    reader = csv.DictReader(lines[len(about) :])
    splits = tuple(reader.fieldnames or ())[2:]
    classes = tuple(KnownClass(row["folder"], row["label"], {split: row[split] for split in splits}) for row in reader)
    return ClassList(name, about, classes, splits)


def letters(name: str) -> str:
    """Letters and digits alone: "passing_American_football_-in_game-" is "passing American football (in game)"."""
    return "".join(filter(str.isalnum, name)).casefold()
