"""Journals and shards: what counts after a kill, a full disk, any order of changes, and putting in order."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from zsar_cli.errors import OutputError, UsageError, ZsarError
from zsar_cli.store import library as libraries
from zsar_cli.store.library import Library
from zsar_cli.store.library_spec import LibrarySpec, StoredModel
from zsar_cli.store.shards import Entry, Journal, Shard, list_shards, recover, write_shard

WIDTH = 6
MODEL = StoredModel("fake", "fake-1", WIDTH, {"sampling": {"frames": 3}, "geometry": {"size": 32}})
SPEC = LibrarySpec((MODEL,), {"window": 2.0}, "pyav", "windows/1")
TESTS = Path(__file__).parent


def vectors_of(content: str, count: int) -> np.ndarray:
    seed = int.from_bytes(content.encode(), "big") % 2**32
    return np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float16)


def entry(
    content: str, path: str, count: int = 2, kind: str = "video", added: int = 0, error: str | None = None
) -> Entry:
    if kind != "video" or error is not None:
        return Entry(content, path, kind, error=error, added=added)
    spans = np.stack([np.arange(count), np.arange(count) + 2.0], axis=1).astype(np.float64)
    return Entry(content, path, kind, 10, 20, "float32", "{}", None, spans, (vectors_of(content, count),), added)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library.make(tmp_path / "lib", SPEC)


def write(library: Library, *entries: Entry, sealed: bool = True) -> None:
    journal = Journal(library.shards, SPEC.columns)
    for one in entries:
        journal.append(one)
    if sealed:
        journal.seal()
    else:
        journal._file.close()  # as when the process dies
    library.forget()


def content(library: Library) -> dict[str, tuple[str, int]]:
    """By path what is there, after each vector was compared with what it must be."""
    library.forget()
    videos = library.videos
    seen = np.zeros(len(videos), np.int64)
    for block in library.blocks(["fake-1"]):
        ends = np.cumsum(block.counts)
        for number, end, count in zip(block.videos, ends, block.counts, strict=True):
            np.testing.assert_array_equal(block.vectors[0][end - count : end], vectors_of(videos.ids[number], count))
            np.testing.assert_array_equal(block.spans[end - count : end, 0], np.arange(count))
            seen[number] += 1
    np.testing.assert_array_equal(seen, videos.counts > 0)  # each once
    assert len(set(videos.paths)) == len(videos) == len(set(videos.ids))
    return {path: (one, int(count)) for path, one, count in zip(videos.paths, videos.ids, videos.counts, strict=True)}


@pytest.mark.parametrize("sealed", [True, False])
def test_what_is_written_is_there_at_once(library: Library, sealed: bool) -> None:
    write(library, entry("a", "/a", 3), entry("b", "/b", 1), sealed=sealed)
    assert content(library) == {"/a": ("a", 3), "/b": ("b", 1)}


def test_reading_imports_no_pandas(library: Library, tmp_path: Path) -> None:
    write(library, entry("a", "/a", 3), entry("b", "/b", 1), sealed=True)
    write(library, entry("a", "/c", 3), sealed=False)
    (tmp_path / "pandas.py").write_text("raise SystemExit('pandas was imported')")
    program = """
