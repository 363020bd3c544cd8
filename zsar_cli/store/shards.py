"""The files of a library: journals, which grow by a video at a time, and shards, which never change.

A journal is a stream in Arrow's IPC format with one row a video. It is locked while its process lives, and whatever
stands whole in it counts, so a killed process loses the video it was writing at most. When it is large enough, or
complete, it becomes a shard: two Parquet files, one of windows and then one of videos, whose appearance is what counts.
A journal that a dead process left becomes one as well, when somebody next adds.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from zsar_cli.errors import OutputError, ZsarError
from zsar_cli.store.arrow import Half, plain_numbers, to_arrow, to_numpy

__all__ = [
    "Columns",
    "Entry",
    "Journal",
    "Shard",
    "list_shards",
    "lost",
    "no_videos",
    "recover",
    "remove_shards",
    "write_shard",
]

Columns = Sequence[tuple[str, int]]  # of windows: the name of each column of embeddings, and its width D

GROUP = 16_000_000  # bytes of embeddings that are read at a time, about; videos are never parted
_VIDEOS, _WINDOWS, _JOURNAL = ".videos.parquet", ".windows.parquet", ".journal.arrows"
_LOCK, _PART = ".lock", ".part"
_REPLACES = b"zsar.replaces"

_OF_VIDEO = pa.schema([
    pa.field("id", pa.string(), nullable=False),  # digest of the content
    pa.field("path", pa.string(), nullable=False),
    pa.field("path_bytes", pa.binary()),  # where a path is no text
    pa.field("kind", pa.string(), nullable=False),
    pa.field("added", pa.int64(), nullable=False),  # nanoseconds since 1970; of two rows of one video the later counts
    pa.field("size", pa.int64()),
    pa.field("modified", pa.int64()),  # nanoseconds since 1970
    pa.field("precision", pa.string()),
    pa.field("facts", pa.string()),  # JSON of `VideoFacts`
    pa.field("error", pa.string()),  # JSON of `Failure`
    pa.field("windows", pa.int32(), nullable=False),
])  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """What a library keeps of a video.

    Args:
        id: digest of its content.
        path: absolute.
        kind: "video"; "moved", whose vectors are those of an earlier entry; or "removed".
        size, modified: of the file when it was read; None where that is not known.
        precision: of the arithmetic, of each model.
        facts, error: as JSON; one of them for a video.
        spans: float64 [N, 2], seconds.
        vectors: float16 [N, D] for each column.
        added: nanoseconds since 1970; 0 takes now.
    """

    id: str
    path: str
    kind: str = "video"
    size: int | None = None
    modified: int | None = None
    precision: str | None = None
    facts: str | None = None
    error: str | None = None
    spans: NDArray[np.float64] | None = None
    vectors: Sequence[Half] = ()
    added: int = 0

    @property
    def count(self) -> int:
        """N, how many windows there are."""
        return 0 if self.spans is None else len(self.spans)

    def row(self) -> dict[str, Any]:
        """As columns of videos."""
        text = self.path.encode("utf-8", "surrogateescape")
        printable = text.decode("utf-8", "replace")
        return {
            "id": self.id,
            "path": printable,
            "path_bytes": None if printable == self.path else text,
            "kind": self.kind,
            "added": self.added or time.time_ns(),
            "size": self.size,
            "modified": self.modified,
            "precision": self.precision,
            "facts": self.facts,
            "error": self.error,
            "windows": self.count,
        }


class Journal:
    """Takes entries; each is safe once `append` returns. `seal` makes a shard of it.

    Args:
        folder: of the shards.
        columns: of the embeddings.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path, columns: Columns) -> None:
        self._folder, self._columns = folder, columns
        self._name = _new_name()
        self.size = 0  # bytes of embeddings
        lists = [pa.field("start", pa.list_(pa.float64())), pa.field("end", pa.list_(pa.float64()))]
        lists += [pa.field(name, pa.list_(_vector(width))) for name, width in columns]
        self._schema = pa.schema([*_OF_VIDEO, *lists])
        with _written(folder):
            self._lock = _lock(folder, self._name)
            self._lock.acquire(timeout=0)
            self._file = open(folder / f"{self._name}{_JOURNAL}", "xb", buffering=0)  # noqa: SIM115 - closed by `seal`
            self._stream = pa.ipc.new_stream(pa.PythonFile(self._file, "w"), self._schema)

    def append(self, entry: Entry) -> None:
        """Keep an entry.

        Raises:
            OutputError: it cannot be written; what was appended before is kept.
        """
        values = entry.row()
        if entry.spans is not None:
            values.update(start=entry.spans[:, 0].tolist(), end=entry.spans[:, 1].tolist())
        plain = list(self._schema)[: len(self._schema) - len(self._columns)]
        columns = [pa.array([values.get(field.name)], field.type) for field in plain]
        for number, (_, width) in enumerate(self._columns):
            rows = entry.vectors[number] if entry.vectors else np.zeros((0, width), np.float16)
            offsets = pa.array([0, len(rows)], pa.int32())
            columns.append(pa.ListArray.from_arrays(offsets, to_arrow(rows)))
        with _written(self._folder):
            self._stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.size += sum(rows.nbytes for rows in entry.vectors)

    def seal(self) -> None:
        """Make a shard of it; a second call does nothing.

        Raises:
            OutputError: there is no space; the journal is kept and counts.
        """
        if self._file.closed:
            return
        self._file.close()
        try:
            _seal(self._folder, self._name)
        finally:
            _unlock(self._lock)


