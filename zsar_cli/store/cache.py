"""Embeddings that need not be computed twice: one SQLite file, safe under several processes and under kill -9.

Keys are digests over everything a value depends on, so an entry can be old but never wrong. Every row carries a check
sum: what a bad disk made of it counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zsar_cli.digests import FileState, digest, to_json
from zsar_cli.errors import ZsarError
from zsar_cli.text.encoder import TextEncoder

__all__ = ["CacheInfo", "CachedTextEncoder", "EmbeddingCache", "digest"]

FORMAT = 2  # part of the file name: another format is another file
BATCH = 500  # keys per query; SQLite allows 999 in its oldest versions
PATIENCE = 30.0  # seconds to wait for another process that writes
TABLES = (
    "CREATE TABLE IF NOT EXISTS embeddings "
    "(key TEXT PRIMARY KEY, kind TEXT NOT NULL, shape BLOB NOT NULL, data BLOB NOT NULL, meta BLOB NOT NULL, sum BLOB)",
    "CREATE TABLE IF NOT EXISTS files "
    "(path BLOB, kind TEXT, state BLOB NOT NULL, digest BLOB NOT NULL, sum BLOB, PRIMARY KEY (path, kind))",
)
FAULTS = (sqlite3.Error, OSError)


@dataclass(frozen=True)
class CacheInfo:
    """Where the cache is, how many embeddings it holds by kind, and its size in bytes."""

    path: Path
    entries: dict[str, int]
    size: int


class EmbeddingCache:
    """Float32 arrays with a little JSON beside them, by key; and digests of files, by path.

    A cache saves time, and no job may die of it: where it cannot be read or written (a full disk, a damaged page,
    another process that never lets go), `warn` is told once and the methods for a job answer as an empty cache does.
    After a read that failed neither is tried again, after a write that failed no more is written.

    Any number of threads may share one: each has a connection of its own. `close` closes them all.

    Args:
        folder: made on first write.
        warn: takes the one warning.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None] = warnings.warn) -> None:
        self.path = folder / f"embeddings-{FORMAT}.sqlite"
        self._warn = warn
        self._lock = threading.Lock()
        self._unreadable = self._unwritable = False
        # By process, because a connection must not cross a fork, and thread.
        self._connections: dict[tuple[int, int], sqlite3.Connection] = {}
        weakref.finalize(self, _close_all, self._connections)

    def __enter__(self) -> EmbeddingCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def get(self, keys: Sequence[str]) -> dict[str, tuple[Tensor, Any]]:
        """The entries there are, as (array, meta); damaged ones are none."""
        found: dict[str, tuple[Tensor, Any]] = {}
        for start in range(0, len(keys), BATCH):
            batch = keys[start : start + BATCH]
            marks = ",".join("?" * len(batch))
            query = f"SELECT key, shape, data, meta, sum FROM embeddings WHERE key IN ({marks})"
            for row in self._read(query, batch):
                if entry := _entry(*row):
                    found[entry[0]] = entry[1:]
        return found

    def put(self, kind: str, entries: Iterable[tuple[str, Tensor, Any]]) -> None:
        """Keep (key, array, meta) entries; meta is anything JSON holds. All or none are written."""
        rows = []
        for key, array, meta in entries:
            data = np.ascontiguousarray(array.detach().cpu().numpy(), "<f4").reshape(-1).data.cast("B")
            shape, about = to_json(list(array.shape)), to_json(meta)
            rows.append((key, kind, shape, data, about, _sum(key.encode(), shape, data, about)))
        self._write("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?, ?)", rows)

    def file_digest(self, path: str | os.PathLike[str], kind: str = "sha256") -> str | None:
        """The digest that was kept of a file; None if its size, time of change or inode are others by now.

        Args:
            kind: how the digest was made; each kind is kept by itself.
        """
        state = FileState.of(path)
        if state is None:
            return None
        name = os.fsencode(state.path)
        for kept, found, check in self._read(
            "SELECT state, digest, sum FROM files WHERE path = ? AND kind = ?", (name, kind)
        ):
            if kept == _state(state) and _intact(check, name, kind.encode(), kept, found):
                return str(found, "utf-8")
        return None

    def keep_digest(self, before: FileState, digest: str, kind: str = "sha256") -> None:
        """Keep the digest of a file, unless the file changed while it was read.

        Args:
            before: the file's state from before it was read.
        """
        if FileState.of(before.path) == before:
            name, state, value = os.fsencode(before.path), _state(before), digest.encode()
            row = (name, kind, state, value, _sum(name, kind.encode(), state, value))
            self._write("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", [row])

    def check(self) -> None:
        """Open the cache and make sure that it can be written; makes the file.

        Raises:
            ZsarError: it cannot; the message names the file and `zsar cache clear`.
        """
        with self._told():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")

    def info(self) -> CacheInfo:
        """Number and size of what is kept. Raises ZsarError as `check`."""
        counts: dict[str, int] = {}
        with self._told():
            if self.path.exists():
                query = "SELECT kind, COUNT(*) FROM embeddings GROUP BY kind ORDER BY kind"
                counts = {str(kind, "utf-8"): count for kind, count in self._connection().execute(query)}
            return CacheInfo(self.path, counts, sum(file.stat().st_size for file in self._files()))

    def clear(self) -> int:
        """Delete the cache, damaged or not, of older formats too. Returns the bytes that were freed.

        Jobs that use it go on: they keep what they have open, or find an empty cache.

        Raises:
            ZsarError: it cannot be deleted.
        """
        self.close()
        freed = 0
        with self._told():
            for file in self._files():
                freed += file.stat().st_size
                file.unlink(missing_ok=True)
        return freed

    def close(self) -> None:
        """Close the file in all threads; it opens again when needed."""
        with self._lock:
            _close_all(self._connections)

    def _read(self, query: str, values: Sequence[Any]) -> list[Any]:
        """Rows; none where the cache cannot be read, or is not there."""
        try:
            # Nothing is there to be read, and reading makes no file.
            if self._unreadable or not (self._connections or self.path.exists()):
                return []
            return self._connection().execute(query, values).fetchall()
        except FAULTS as error:
            self._give_up(error, reading=True)
            return []

    def _write(self, statement: str, rows: Sequence[Any]) -> None:
        if self._unreadable or self._unwritable or not rows:
            return
        try:
            connection = self._connection()
            with connection:
                connection.executemany(statement, rows)
        except FAULTS as error:
            self._give_up(error, reading=False)

    def _give_up(self, error: Exception, reading: bool) -> None:
        with self._lock:
            first = not (self._unreadable or self._unwritable)
            self._unreadable, self._unwritable = self._unreadable or reading, True
        if first:
            self._warn(f"{self._fault(error)}; going on without it")

    def _files(self) -> list[Path]:
        """Of this format and of older ones."""
        return sorted(self.path.parent.glob("embeddings-*.sqlite*"), reverse=True)  # -wal and -shm first

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except FAULTS as error:
            raise ZsarError(self._fault(error)) from None

    def _fault(self, error: Exception) -> str:
        return (
            f"the embedding cache {self.path} cannot be used ({error}); "
            f"'zsar cache clear --cache-dir {self.path.parent}' removes a damaged one, --no-cache works without"
        )

    def _connection(self) -> sqlite3.Connection:
        """This thread's own."""
        owner = os.getpid(), threading.get_ident()
        connection = self._connections.get(owner)
        if connection is None:
            connection = _connect(self.path)
            with self._lock:
                self._connections[owner] = connection
        return connection


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Only its own thread uses a connection, but any may close it.
    connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
    try:
        connection.text_factory = bytes  # text of a damaged row may be none
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        for table in TABLES:
            connection.execute(table)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait by itself where several processes do this first step at once."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _close_all(connections: dict[tuple[int, int], sqlite3.Connection]) -> None:
    """Those of this process."""
    for owner in [owner for owner in connections if owner[0] == os.getpid()]:
        connections.pop(owner).close()