import sys
from pathlib import Path
import numpy as np
from zsar_cli.store.library import Library
library = Library(Path(sys.argv[1]))
print(sorted(library.videos.paths), len(library.details(np.arange(2))))
print(sum(len(block.spans) for block in library.blocks(["fake-1"])))
"""
    path = os.pathsep.join([str(tmp_path), *sys.path])
    command = [sys.executable, "-c", program, str(library.folder)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("['/b', '/c'] 2\n4\n", "")


def test_the_latest_word_on_a_content_and_on_a_path_counts(library: Library) -> None:
    write(library, entry("a", "/a"), entry("b", "/b"), entry("c", "/c"))
    write(library, entry("a", "/moved", kind="moved"))
    write(library, entry("d", "/b", 4))  # /b has another content now
    write(library, entry("c", "/c", kind="removed"))
    assert content(library) == {"/moved": ("a", 2), "/b": ("d", 4)}
    write(library, entry("b", "/again", kind="moved"), entry("c", "/c", 2))
    assert content(library) == {"/moved": ("a", 2), "/b": ("d", 4), "/again": ("b", 2), "/c": ("c", 2)}


def test_paths_that_are_no_text_are_kept(library: Library) -> None:
    name = b"/b\xff\xe4.mp4".decode("utf-8", "surrogateescape")
    write(library, entry("a", name), entry("b", "/ü \U0001f3c3.mp4"))
    assert set(content(library)) == {name, "/ü \U0001f3c3.mp4"}


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_changes_ends_as_in_a_plain_dictionary(
    library: Library, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "SMALL", 3)
    chance = random.Random(seed)
    known: dict[str, str] = {}  # path to content
    with_vectors: set[str] = set()
    for step in range(60):
        path, one = f"/{chance.randrange(6)}", chr(97 + chance.randrange(8))
        act = chance.choice(("add", "add", "move", "remove", "order", "take out"))
        if act == "order":
            library.recover()
        elif act == "take out":
            library.forget()
            gone = np.array([at == path for at in library.videos.paths], bool)
            library.remove(gone)
            known.pop(path, None)
        elif act == "add" or (act == "move" and one in known.values()):
            known = {at: other for at, other in known.items() if other != one and at != path}
            known[path] = one
            with_vectors.add(one)
            write(library, entry(one, path, kind="moved" if act == "move" else "video"))
        elif act == "remove" and path in known:
            write(library, entry(known.pop(path), path, kind="removed"))
        if step % 10 == 9:
            assert {at: other for at, (other, _) in content(library).items()} == known, step
    assert len(list_shards(library.shards)) < 20


def test_a_torn_end_costs_one_video_at_most(library: Library) -> None:
    """Cut at every byte: what was appended before is there, whole."""
    journal = Journal(library.shards, SPEC.columns)
    sizes = []
    for one in "abc":
        journal.append(entry(one, f"/{one}"))
        (file,) = library.shards.glob("*.arrows")
        sizes.append(file.stat().st_size)
    journal._file.close()
    whole = file.read_bytes()
    for size in range(0, len(whole), 7):
        file.write_bytes(whole[:size])
        library.forget()
        assert content(library).keys() == {f"/{one}" for one, end in zip("abc", sizes, strict=True) if end <= size}


def test_journals_of_dead_processes_become_shards_and_those_of_living_ones_stay(library: Library) -> None:
    write(library, entry("a", "/a"), sealed=False)
    alive = Journal(library.shards, SPEC.columns)
    alive.append(entry("b", "/b"))
    script = """
        import os, sys
        sys.path[:0] = [sys.argv[2]]
        from pathlib import Path
        from test_shards import SPEC, Journal, entry
        journal = Journal(Path(sys.argv[1]), SPEC.columns)
        journal.append(entry("c", "/c"))
        os._exit(9)
    """
    dead = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(library.shards), str(TESTS)])
    assert dead.returncode == 9
    everything = {f"/{one}": (one, 2) for one in "abc"}
    assert content(library) == everything
    recover(library.shards)
    assert content(library) == everything
    assert sum(shard.is_journal for shard in list_shards(library.shards)) == 1  # that of this process
    alive.append(entry("d", "/d"))
    alive.seal()
    assert content(library) == {**everything, "/d": ("d", 2)}


def test_a_kill_while_a_shard_is_made_loses_nothing(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before each step of it, then begun again."""
    import os

    from zsar_cli.store import shards

    write(library, entry("a", "/a"), entry("b", "/b", 1), sealed=False)
    (file,) = library.shards.glob("*.arrows")
    keep = library.folder.parent / "keep"
    shutil.copytree(library.shards, keep)
    stop = calls = 0

    class Killed(BaseException):
        pass

    def dying(true):  # type: ignore[no-untyped-def]
        def call(*given, **more):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == stop:
                raise Killed
            return true(*given, **more)

        return call

    name = file.name.removesuffix(".journal.arrows")
    for step in range(1, 7):
        stop, calls = step, 0
        shutil.rmtree(library.shards)
        shutil.copytree(keep, library.shards)
        with monkeypatch.context() as patch:
            patch.setattr(shards.os, "replace", dying(os.replace))
            patch.setattr(shards.os, "fsync", dying(os.fsync))
            with contextlib.suppress(Killed):
                shards._seal(library.shards, name)
        assert content(library) == {"/a": ("a", 2), "/b": ("b", 1)}
        shards._seal(library.shards, name)
        assert content(library) == {"/a": ("a", 2), "/b": ("b", 1)}
        assert not list(library.shards.glob("*.part")) and not list(library.shards.glob("*.arrows"))


