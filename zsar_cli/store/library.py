"""A library: a folder of window embeddings of many videos, which grows by what is new.

`library.yaml` says what the embeddings are of; the folder `shards` holds them (see `shards.py`). Nothing in a shard is
ever changed: a video is what the latest entry about its content says, and a path leads to what the latest entry about
that path says. So any number of processes may add at once.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsar_cli.errors import OutputError, UsageError, ZsarError
from zsar_cli.store.ahead import one_ahead
from zsar_cli.store.arrow import Half, places, plain_numbers, to_numpy
from zsar_cli.store.entries import Entries, Videos, fold
from zsar_cli.store.library_spec import SETTINGS, LibrarySpec, is_library
from zsar_cli.store.shards import (
    Entry,
    Shard,
    list_shards,
    lost,
    recover,
    remove_shards,
    write_shard,
)

__all__ = ["Block", "Library"]

LARGE = 64_000_000  # bytes of embeddings from which on a shard is left as it is
SMALL = 16  # smaller shards from which on they become one
PATIENCE = 600.0  # seconds to wait for another process that puts shards in order
_TEXTS = ("facts", "error", "precision")  # of videos, long columns
_ATTEMPTS = 10  # at a list of shards that changes while it is read


@dataclass(frozen=True)
class Block:
    """Windows of some videos.

    Args:
        videos: numbers in `Videos`, int64 [v].
        counts: N of each of them, int64 [v].
        spans: float64 [n, 2], seconds, of all their windows.
        vectors: float16 [n, D] for each model that was asked for.
    """

    videos: NDArray[np.int64]
    counts: NDArray[np.int64]
    spans: NDArray[np.float64]
    vectors: tuple[Half, ...]


class Library:
    """A library that is there, as it was when it was first read.

    Args:
        folder: of the library.

    Raises:
        UsageError: it is no library, or of a later format.
    """

    def __init__(self, folder: Path) -> None:
        if not is_library(folder):
            raise UsageError(
                f"{folder} is no library (it has no {SETTINGS}); 'zsar library add {folder} PATH' makes one"
            )
        self.folder, self.shards = folder, folder / "shards"
        self.spec = LibrarySpec.read(folder / SETTINGS)

    @classmethod
    def make(cls, folder: Path, spec: LibrarySpec) -> Library:
        """A new one, or the one that is there.

        Raises:
            UsageError: there is one of another spec, or a folder or file that is no library.
            OutputError: it cannot be made.
        """
        if not is_library(folder):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise UsageError(f"{folder} is there and no library; name a new or an empty folder")
            try:
                (folder / "shards").mkdir(parents=True, exist_ok=True)
                part = folder / f"{SETTINGS}.{os.getpid()}.part"
                part.write_text(spec.to_yaml(), encoding="utf-8")
                os.replace(part, folder / SETTINGS)
            except OSError as error:
                raise OutputError(f"{folder}: a library cannot be made: {error.strerror or error}") from None
        library = cls(folder)
        library.spec.require(spec, folder)
        return library

    def filled(self) -> Library:
        """Itself. Raises UsageError where nothing is in it."""
        if not len(self.videos):
            raise UsageError(f"{self.folder} is empty; 'zsar library add {self.folder} PATH' fills it")
        return self

    @cached_property
    def videos(self) -> Videos:
        """What is in it."""
        return self._all.videos()

    @cached_property
    def _all(self) -> Entries:
        for _ in range(_ATTEMPTS):
            try:
                return fold(list_shards(self.shards))
            except FileNotFoundError:  # another process made one shard of several meanwhile
                continue
        raise ZsarError(f"{self.folder}: changes all the time; try again")

    def details(self, videos: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Facts and errors of videos, as plain values: {"facts": ..., "error": ...} of each."""
        return [
            {"facts": facts and json.loads(facts), "error": error and json.loads(error)}
            for facts, error, _ in self._texts(videos)
        ]

    def _texts(self, videos: NDArray[np.int64]) -> list[tuple[str | None, ...]]:
        """Facts, error and precision of videos, as they are kept."""
        every = self._all
        source = every.source[videos]
        found: list[tuple[str | None, ...]] = [()] * len(videos)
        for number in np.unique(every.shard[source]):
            mine = np.flatnonzero(every.shard[source] == number)
            table = self._about(int(number)).take(places(every.row[source[mine]]))
            rows = zip(*(table.column(name).to_pylist() for name in _TEXTS), strict=True)
            for place, row in zip(mine.tolist(), rows, strict=True):
                found[place] = row
        return found

    def _about(self, number: int) -> pa.Table:
        """What is long of the videos of one shard; kept until another is asked for."""
        kept: dict[int, pa.Table] = self.__dict__.setdefault("_kept", {})
        if number not in kept:
            kept.clear()
            kept[number] = self._all.shards[number].videos(_TEXTS)
        return kept[number]

    def blocks(self, columns: Sequence[str], wanted: NDArray[np.bool_] | None = None) -> Iterator[Block]:
        """All windows, some videos at a time, as they lie; the next are read while these are worked on.

        Args:
            columns: fingerprints of the models that are asked for.
            wanted: bool [V], which videos; None takes all.
        """
        yield from one_ahead(self._blocks(columns, wanted))

    def _blocks(self, columns: Sequence[str], wanted: NDArray[np.bool_] | None) -> Iterator[Block]:
        every, counts, widths = self._all, self.videos.counts, dict(self.spec.columns)
        chosen = counts > 0 if wanted is None else wanted & (counts > 0)
        where, first = every.shard[every.source], every.first[every.source]
        for number in np.unique(where[chosen]):
            mine = np.flatnonzero(chosen & (where == number))
            mine = mine[np.argsort(first[mine])]
            start = 0
            try:
                for table in every.shards[number].groups(["start", "end", *columns]):
                    stop = start + table.num_rows
                    inside = mine[(first[mine] >= start) & (first[mine] < stop)]
                    if len(inside):
                        yield _block(table, inside, first[inside] - start, counts[inside], columns, widths)
                    start = stop
            except FileNotFoundError:
                raise ZsarError(
                    f"{self.folder}: another process put its shards in order meanwhile; run again"
                ) from None

    def recover(self) -> None:
        """Take over what killed processes left, and make one of many small shards.

        Raises:
            OutputError: there is no space; nothing is lost.
        """
        recover(self.shards)
        shards = list_shards(self.shards)
        small = [one for one in shards if not one.is_journal and _size(one.files[1]) < LARGE / 2]
        if len(small) >= SMALL:
            self._rewrite({shard.name for shard in small})
        self.forget()

    def remove(self, gone: NDArray[np.bool_]) -> int:
        """Take videos out, vectors and all.

        Args:
            gone: bool [V].

        Returns:
            how many there were.

        Raises:
            OutputError: there is no space, or another process works on the shards; what is lost then is space.
        """
        videos, every = self.videos, self._all
        numbers = np.flatnonzero(gone).tolist()
        if numbers:
            entries = [Entry(videos.ids[number], videos.paths[number], "removed") for number in numbers]
            write_shard(self.shards, self.spec.columns, entries)
            self._rewrite(
                {every.shards[number].name for number in np.unique(every.shard[every.source[gone]])}, PATIENCE
            )
            self.forget()
        return len(numbers)

    def take(self, other: Library) -> None:
        """All of another library, whose spec must be the same. What is in both is here once.

        Raises:
            UsageError: its spec is another, or it is this one.
            OutputError: there is no space.
        """
        self.spec.require(other.spec, self.folder)
        if self.folder.samefile(other.folder):
            raise UsageError(f"{other.folder} is the library itself; name others")
        write_shard(self.shards, self.spec.columns, other._entries(np.ones(len(other.videos), bool)))
        self.forget()

    def forget(self) -> None:
        """Read it anew when it is next asked."""
        for name in ("videos", "_all", "_kept"):
            self.__dict__.pop(name, None)

    def problems(self) -> Iterator[str]:
        """What is wrong with its files, read with all their check sums."""
        for shard in list_shards(self.shards):
            try:
                yield from self._problems(shard)
            except (ZsarError, FileNotFoundError) as error:
                yield str(error)
        for file in lost(self.shards):
            yield f"{file}: the file of its videos is missing; delete this one, and add them again"

    def _problems(self, shard: Shard) -> Iterator[str]:
        """Of one shard."""
        videos = shard.videos()
        counts = plain_numbers(videos.column("windows"))
        expected = np.repeat(np.asarray(videos.column("id")), counts)
        columns = ["start", "end", *(name for name, _ in self.spec.columns)]
        found = 0
        for table in shard.groups(columns if shard.is_journal else ["video", *columns]):
            if not shard.is_journal:  # its windows lie in the rows of their videos
                ids = np.asarray(table.column("video"))
                if not np.array_equal(ids, expected[found : found + len(ids)]):
                    yield f"{shard.files[-1]}: has windows of other videos than it should"
            found += table.num_rows
            for name, width in self.spec.columns:
                if not np.isfinite(to_numpy(table.column(name).combine_chunks(), width)).all():
                    yield f"{shard.files[-1]}: has vectors of {name} that are not finite numbers"
        if found != len(expected):
            yield f"{shard.files[-1]}: has {found} windows, and its videos {len(expected)}"

    def _rewrite(self, names: set[str], patience: float = 0.0) -> None:
        """Make one shard of several, of what still counts of them; unless another process is at it for longer than
        `patience` seconds, which does no harm."""
        try:
            held = filelock.FileLock(self.folder / "rewrite.lock").acquire(timeout=patience)
        except filelock.Timeout:
            return
        with held:
            self.forget()
            every = self._all
            old = [number for number, one in enumerate(every.shards) if one.name in names and not one.is_journal]
            entries = itertools.chain(self._still(old), self._entries(np.isin(every.shard[every.source], old)))
            shards = [every.shards[number] for number in old]
            write_shard(self.shards, self.spec.columns, entries, replaces=[shard.name for shard in shards])
            remove_shards(self.shards, shards)

    def _still(self, old: Sequence[int]) -> Iterator[Entry]:
        """What some shards say of videos whose vectors lie in others: that they moved, or that they are gone."""
        every = self._all
        moved = every.live[np.isin(every.shard[every.live], old) & ~np.isin(every.shard[every.source], old)]
        ids = every.table.column("id")
        elsewhere = set(ids.take(places(np.flatnonzero(~np.isin(every.shard, old)))).to_pylist())
        dead = np.setdiff1d(np.flatnonzero(np.isin(every.shard, old)), np.concatenate([every.live, every.source]))
        alive = set(ids.take(places(every.live)).to_pylist())
        for kind, entries in (("removed", dead), ("moved", moved)):
            numbers = (every.numbers(name, entries) for name in ("size", "modified", "added"))
            rows = zip(ids.take(places(entries)).to_pylist(), every.paths(entries), *numbers, strict=True)
            for one, path, size, changed, added in rows:
                if kind == "moved" or (one in elsewhere and one not in alive):
                    yield Entry(one, path, kind, _known(size), _known(changed), added=int(added))

    def _entries(self, wanted: NDArray[np.bool_]) -> Iterator[Entry]:
        """Videos as they were added, but by what is known now."""
        names = [name for name, _ in self.spec.columns]
        yield from self._without(np.flatnonzero(wanted & (self.videos.counts == 0)))
        for block in self.blocks(names, wanted):
            ends = np.cumsum(block.counts)
            for entry, end, count in zip(self._without(block.videos), ends, block.counts, strict=True):
                part = slice(end - count, end)
                yield replace(entry, spans=block.spans[part], vectors=tuple(rows[part] for rows in block.vectors))

    def _without(self, numbers: NDArray[np.int64]) -> Iterator[Entry]:
        """Entries of videos but for their windows."""
        videos, added = self.videos, self._all.numbers("added", self._all.live[numbers]).tolist()
        for number, (facts, error, precision), when in zip(numbers.tolist(), self._texts(numbers), added, strict=True):
            yield Entry(
                videos.ids[number], videos.paths[number], "video", _known(videos.sizes[number]),
                _known(videos.modified[number]), precision, facts, error, added=when,
            )  # fmt: skip


def _size(file: Path) -> float:
    """Bytes; of a file that is missing endless, for nothing can be made of it."""
    try:
        return file.stat().st_size
    except OSError:
        return math.inf


def _known(number: np.int64) -> int | None:
    return None if number < 0 else int(number)


def _block(
    table: pa.Table, videos: NDArray[np.int64], first: NDArray[np.int64], counts: NDArray[np.int64],
    columns: Sequence[str], widths: Mapping[str, int],
) -> Block:  # fmt: skip
    """The windows of some videos in a group, whose rows begin at `first`."""
    spans = np.stack([plain_numbers(table.column(name)) for name in ("start", "end")], axis=1)
    vectors = tuple(to_numpy(table.column(name).combine_chunks(), widths[name]) for name in columns)
    if counts.sum() < table.num_rows:
        kept = np.concatenate([np.arange(start, start + count) for start, count in zip(first, counts, strict=True)])
        spans, vectors = spans[kept], tuple(rows[kept] for rows in vectors)
    return Block(videos, counts, spans, vectors)
