"""The embedding cache: exact, shared between processes, honest when damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from zsar_cli.errors import ZsarError
from zsar_cli.store.cache import CachedTextEncoder, EmbeddingCache, digest


class Counting:
    """A text encoder that remembers what it was asked."""

    fingerprint = "counting-1"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        self.asked.append(list(texts))
        return torch.tensor([[float(len(text)), 1.0] for text in texts])


def test_arrays_come_back_to_the_last_bit(tmp_path: Path) -> None:
    array = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    EmbeddingCache(tmp_path).put("video", [("k", array, {"times": [0.1, 2], "partial": None})])
    found, meta = EmbeddingCache(tmp_path).get(["k", "absent"])["k"]
    assert torch.equal(found, array)
    assert meta == {"times": [0.1, 2], "partial": None}
    assert EmbeddingCache(tmp_path).get(["absent"]) == {}


def test_vectors_are_kept_without_a_copy_of_python_s(tmp_path: Path) -> None:
    cache, vectors = EmbeddingCache(tmp_path), torch.rand(4000, 1280)
    cache.put("video", [("small", vectors[:1], None)])
    tracemalloc.start()
    cache.put("video", [("large", vectors, None)])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < vectors.nbytes / 4
    assert torch.equal(cache.get(["large"])["large"][0], vectors)


def test_more_keys_than_sqlite_takes_at_once(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("text", ((str(index), torch.tensor([float(index)]), None) for index in range(2500)))
    found = cache.get([str(index) for index in range(2500)])
    assert all(found[str(index)][0].item() == index for index in range(2500))


def test_reading_an_absent_cache_makes_no_file(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "new")
    assert cache.get(["k"]) == {}
    assert cache.info().entries == {}
    assert not (tmp_path / "new").exists()


def test_only_missing_texts_reach_the_encoder(tmp_path: Path) -> None:
    encoder = Counting()
    cached = CachedTextEncoder(encoder, EmbeddingCache(tmp_path))
    first = cached.encode(["a", "bb", "a"])
    assert first.tolist() == [[1, 1], [2, 1], [1, 1]]
    again = CachedTextEncoder(encoder, EmbeddingCache(tmp_path)).encode(["ccc", "bb"])
    assert again.tolist() == [[3, 1], [2, 1]]
    assert encoder.asked == [["a", "bb"], ["ccc"]]


def test_files_of_older_formats_are_cleared_too(tmp_path: Path) -> None:
    (tmp_path / "embeddings-1.sqlite").write_bytes(b"old")
    (tmp_path / "embeddings-1.sqlite-wal").write_bytes(b"old")
    assert EmbeddingCache(tmp_path).info().size == 6
    assert EmbeddingCache(tmp_path).clear() == 6
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_utf8_are_kept_as_they_are(tmp_path: Path) -> None:
    meta = {"notes": ["frame \udc80.png"]}
    with EmbeddingCache(tmp_path) as cache:
        cache.put("video", [("k", torch.ones(1), meta)])
        assert cache.get(["k"])["k"][1] == meta


def test_another_encoder_finds_nothing_of_the_first(tmp_path: Path) -> None:
    one, other = Counting(), Counting()
    other.fingerprint = "counting-2"
    for encoder in (one, other):
        CachedTextEncoder(encoder, EmbeddingCache(tmp_path)).encode(["a"])
    assert other.asked == [["a"]]


def test_keys_tell_parts_apart() -> None:
    keys = {digest("a", "bc"), digest("ab", "c"), digest("abc"), digest(["a", "bc"]), digest("a", "bc", None)}
    assert len(keys) == 5
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})


def test_info_and_clear(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("text", [("a", torch.ones(2), None), ("b", torch.ones(2), None)])
    cache.put("video", [("c", torch.ones(2), None)])
    info = cache.info()
    assert info.entries == {"text": 2, "video": 1}
    assert info.size > 0
    assert cache.clear() > 0
    assert cache.get(["a"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named_with_the_way_out_and_can_be_cleared(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path)
    cache.put("text", [("a", torch.ones(2), None)])
    cache.close()
    for name in tmp_path.iterdir():
        name.write_bytes(b"this is no database" * 100)
    message = r"embeddings-2.sqlite cannot be used .*zsar cache clear --cache-dir .*--no-cache"
    for named in (EmbeddingCache(tmp_path).check, EmbeddingCache(tmp_path).info):
        with pytest.raises(ZsarError, match=message):
            named()
    with pytest.warns(UserWarning, match=f"{message} works without; going on without it"):
        assert EmbeddingCache(tmp_path).get(["a"]) == {}
    assert EmbeddingCache(tmp_path).clear() > 0
    assert EmbeddingCache(tmp_path).get(["a"]) == {}


def test_a_place_that_cannot_be_written_is_told_before_work_begins(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path / "fine").check()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ZsarError, match="cannot be used"):
        EmbeddingCache(tmp_path / "file" / "below").check()


def test_two_processes_write_side_by_side_and_one_is_killed(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        from zsar_cli.store.cache import EmbeddingCache
        cache = EmbeddingCache(Path(sys.argv[1]))
        for index in range(int(sys.argv[3])):
            cache.put("text", [(f"{sys.argv[2]}-{index}", torch.full((64,), float(index)), None)])
            print(index, flush=True)
        """
    )

    def start(name: str, count: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, str(tmp_path), name, str(count)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    endless, steady = start("endless", 10**9), start("steady", 200)
    assert endless.stdout is not None
    for _ in range(50):
        endless.stdout.readline()
    os.kill(endless.pid, signal.SIGKILL)
    endless.communicate()
    steady.communicate(timeout=120)
    assert steady.returncode == 0
    found = EmbeddingCache(tmp_path).get([f"steady-{index}" for index in range(200)])
    assert all(torch.equal(found[f"steady-{index}"][0], torch.full((64,), float(index))) for index in range(200))
    survivors = EmbeddingCache(tmp_path).get([f"endless-{index}" for index in range(50)])
    assert len(survivors) == 50  # what was told as written is there