def test_a_full_disk_is_named_and_the_library_can_be_read(library: Library) -> None:
    script = """
        import resource, signal, sys
        sys.path[:0] = [sys.argv[2]]
        from pathlib import Path
        from test_shards import SPEC, Journal, entry
        from zsar_cli.errors import OutputError
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        journal = Journal(Path(sys.argv[1]), SPEC.columns)
        for number in range(10_000):
            try:
                journal.append(entry(f"v{number}", f"/{number}"))
            except OutputError as error:
                print(number, error)
                break
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(library.shards), str(TESTS)], capture_output=True, text=True
    )
    number, _, message = done.stdout.partition(" ")
    assert str(library.shards) in message and "too large" in message, done.stderr
    assert content(library) == {f"/{one}": (f"v{one}", 2) for one in range(int(number))}
    library.recover()
    assert len(content(library)) == int(number)


def test_putting_in_order_keeps_what_was_written_meanwhile(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry written by another process while shards become one wins if it is later."""
    for number in range(4):
        write(library, entry("a", f"/{number}", kind="moved" if number else "video"))
    true = libraries.write_shard

    def meanwhile(*given, **more):  # type: ignore[no-untyped-def]
        found = true(*given, **more)
        if more.get("replaces"):
            true(library.shards, SPEC.columns, [entry("b", "/3")])
        return found

    monkeypatch.setattr(libraries, "write_shard", meanwhile)
    monkeypatch.setattr(libraries, "SMALL", 2)
    library.recover()
    assert content(library) == {"/3": ("b", 2)}


