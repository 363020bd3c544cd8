"""Embeddings that need not be computed twice: one SQLite file, safe under several processes and under kill -9.

Keys are digests over everything a value depends on, so an entry can be old but never wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zsar_cli.errors import ZsarError
from zsar_cli.text.encoder import TextEncoder

__all__ = ["CacheInfo", "CachedTextEncoder", "EmbeddingCache", "digest"]

FORMAT = 1  # part of the file name: another format is another file
BATCH = 500  # keys per query; SQLite allows 999 in its oldest versions


@dataclass(frozen=True)
class CacheInfo:
    """Where the cache is, how many embeddings it holds by kind, and its size in bytes."""

    path: Path
    entries: dict[str, int]
    size: int


class EmbeddingCache:
    """Float32 arrays with a little JSON beside them, by key.

    Args:
        folder: made on first write.

    Raises (all methods):
        ZsarError: the file is damaged or cannot be written; the message names it and `zsar cache clear`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"embeddings-{FORMAT}.sqlite"
        self._connection: sqlite3.Connection | None = None

    def get(self, keys: Sequence[str]) -> dict[str, tuple[Tensor, Any]]:
        """The entries there are, as (array, meta)."""
        found: dict[str, tuple[Tensor, Any]] = {}
        if self._connection is None and not self.path.exists():
            return found
        with self._open() as connection:
            for start in range(0, len(keys), BATCH):
                batch = keys[start : start + BATCH]
                marks = ",".join("?" * len(batch))
                query = f"SELECT key, shape, data, meta FROM embeddings WHERE key IN ({marks})"
                for key, shape, data, meta in connection.execute(query, batch):
                    array = np.frombuffer(data, dtype="<f4").reshape(json.loads(shape)).copy()
                    found[key] = torch.from_numpy(array), json.loads(meta)
        return found

    def put(self, kind: str, entries: Iterable[tuple[str, Tensor, Any]]) -> None:
        """Keep (key, array, meta) entries; meta is anything JSON holds. All or none are written."""
        rows = [
            (
                key,
                kind,
                json.dumps(list(array.shape)),
                array.detach().cpu().numpy().astype("<f4").tobytes(),
                _json(meta),
            )
            for key, array, meta in entries
        ]
        with self._open() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?)", rows)

    def check(self) -> None:
        """Open the cache and make sure that it can be written; makes the file."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")

    def info(self) -> CacheInfo:
        """Number and size of what is kept."""
        if not self.path.exists():
            return CacheInfo(self.path, {}, 0)
        with self._open() as connection:
            counts = dict(connection.execute("SELECT kind, COUNT(*) FROM embeddings GROUP BY kind ORDER BY kind"))
        return CacheInfo(self.path, counts, sum(file.stat().st_size for file in self._files()))

    def clear(self) -> int:
        """Delete the cache, damaged or not. Returns the bytes that were freed."""
        self.close()
        freed = 0
        for file in self._files():
            freed += file.stat().st_size
            file.unlink()
        return freed

    def close(self) -> None:
        """Close the file; it opens again when needed."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _files(self) -> list[Path]:
        names = (self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm")))
        return [file for file in names if file.exists()]

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except (sqlite3.Error, OSError) as error:
            raise ZsarError(
                f"the embedding cache {self.path} cannot be used ({error}); "
                f"'zsar cache clear --cache-dir {self.path.parent}' removes a damaged one, --no-cache works without"
            ) from None

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=30.0)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS embeddings "
            "(key TEXT PRIMARY KEY, kind TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL, meta TEXT NOT NULL)"
        )
        return connection


class CachedTextEncoder:
    """A text encoder that asks the cache first, and does not even load its model when nothing is missing."""

    def __init__(self, encoder: TextEncoder, cache: EmbeddingCache) -> None:
        self._encoder, self._cache = encoder, cache
        self.fingerprint = encoder.fingerprint

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


def digest(*parts: Any) -> str:
    """One key over parts of JSON values, order and boundaries included."""
    # A file name that is not UTF-8 holds lone surrogates.
    return hashlib.sha256(_json(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
