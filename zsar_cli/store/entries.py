"""All entries of the shards of a library, and which of them count."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from zsar_cli.store.arrow import places, plain_numbers
from zsar_cli.store.shards import Shard, no_videos

__all__ = ["Entries", "Videos", "fold"]

_COLUMNS = ("id", "path", "path_bytes", "kind", "added", "size", "modified", "windows", "error")


@dataclass(frozen=True)
class Videos:
    """The videos of a library, V of them, in the order in which they were added.

    Args:
        paths: absolute.
        ids: digests of their contents.
        sizes, modified: of the files when they were read, int64 [V]; -1 where that is not known.
        failed: bool [V].
        counts: N of each, int64 [V].
    """

    paths: Sequence[str]
    ids: Sequence[str]
    sizes: NDArray[np.int64]
    modified: NDArray[np.int64]
    failed: NDArray[np.bool_]
    counts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def under(self, places: Sequence[str]) -> NDArray[np.bool_]:
        """Which of them are one of these files or lie in one of these folders, bool [V]."""
        roots = [os.path.abspath(place) for place in places]
        inside = tuple(os.path.join(root, "") for root in roots)
        return np.array([path in roots or path.startswith(inside) for path in self.paths], bool)


@dataclass(frozen=True)
class Entries:
    """All entries of all shards, and which of them count.

    Args:
        shards: in the order in which they were begun.
        table: columns `_COLUMNS` of all entries.
        shard, row: of each entry, its shard and its place there.
        first: of each entry, the row of its first window in its shard.
        live: for each video the entry that counts, [V].
        source: for each video the entry that its vectors came with, [V].
    """

    shards: tuple[Shard, ...]
    table: pa.Table
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    first: NDArray[np.int64]
    live: NDArray[np.int64]
    source: NDArray[np.int64]

    def numbers(self, column: str, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of a column of whole numbers; -1 where there is none."""
        mine = self.table.column(column).take(places(entries))
        found = np.full(len(entries), -1)
        found[_given(mine)] = plain_numbers(mine.drop_null())
        return found

    def paths(self, entries: NDArray[np.int64]) -> list[str]:
        """Their paths."""
        here = self.table.take(places(entries))
        paths: list[str] = here.column("path").to_pylist()
        raw = here.column("path_bytes")
        for number in np.flatnonzero(_given(raw)):
            paths[number] = raw[number].as_py().decode("utf-8", "surrogateescape")
        return paths

    def videos(self) -> Videos:
        """Those that count."""
        ids: list[str] = self.table.column("id").take(places(self.live)).to_pylist()
        failed = _given(self.table.column("error").take(places(self.source)))
        sizes, modified = self.numbers("size", self.live), self.numbers("modified", self.live)
        return Videos(self.paths(self.live), ids, sizes, modified, failed, self.numbers("windows", self.source))


def fold(shards: Sequence[Shard]) -> Entries:
    """What the latest entries say."""
    tables = [shard.videos(_COLUMNS) for shard in shards]
    none = np.zeros(0, np.int64)
    if not any(table.num_rows for table in tables):
        return Entries(tuple(shards), no_videos(_COLUMNS), none, none, none, none, none)
    shard = np.repeat(np.arange(len(shards)), [table.num_rows for table in tables])
    row = np.concatenate([np.arange(table.num_rows) for table in tables])
    first = np.concatenate([_starts(plain_numbers(table.column("windows"))) for table in tables])
    table = pa.concat_tables(tables).combine_chunks()
    of_id, of_path = (_codes(table.column(name)) for name in ("id", "path"))
    kind = np.array(table.column("kind").to_pylist())
    order = np.lexsort((row, shard, plain_numbers(table.column("added"))))
    counts = _latest(of_id, order) & _latest(of_path, order) & (kind != "removed")
    live = order[counts[order]]
    source = _last_rows(of_id, order[kind[order] == "video"], int(of_id.max()) + 1)[of_id[live]]
    return Entries(tuple(shards), table, shard, row, first, live[source >= 0], source[source >= 0])


def _starts(counts: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.cumsum(counts, dtype=np.int64) - counts


def _codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Equal numbers for equal values."""
    return plain_numbers(column.combine_chunks().dictionary_encode().indices).astype(np.int64)


def _given(column: pa.ChunkedArray) -> NDArray[np.bool_]:
    """Which rows have a value."""
    return plain_numbers(column.is_valid().cast(pa.uint8())).astype(bool)


def _last_rows(codes: NDArray[np.int64], order: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """For each code below `size` its last row in this order; -1 where there is none."""
    last = np.full(size, -1)
    last[codes[order]] = order  # of equal places numpy keeps the last value
    return last


def _latest(codes: NDArray[np.int64], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which rows are the last of their code in this order."""
    latest = np.zeros(len(codes), bool)
    latest[_last_rows(codes, order, int(codes.max()) + 1)] = True
    return latest
