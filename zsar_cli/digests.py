"""Check sums: of values, of files, and of files that were read before and need not be read again."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, Protocol

__all__ = ["DigestMemo", "FileState", "digest", "known_sha256", "remembering", "sha256_of", "to_json"]

# Some file systems keep times in steps of two seconds: a younger file could change once more and look the same.
SETTLED = 2_000_000_000  # nanoseconds


class FileState(NamedTuple):
    """What tells that a file still has the content it had: absolute path, bytes, nanoseconds, inode."""

    path: str
    size: int
    modified: int
    inode: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> FileState | None:
        """None for what is no file, and for one that changed within the last two seconds."""
        state = cls.now(path)
        return None if state is None or time.time_ns() - state.modified < SETTLED else state

    @classmethod
    def now(cls, path: str | os.PathLike[str]) -> FileState | None:
        """As `of`, for a file that may have changed just now."""
        try:
            found = os.stat(path)
        except (OSError, ValueError):
            return None
        return cls(os.path.abspath(path), found.st_size, found.st_mtime_ns, found.st_ino)


class DigestMemo(Protocol):
    """Keeps digests of files between runs; `store.cache.EmbeddingCache` is one."""

    def file_digest(self, path: str | os.PathLike[str]) -> str | None:
        """The digest that was kept, if the file has not changed since."""
        ...

    def keep_digest(self, before: FileState, digest: str) -> None:
        """Keep the digest of a file; `before` is its state from before it was read."""
        ...


_memo: ContextVar[DigestMemo | None] = ContextVar("memo", default=None)


@contextlib.contextmanager
def remembering(memo: DigestMemo | None) -> Iterator[None]:
    """Within, `known_sha256` asks this memo before it reads a file; None reads every file."""
    token = _memo.set(memo)
    try:
        yield
    finally:
        _memo.reset(token)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def known_sha256(path: Path) -> str:
    """As `sha256_of`, without reading a file that was read before and has kept its size, time and inode."""
    memo = _memo.get()
    if memo is None:
        return sha256_of(path)
    before, found = FileState.of(path), memo.file_digest(path)
    if found is None:
        found = sha256_of(path)
        if before is not None:
            memo.keep_digest(before, found)
    return found


def digest(*parts: Any) -> str:
    """One key over parts of JSON values, order and boundaries included."""
    return hashlib.sha256(to_json(parts)).hexdigest()


def to_json(value: Any) -> bytes:
    """Equal values give equal bytes. A file name that is not UTF-8 holds lone surrogates, which are kept."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")