def _entry(key: Any, shape: Any, data: Any, meta: Any, check: Any) -> tuple[str, Tensor, Any] | None:
    """Key, array and meta of a row; None if it is not as it was written."""
    if not _intact(check, key, shape, data, meta):
        return None
    array = np.frombuffer(data, dtype="<f4").reshape(json.loads(shape)).copy()
    return str(key, "utf-8"), torch.from_numpy(array), json.loads(meta.decode("utf-8", "surrogatepass"))


def _intact(check: Any, *parts: Any) -> bool:
    """Whether a row is as it was written; in a damaged one any column may hold any type."""
    return all(isinstance(part, bytes) for part in parts) and bool(_sum(*parts) == check)


def _sum(*parts: bytes | memoryview) -> bytes:
    """Over parts and their boundaries."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        hasher.update(len(part).to_bytes(8, "little"))
        hasher.update(part)
    return hasher.digest()


def _state(state: FileState) -> bytes:
    return b"%d %d %d" % state[1:]


class CachedTextEncoder:
    """A text encoder that asks the cache first, and does not even load its model when nothing is missing."""

    def __init__(self, encoder: TextEncoder, cache: EmbeddingCache) -> None:
        self._encoder, self._cache = encoder, cache
        self.fingerprint = encoder.fingerprint

    @property
    def languages(self) -> tuple[str, ...]:
        """As `TextEncoder.languages`."""
        return self._encoder.languages

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As `TextEncoder.encode`."""
        keys = {text: digest("text", self.fingerprint, text) for text in texts}
        known = {key: row for key, (row, _) in self._cache.get(list(keys.values())).items()}
        missing = [text for text, key in keys.items() if key not in known]
        if missing:
            rows = self._encoder.encode(missing)
            known.update(zip((keys[text] for text in missing), rows, strict=True))
            self._cache.put("text", ((keys[text], row, None) for text, row in zip(missing, rows, strict=True)))
        return torch.stack([known[keys[text]] for text in texts])