@dataclass(frozen=True)
class Shard:
    """Rows of videos and of their windows: two Parquet files, or a journal.

    Args:
        folder, name: where.
        is_journal: whether it is one yet.
    """

    folder: Path
    name: str
    is_journal: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, that of the videos first."""
        suffixes = (_JOURNAL,) if self.is_journal else (_VIDEOS, _WINDOWS)
        return tuple(self.folder / f"{self.name}{suffix}" for suffix in suffixes)

    def videos(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of its videos; None gives all.

        Raises:
            FileNotFoundError: it has become another shard meanwhile.
            ZsarError: it is damaged.
        """
        with self._read():
            if self.is_journal:
                return _journal_rows(self.files[0]).select(columns or _OF_VIDEO.names)
            # Not `read_table`, which imports pandas where it is installed.
            with pq.ParquetFile(self.files[0], page_checksum_verification=True) as file:
                return file.read(columns=columns and list(columns))

    def replaced(self) -> frozenset[str]:
        """Names of the shards that this one stands for: they may be there still, and do not count."""
        if self.is_journal:
            return frozenset()
        with self._read():
            return frozenset(json.loads((pq.read_schema(self.files[0]).metadata or {}).get(_REPLACES, b"[]")))

    def groups(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Columns of windows, some at a time, no video parted.

        Raises:
            FileNotFoundError, ZsarError: as `videos`.
        """
        with self._read():
            if self.is_journal:
                rows = _journal_rows(self.files[0]).combine_chunks()
                yield pa.table({name: rows.column(name).combine_chunks().flatten() for name in columns})
                return
            with pq.ParquetFile(self.files[1], page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group, columns=list(columns))

    @contextlib.contextmanager
    def _read(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and not self.files[0].exists():
                raise  # it has become another shard
            raise ZsarError(
                f"{self.files[-1]}: cannot be read ({' '.join(str(error).split())}); delete {self.name}.* in "
                f"{self.folder}, and add its videos again"
            ) from None


def list_shards(folder: Path) -> list[Shard]:
    """All that count, oldest first."""
    journals = _names(folder, _JOURNAL)  # first: one of them may become a shard meanwhile
    sealed = _names(folder, _VIDEOS)
    shards = [Shard(folder, name) for name in sealed]
    gone = frozenset[str]().union(*(shard.replaced() for shard in shards))
    shards = [shard for shard in shards if shard.name not in gone]
    shards += [Shard(folder, name, is_journal=True) for name in journals if name not in set(sealed) | gone]
    return sorted(shards, key=lambda shard: shard.name)


def write_shard(
    folder: Path, columns: Columns, entries: Iterable[Entry], replaces: Sequence[str] = (), name: str | None = None
) -> int:
    """Write entries as a shard, which appears whole.

    Args:
        replaces: names of shards whose place it takes.
        name: None makes one.

    Returns:
        how many there were.

    Raises:
        OutputError: it cannot be written; nothing has changed.
    """
    name = name or _new_name()
    windows, videos = folder / f"{name}{_WINDOWS}", folder / f"{name}{_VIDEOS}"
    parts = [file.with_name(f"{file.name}{_PART}") for file in (windows, videos)]
    try:
        with _written(folder):
            rows = _write_windows(parts[0], columns, entries)
            schema = _OF_VIDEO.with_metadata({_REPLACES: json.dumps(list(replaces)).encode()})
            pq.write_table(pa.Table.from_pylist(rows, schema), parts[1], write_page_checksum=True)
            for part, file in zip(parts, (windows, videos), strict=True):
                with open(part, "rb+") as written:
                    os.fsync(written.fileno())
                os.replace(part, file)
    finally:
        with contextlib.suppress(OSError):  # nothing can be left where nothing can be written
            for part in parts:
                part.unlink(missing_ok=True)
    return len(rows)


def _write_windows(target: Path, columns: Columns, entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """The windows of entries, and what is to be written of their videos."""
    fields = [pa.field("video", pa.string()), pa.field("start", pa.float64()), pa.field("end", pa.float64())]
    schema = pa.schema([*fields, *(pa.field(name, _vector(width)) for name, width in columns)])
    # Vectors are compressed by nothing that is worth its time.
    with pq.ParquetWriter(
        target, schema, compression="none", use_dictionary=["video"], write_statistics=False, write_page_checksum=True
    ) as writer:
        rows: list[dict[str, Any]] = []
        waiting: list[Entry] = []
        size = 0
        for entry in entries:
            rows.append(entry.row())
            waiting += [entry] if entry.count else []
            size += sum(part.nbytes for part in entry.vectors)
            if size >= GROUP:
                writer.write_table(_windows(waiting, schema))
                waiting, size = [], 0
        if waiting:
            writer.write_table(_windows(waiting, schema))
    return rows


def _windows(entries: Sequence[Entry], schema: pa.Schema) -> pa.Table:
    spans = np.concatenate([entry.spans for entry in entries if entry.spans is not None])
    ids = np.repeat([entry.id for entry in entries], [entry.count for entry in entries])
    vectors = [to_arrow(np.concatenate(parts)) for parts in zip(*(entry.vectors for entry in entries), strict=True)]
    return pa.Table.from_arrays([pa.array(ids), pa.array(spans[:, 0]), pa.array(spans[:, 1]), *vectors], schema=schema)


def lost(folder: Path, parts: bool = False) -> list[Path]:
    """Windows that belong to no shard: the file of their videos is gone, or a killed process had not written it yet.

    Args:
        parts: also what killed processes had not written whole; only while no other process writes a shard.
    """
    known = {*_names(folder, _JOURNAL), *_names(folder, _VIDEOS)}
    suffixes = [_WINDOWS, *([f"{_WINDOWS}{_PART}", f"{_VIDEOS}{_PART}"] if parts else [])]
    return [folder / f"{name}{suffix}" for suffix in suffixes for name in _names(folder, suffix) if name not in known]


def recover(folder: Path) -> None:
    """Make shards of the journals that dead processes left.

    Raises:
        OutputError: there is no space; the journals are kept and count.
    """
    for name in _names(folder, _JOURNAL):
        lock = _lock(folder, name)
        with contextlib.suppress(filelock.Timeout):
            lock.acquire(timeout=0)
            try:
                _seal(folder, name)
            finally:
                _unlock(lock)


def remove_shards(folder: Path, shards: Sequence[Shard]) -> None:
    """Delete the files of shards, and what killed processes left of others; only one process may do so at a time."""
    for shard in shards:
        for file in shard.files:
            file.unlink(missing_ok=True)
    for file in lost(folder, parts=True):
        file.unlink(missing_ok=True)


def _seal(folder: Path, name: str) -> None:
    """From the journal, which the caller has locked, to a shard of its name."""
    journal = folder / f"{name}{_JOURNAL}"
    if journal.exists() and not (folder / f"{name}{_VIDEOS}").exists():
        rows = _journal_rows(journal)
        if rows.num_rows:
            columns = [
                (field.name, field.type.value_type.list_size) for field in list(rows.schema)[len(_OF_VIDEO) + 2 :]
            ]
            write_shard(folder, columns, _entries(rows, columns), name=name)
    journal.unlink(missing_ok=True)


def _entries(rows: pa.Table, columns: Columns) -> Iterator[Entry]:
    """The entries of a journal's rows."""
    for batch in rows.to_batches(max_chunksize=1):
        values = batch.select(range(len(_OF_VIDEO))).to_pylist()[0]
        raw, count = values.pop("path_bytes"), values.pop("windows")
        path = values["path"] if raw is None else raw.decode("utf-8", "surrogateescape")
        spans = np.stack([plain_numbers(batch.column(name).flatten()) for name in ("start", "end")], axis=1)
        vectors = tuple(to_numpy(batch.column(name).flatten(), width) for name, width in columns)
        yield Entry(**{**values, "path": path}, spans=spans if count else None, vectors=vectors if count else ())


def _journal_rows(file: Path) -> pa.Table:
    """What stands whole in a journal."""
    with open(file, "rb") as source:
        batches = []
        try:
            stream = pa.ipc.open_stream(source)
        except pa.ArrowInvalid:  # killed before its schema was written
            return _OF_VIDEO.empty_table()
        with contextlib.suppress(pa.ArrowInvalid, OSError, EOFError):  # the end is torn
            batches.extend(stream)
        return pa.Table.from_batches(batches, stream.schema)


def _vector(width: int) -> pa.DataType:
    return pa.list_(pa.float16(), width)


def no_videos(columns: Sequence[str]) -> pa.Table:
    """Columns of no video."""
    return _OF_VIDEO.empty_table().select(columns)


def _new_name() -> str:
    """Of a shard: in the order of time, and of no other one."""
    return f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}"


def _names(folder: Path, suffix: str) -> list[str]:
    return sorted(name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))


def _lock(folder: Path, name: str) -> filelock.FileLock:
    return filelock.FileLock(folder / f"{name}{_LOCK}")


def _unlock(lock: filelock.FileLock) -> None:
    """Let go of it, and of its file, which nobody will need again."""
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


@contextlib.contextmanager
def _written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{folder}: the library cannot be written: {error.strerror or error}; what was added before is kept"
        ) from None
