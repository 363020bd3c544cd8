"""A cache saves time, and nothing that befalls it may cost more than that: each job gives its answers all the same."""

from __future__ import annotations

import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_model import FakeText

from zsar_cli.store.cache import CachedTextEncoder, EmbeddingCache

TEXTS = [f"text {index}" for index in range(300)]
EXPECTED = FakeText().encode(TEXTS)


def filled(folder: Path) -> Path:
    """A cache that knows all the texts; returns its file."""
    with EmbeddingCache(folder) as cache:
        CachedTextEncoder(FakeText(), cache).encode(TEXTS)
        return cache.path


def answers(folder: Path) -> tuple[bool, list[str]]:
    """Whether a job over all texts, in six parts, answers as one without a cache, and what it was warned of."""
    warned: list[str] = []
    with EmbeddingCache(folder, warned.append) as cache:
        encoder = CachedTextEncoder(FakeText(), cache)
        rows = torch.cat([encoder.encode(TEXTS[start : start + 50]) for start in range(0, 300, 50)])
    return torch.equal(rows, EXPECTED), warned


PROGRAM = """
    import resource, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from test_cache_faults import answers
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    size = int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    for folder in sys.argv[3:]:
        right, warned = answers(Path(folder))
        print(right, len(warned), *warned)
"""


def start(size: int, *folders: Path) -> subprocess.Popen[str]:
    """`answers` for each folder, in a process whose files cannot grow beyond `size` bytes."""
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), here, str(size), *map(str, folders)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of resources")
@pytest.mark.parametrize("size", [0, 4_096, 20_000, 60_000, 150_000])
def test_a_disk_that_is_full(tmp_path: Path, size: int) -> None:
    out, _ = start(size, tmp_path).communicate(timeout=120)
    assert out.startswith("True 1 the embedding cache"), out
    assert answers(tmp_path) == (True, [])  # and what it left is no obstacle


def test_what_was_kept_is_still_read_where_nothing_more_can_be_written(tmp_path: Path) -> None:
    filled(tmp_path)
    warned: list[str] = []
    with EmbeddingCache(tmp_path, warned.append) as cache:
        cache.check()
        cache._connection().execute("PRAGMA max_page_count = 1")
        for index in range(300):
            cache.put("text", [(f"new {index}", torch.ones(64), None)])
        assert len(cache.get(["new 299"])) == 0
        assert len(warned) == 1 and "full" in warned[0]
        fresh = FakeText()
        fresh.encode = None  # type: ignore[assignment]
        assert torch.equal(CachedTextEncoder(fresh, cache).encode(TEXTS), EXPECTED)


@pytest.mark.parametrize("place", range(20))
def test_a_damaged_page(tmp_path: Path, place: int) -> None:
    file = filled(tmp_path)
    content = bytearray(file.read_bytes())
    start = (len(content) // 4096) * place // 20 * 4096
    content[start : start + 4096] = random.Random(place).randbytes(4096)
    file.write_bytes(content)
    right, warned = answers(tmp_path)
    assert right and len(warned) <= 1


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


DAMAGE: dict[str, tuple[str, Callable[[bytes], object]]] = {
    "zeroed vector": ("data", zeroed),
    "flipped bit": ("data", lambda data: bytes([data[0] ^ 1]) + data[1:]),
    "short data": ("data", lambda data: data[:-3]),
    "no bytes": ("data", lambda data: 7),
    "wrong shape": ("shape", lambda shape: b"[2,4]"),
    "shape that is none": ("shape", lambda shape: b"[-1, {}]"),
    "bad JSON": ("meta", lambda meta: b"{"),
    "text that is none": ("meta", lambda meta: b"\xff\xfe"),
    "no check sum": ("sum", lambda check: None),
    "other check sum": ("sum", zeroed),
}


@pytest.mark.parametrize("way", DAMAGE)
def test_a_damaged_row_is_absent_and_written_anew(tmp_path: Path, way: str) -> None:
    column, change = DAMAGE[way]
    file = filled(tmp_path)
    connection = sqlite3.connect(file)
    keys = [key for (key,) in connection.execute("SELECT key FROM embeddings")]
    for key, value in connection.execute(f"SELECT key, {column} FROM embeddings").fetchall():
        connection.execute(f"UPDATE embeddings SET {column} = ? WHERE key = ?", (change(value), key))
    connection.commit()
    connection.close()
    with EmbeddingCache(tmp_path) as cache:
        assert cache.get(keys) == {}
    assert answers(tmp_path) == (True, [])
    with EmbeddingCache(tmp_path) as cache:
        assert len(cache.get(keys)) == len(TEXTS)


def test_rows_that_changed_places_are_absent(tmp_path: Path) -> None:
    with EmbeddingCache(tmp_path) as cache:
        cache.put("text", [("a", torch.zeros(2), None), ("b", torch.ones(2), None)])
        cache._connection().execute("UPDATE embeddings SET key = key || 'x'")
        assert cache.get(["ax", "bx"]) == {}


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of resources")
def test_four_processes_at_once(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(10)]
    processes = [start(10**9, *folders) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=240)
        assert out == "True 0\n" * len(folders)
    assert all(answers(folder) == (True, []) for folder in folders)


def test_eight_threads_share_one(tmp_path: Path) -> None:
    warned: list[str] = []
    cache = EmbeddingCache(tmp_path, warned.append)
    encoder = CachedTextEncoder(FakeText(), cache)
    begin = threading.Barrier(8)

    def work(number: int) -> bool:
        begin.wait()
        parts = [np.random.default_rng(number).permutation(300)[start : start + 6] for start in range(0, 300, 6)]
        return all(torch.equal(encoder.encode([TEXTS[i] for i in part]), EXPECTED[part]) for part in parts)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert warned == [] and len(cache._connections) == 8
    cache.close()
    assert cache._connections == {}
    assert torch.equal(encoder.encode(TEXTS), EXPECTED)  # opens again
    cache.close()


def test_a_cache_that_is_forgotten_leaves_nothing_open(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("text", [("a", torch.ones(1), None)])
    connection = cache._connection()
    del cache
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


@pytest.mark.skipif(sys.platform == "win32", reason="an open file cannot be deleted there")
def test_cleared_under_a_running_job(tmp_path: Path) -> None:
    filled(tmp_path)
    warned: list[str] = []
    with EmbeddingCache(tmp_path, warned.append) as cache:
        encoder = CachedTextEncoder(FakeText(), cache)
        assert torch.equal(encoder.encode(TEXTS[:100]), EXPECTED[:100])
        EmbeddingCache(tmp_path).clear()
        assert torch.equal(encoder.encode(TEXTS[:200]), EXPECTED[:200])
        assert answers(tmp_path) == (True, [])
        assert torch.equal(encoder.encode([*TEXTS, "new"])[:-1], EXPECTED)
    assert warned == []
    assert answers(tmp_path) == (True, [])


def test_a_folder_that_vanishes_under_a_running_job(tmp_path: Path) -> None:
    filled(tmp_path / "cache")
    with EmbeddingCache(tmp_path / "cache", lambda text: None) as cache:
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").write_text("in the way")
        assert cache.get(["a"]) == {}
        assert torch.equal(CachedTextEncoder(FakeText(), cache).encode(TEXTS), EXPECTED)
