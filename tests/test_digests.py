"""Check sums of files: those of unchanged files are remembered, those of changed ones never."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from zsar_cli import digests
from zsar_cli.digests import FileState, known_sha256, remembering, sha256_of
from zsar_cli.errors import ModelError
from zsar_cli.store.cache import EmbeddingCache
from zsar_cli.weights.packaged import PackagedFile

HOUR = 3600 * 10**9


def aged(file: Path, content: bytes = b"weights") -> Path:
    """A file that was last changed an hour ago."""
    file.write_bytes(content)
    before = time.time_ns() - HOUR
    os.utime(file, ns=(before, before))
    return file


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was read."""
    seen: list[Path] = []

    def counted(path: Path) -> str:
        seen.append(path)
        return sha256_of(path)

    monkeypatch.setattr(digests, "sha256_of", counted)
    return seen


def test_a_file_that_did_not_change_is_read_once(tmp_path: Path, read: list[Path]) -> None:
    file = aged(tmp_path / "file")
    for _ in range(3):
        with EmbeddingCache(tmp_path) as cache, remembering(cache):
            assert known_sha256(file) == sha256_of(file)
    assert read == [file]
    assert known_sha256(file) == sha256_of(file) and read == [file, file]  # no memo


def same_time(file: Path, content: bytes) -> None:
    found = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


def other_time(file: Path) -> None:
    found = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 1))


def other_inode(file: Path) -> None:
    found = file.stat()
    file.rename(file.with_name("old"))
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("change", [lambda file: same_time(file, b"weight"), other_time, other_inode])
def test_a_change_of_size_time_or_inode_is_seen(tmp_path: Path, change: Callable[[Path], None]) -> None:
    file = aged(tmp_path / "file")
    with EmbeddingCache(tmp_path / "cache") as cache, remembering(cache):
        before = known_sha256(file)
        change(file)
        assert known_sha256(file) == sha256_of(file) != before


def test_a_file_that_changes_while_it_is_read_or_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    file = aged(tmp_path / "file")
    with EmbeddingCache(tmp_path / "cache") as cache:
        before = FileState.of(file)
        assert before is not None
        other_time(file)
        cache.keep_digest(before, "0" * 64)
        assert cache.file_digest(file) is None
        file.write_bytes(b"new")
        assert FileState.of(file) is None  # it could change again within the same tick
        assert FileState.of(tmp_path / "absent") is FileState.of("a\0b") is None


def test_kinds_of_digests_are_kept_apart_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    file = aged(tmp_path / os.fsdecode(b"caf\xe9"))
    before = FileState.of(file)
    assert before is not None
    with EmbeddingCache(tmp_path / "cache") as cache:
        cache.keep_digest(before, "one")
        cache.keep_digest(before, "two", kind="sampled")
        assert (cache.file_digest(file), cache.file_digest(file, "sampled")) == ("one", "two")
        connection = sqlite3.connect(cache.path)
        connection.execute("UPDATE files SET digest = X'6F6E66'")
        connection.commit()
        assert cache.file_digest(file) is None
        connection.execute("UPDATE files SET digest = 7, state = 7")
        connection.commit()
        connection.close()
        assert cache.file_digest(file) is None


def test_packaged_weights_are_verified_once_and_again_after_a_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: list[Path]
) -> None:
    file = aged(tmp_path / "weights.pth")
    monkeypatch.setattr(PackagedFile, "path", property(lambda self: file))
    packaged = PackagedFile("package", "weights.pth", sha256_of(file), "MIT", "nowhere")
    with EmbeddingCache(tmp_path / "cache") as cache, remembering(cache):
        assert packaged.verified() == packaged.verified() == file
        assert read == [file]
        other_time(file)
        with pytest.raises(ModelError, match="is damaged or not the published file"):
            packaged.verified()


def test_a_cache_that_fails_costs_no_verification(tmp_path: Path, read: list[Path]) -> None:
    file = aged(tmp_path / "file")
    (tmp_path / "cache").write_text("in the way")
    warned: list[str] = []
    with EmbeddingCache(tmp_path / "cache", warned.append) as cache, remembering(cache):
        assert known_sha256(file) == known_sha256(file) == sha256_of(file)
    assert read == [file, file] and len(warned) == 1