def test_readers_go_on_where_shards_are_put_in_order(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the list of the shards and their reading they become one."""
    for number in range(4):
        write(library, entry(f"v{number}", f"/{number}"))
    true, calls = libraries.list_shards, 0

    def late(folder: Path) -> list[Shard]:
        nonlocal calls
        calls += 1
        found = true(folder)
        if calls == 1:
            other = Library(library.folder)
            other._rewrite({shard.name for shard in found})
        return found

    monkeypatch.setattr(libraries, "list_shards", late)
    assert len(content(library)) == 4


def test_damage_is_found_and_named(library: Library) -> None:
    write(library, entry("a", "/a", 50))
    assert list(library.problems()) == []
    (file,) = library.shards.glob("*.windows.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(bytes(data))
    (problem,) = library.problems()
    assert str(file) in problem
    file.write_bytes(bytes(data[:100]))
    with pytest.raises(ZsarError, match="add its videos again"):
        content(library)


@pytest.mark.parametrize("gone", ["videos", "windows"])
def test_a_file_that_is_gone_is_named(library: Library, gone: str) -> None:
    write(library, entry("a", "/a", 3))
    (file,) = library.shards.glob(f"*.{gone}.parquet")
    file.unlink()
    library.forget()
    (problem,) = library.problems()
    assert "add" in problem and "again" in problem
    library.recover()
    if gone == "windows":
        with pytest.raises(ZsarError, match="add its videos again"):
            content(library)


def test_damage_is_not_passed_on(tmp_path: Path, library: Library) -> None:
    write(library, entry("a", "/a", 50))
    (file,) = library.shards.glob("*.windows.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(bytes(data))
    other = Library.make(tmp_path / "other", SPEC)
    with pytest.raises(ZsarError, match="cannot be read"):
        other.take(library)
    assert content(other) == {}


@pytest.mark.parametrize("kind", ["videos", "windows"])
def test_damage_that_changes_anything_is_found(library: Library, kind: str) -> None:
    """Pages have check sums, and some bytes between them say nothing that matters; the footer has none."""
    write(library, *(entry(f"v{number}", f"/{number}", 3) for number in range(40)))
    (file,) = library.shards.glob(f"*.{kind}.parquet")
    whole, expected, found = file.read_bytes(), content(library), 0
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in range(4, footer, footer // 60):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        if list(library.problems()):
            found += 1
        else:
            assert content(library) == expected, place
    assert found > 20
    file.write_bytes(whole)
    assert not list(library.problems())


def test_windows_of_other_videos_are_found(library: Library) -> None:
    write(library, entry("a", "/a", 2))
    write(library, entry("b", "/b", 2))
    first, second = sorted(library.shards.glob("*.windows.parquet"))
    shutil.copy(second, first)
    (problem,) = library.problems()
    assert "windows of other videos" in problem


def test_rows_that_are_missing_are_found(library: Library) -> None:
    write(library, entry("a", "/a", 5))
    write(library, entry("b", "/b", 4))
    first, second = sorted(library.shards.glob("*.windows.parquet"))
    shutil.copy(second, first)
    assert any("has 4 windows, and its videos 5" in problem for problem in library.problems())


def test_another_way_to_make_vectors_is_refused_by_name(tmp_path: Path, library: Library) -> None:
    from dataclasses import replace

    other = replace(MODEL, fingerprint="fake-2")
    cases = (
        (replace(SPEC, models=(other,)), "fingerprint of fake is fake-1"),
        (replace(SPEC, models=(replace(MODEL, name="more"),)), "holds vectors of fake, not of more"),
        (replace(SPEC, sampling={"window": 4.0}), "--window is 2.0 in this library, not 4.0"),
        (replace(SPEC, sampling={}), "--window is 2.0 in this library, not the default"),
        (replace(SPEC, decoder="decord"), "--decoder is pyav"),
        (replace(SPEC, algorithm="windows/2"), "windows/1"),
    )
    for number, (changed, what) in enumerate(cases):
        with pytest.raises(UsageError, match=what):
            Library.make(library.folder, changed)
        with pytest.raises(UsageError, match=what):
            library.take(Library.make(tmp_path / f"other-{number}", changed))
    assert Library.make(library.folder, SPEC).spec == SPEC


def test_what_is_no_library_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("x")
    for place in (tmp_path, tmp_path / "film.mp4"):
        with pytest.raises(UsageError, match="no library"):
            Library.make(place, SPEC)
        with pytest.raises(UsageError, match="no library"):
            Library(place)
    assert (tmp_path / "film.mp4").read_text() == "x"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("format: 1", "format: 2"), "later zsar"),
        (("models:", "model:"), "not as zsar"),
        (("- name", "name"), "library.yaml"),
    ],
)
def test_a_changed_description_is_refused(library: Library, change: tuple[str, str], what: str) -> None:
    file = library.folder / "library.yaml"
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(UsageError, match=what):
        Library(library.folder)


def test_a_library_is_not_merged_with_itself(library: Library) -> None:
    with pytest.raises(UsageError, match="the library itself"):
        library.take(Library(library.folder))


def test_libraries_become_one(tmp_path: Path, library: Library) -> None:
    other = Library.make(tmp_path / "other", SPEC)
    write(library, entry("a", "/a", added=5), entry("b", "/b"))
    write(other, entry("a", "/elsewhere", added=9), entry("c", "/c", 3), entry("d", "/d", error='{"stage": "open"}'))
    library.take(other)
    library.take(other)
    assert content(library) == {"/elsewhere": ("a", 2), "/b": ("b", 2), "/c": ("c", 3), "/d": ("d", 0)}
    assert content(other) == {"/elsewhere": ("a", 2), "/c": ("c", 3), "/d": ("d", 0)}


def test_what_is_taken_out_is_gone_from_the_files(library: Library) -> None:
    write(library, entry("a", "/private", 3), entry("b", "/b"))
    library.remove(np.array([path == "/private" for path in library.videos.paths]))
    assert content(library) == {"/b": ("b", 2)}
    sought = vectors_of("a", 3).tobytes()
    assert not any(sought in file.read_bytes() for file in library.shards.iterdir())


def test_writing_to_a_folder_that_is_gone_is_an_error_that_names_it(library: Library) -> None:
    shutil.rmtree(library.shards)
    with pytest.raises(OutputError, match="cannot be written"):
        write_shard(library.shards, SPEC.columns, [entry("a", "/a")])
