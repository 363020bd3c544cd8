"""Results that go on: the bytes of a job that was never stopped, whatever a kill, a ctrl-C or a full disk left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.records import Prediction, Run, Segment, VideoRecord
from zsar_cli.report import open_writer
from zsar_cli.report.resume import ResumedWriter, check_resume
from zsar_cli.video.types import Sampling, VideoFacts, VideoInfo

SAMPLING = {"windows": 1, "window": 4.0, "stride": 2.0, "exact": True}
RUN = Run(
    "builtin", "sha256:01", "sha256:fe", 2, {"top_k": 5, "sampling": SAMPLING}, "words sha256:b", "cpu", "float32",
    {"torch": "2.13.0"}, zsar="0.1.0",
)  # fmt: skip
INFO = VideoInfo(320, 240, 7.0, 25.0, "h264", "mov,mp4")


class Disk:
    """Files as paths to contents; those with "bad" in their content fail. Counts what is done."""

    def __init__(self, **contents: str) -> None:
        self.contents = contents
        self.done: list[str] = []

    def content(self, path: str) -> str | None:
        return f"sampled:{self.contents[path]}" if path in self.contents else None

    def record(self, path: str) -> VideoRecord:
        self.done.append(path)
        if path not in self.contents or "bad" in self.contents[path]:
            return VideoRecord.failed(InputError(path, "open", "no video"))
        value = len(self.contents[path]) / 7
        facts = VideoFacts(path, INFO, Sampling(), "pyav", "18", content=self.content(path))
        best = (Prediction("a", 0.9, value), Prediction("b \u2028", 0.1, -value))
        return VideoRecord(path, best, facts=facts, windows=3, segments=(Segment("a", 0.1, value + 1, 2, 1, 0.5),))


def resume(target: Path, disk: Disk, *paths: str, run: Run = RUN, stop: int | None = None) -> ResumedWriter:
    """A job that goes on; `stop` interrupts it after so many records."""
    writer = ResumedWriter(target, run, None, "sampled")
    todo = writer.lacking(paths, disk.content)
    with writer:
        for number, path in enumerate(todo):
            if number == stop:
                raise KeyboardInterrupt
            writer.write(disk.record(str(path)))
        if stop == len(todo):
            raise KeyboardInterrupt
    return writer


def whole(target: Path, disk: Disk, *paths: str, run: Run = RUN) -> bytes:
    """The file of a job that was never stopped."""
    with open_writer("jsonl", target, overwrite=True, run=run) as writer:
        for path in paths:
            writer.write(disk.record(path))
    disk.done.clear()
    return target.read_bytes()


def paths_in(file: Path) -> list[str]:
    return [json.loads(line)["path"] for line in file.read_bytes().splitlines()]


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go; the paths of the disk begin here."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "r.jsonl"


@pytest.fixture
def disk() -> Disk:
    return Disk(**{f"{name}.mp4": name * 3 for name in "abcdefgh"}, **{"x.mp4": "bad"})


ALL = ("a.mp4", "b.mp4", "x.mp4", "c.mp4", "none.mp4", "d.mp4", "e.mp4")
FAILED = ["x.mp4", "none.mp4"]


@pytest.mark.parametrize("cut", [0, 1, 30, -1])  # bytes of the record under way when the job was killed
@pytest.mark.parametrize("count", range(len(ALL) + 1))
def test_after_a_kill_the_file_is_that_of_a_job_that_was_never_stopped(
    target: Path, disk: Disk, count: int, cut: int
) -> None:
    expected = whole(target, disk, *ALL)
    target.unlink()
    lines = expected.splitlines(keepends=True)
    torn = lines[count][:cut] if count < len(ALL) else b""
    Path(f"{target}.part").write_bytes(b"".join(lines[:count]) + torn)
    resume(target, disk, *ALL)
    assert target.read_bytes() == expected
    assert list(target.parent.iterdir()) == [target]
    done = [path for path in ALL[:count] if path not in FAILED]
    # A record that lacks nothing but the end of its line is whole.
    done += [ALL[count]] if cut == -1 and count < len(ALL) and ALL[count] not in FAILED else []
    assert disk.done == [path for path in ALL if path not in done]


@pytest.mark.parametrize("stop", range(4))
def test_after_ctrl_c_too_and_again_and_again(target: Path, disk: Disk, stop: int) -> None:
    expected = whole(target, disk, *ALL)
    target.unlink()
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            resume(target, disk, *ALL, stop=stop)
        if stop:
            assert len(set(paths_in(target))) == len(paths_in(target)) >= stop, "a file of its own, without doubles"
    assert resume(target, disk, *ALL).before == len({*disk.done[: 3 * stop]} - {*FAILED})
    assert target.read_bytes() == expected


def die(*_: object, **__: object) -> None:
    """What a kill is to those who come after: it ends the program, and nothing is cleaned up."""
    raise Killed


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_kill_while_the_file_is_put_in_order_loses_nothing(
    target: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    expected = whole(target, disk, *ALL)
    target.write_bytes(b"".join(expected.splitlines(keepends=True)[2:4]))
    before = target.read_bytes()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(os, call, die)
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        resume(target, disk, *ALL)
    assert target.read_bytes() == before and Path(f"{target}.part").exists()
    disk.done.clear()
    resume(target, disk, *ALL)
    assert target.read_bytes() == expected and list(target.parent.iterdir()) == [target]
    assert disk.done == FAILED, "nothing that was done is done again"


def test_a_kill_between_the_move_and_the_end_leaves_no_doubles(target: Path, disk: Disk) -> None:
    expected = whole(target, disk, *ALL)
    Path(f"{target}.part").write_bytes(b"".join(expected.splitlines(keepends=True)[2:]))
    resume(target, disk, *ALL)
    assert target.read_bytes() == expected and list(target.parent.iterdir()) == [target]


def test_next_weeks_are_added_behind(target: Path, disk: Disk) -> None:
    whole(target, disk, "c.mp4", "a.mp4", "x.mp4")
    writer = resume(target, disk, "d.mp4", "b.mp4")
    assert paths_in(target) == ["c.mp4", "a.mp4", "x.mp4", "d.mp4", "b.mp4"] and writer.before == 0
    assert disk.done == ["d.mp4", "b.mp4"]
    resume(target, disk, "b.mp4", "e.mp4", "d.mp4")
    assert paths_in(target) == ["c.mp4", "a.mp4", "x.mp4", "b.mp4", "e.mp4", "d.mp4"]
    assert disk.done == ["d.mp4", "b.mp4", "e.mp4"]


def test_a_killed_job_that_added_to_a_file_goes_on(target: Path, disk: Disk) -> None:
    old = whole(target, disk, "a.mp4", "b.mp4")
    expected = whole(target, disk, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    target.write_bytes(old)
    Path(f"{target}.part").write_bytes(expected.splitlines(keepends=True)[2] + b'{"schema": "zs')
    resume(target, disk, "c.mp4", "d.mp4")
    assert target.read_bytes() == expected and disk.done == ["d.mp4"]


def test_what_changed_is_done_again_and_what_failed_is_tried_again(target: Path, disk: Disk) -> None:
    whole(target, disk, "a.mp4", "x.mp4", "b.mp4")
    disk.contents |= {"b.mp4": "other", "x.mp4": "mended"}
    with pytest.raises(KeyboardInterrupt):
        resume(target, disk, "a.mp4", "x.mp4", "b.mp4", stop=1)
    assert paths_in(target) == ["a.mp4", "x.mp4", "b.mp4"], "each has its row before all are done"
    resume(target, disk, "a.mp4", "x.mp4", "b.mp4")
    assert disk.done == ["x.mp4", "b.mp4"]
    found = target.read_bytes()
    assert found == whole(target, disk, "a.mp4", "x.mp4", "b.mp4")


def test_a_moved_file_takes_its_record_along_and_a_copy_gets_one(target: Path, disk: Disk) -> None:
    for name in ("a.mp4", "b.mp4"):
        Path(name).touch()
    whole(target, disk, "a.mp4", "b.mp4", "c.mp4")
    Path("b.mp4").unlink()
    disk.contents |= {"new/b.mp4": disk.contents.pop("b.mp4"), "copy.mp4": disk.contents["a.mp4"]}
    writer = resume(target, disk, "new/b.mp4", "copy.mp4")
    assert disk.done == [] and writer.before == 2
    assert paths_in(target) == ["a.mp4", "c.mp4", "new/b.mp4", "copy.mp4"]
    found = target.read_bytes()
    assert found == whole(target, disk, "a.mp4", "c.mp4", "new/b.mp4", "copy.mp4")


def test_files_that_change_places_keep_their_own_records(target: Path, disk: Disk) -> None:
    whole(target, disk, "a.mp4", "b.mp4")
    disk.contents |= {"a.mp4": disk.contents["b.mp4"], "b.mp4": disk.contents["a.mp4"]}
    resume(target, disk, "a.mp4", "b.mp4")
    assert disk.done == []
    found = target.read_bytes()
    assert found == whole(target, disk, "a.mp4", "b.mp4")


def test_a_path_is_one_however_it_is_written(target: Path, disk: Disk) -> None:
    whole(target, disk, "a.mp4", "b.mp4")
    disk.contents |= {"./a.mp4": disk.contents["a.mp4"], str(Path("b.mp4").resolve()): "changed"}
    resume(target, disk, "./a.mp4", str(Path("b.mp4").resolve()))
    assert paths_in(target) == ["./a.mp4", str(Path("b.mp4").resolve())] and len(disk.done) == 1


def test_odd_names_come_back(target: Path, disk: Disk) -> None:
    odd = [os.fsdecode(b"caf\xe9.mp4"), "a\nb.mp4", '"\u2028\u202e'.join("ab"), "太极拳.mp4"]
    disk.contents |= dict(zip(odd, ("one", "three", "seven!!", "elevenelev"), strict=True))
    expected = whole(target, disk, *odd)
    resume(target, disk, *odd)
    assert target.read_bytes() == expected and disk.done == []


CHANGES: list[tuple[Run, str]] = [
    (
        replace(RUN, settings={**RUN.settings, "sampling": {**SAMPLING, "window": 2.5, "exact": False}}),
        "settings.sampling.window 4.0 before, 2.5 now (--window 4.0); "
        "settings.sampling.exact true before, false now (without --fast). ",
    ),
    (replace(RUN, precision="bfloat16"), 'precision "float32" before, "bfloat16" now (--precision fp32). '),
    (replace(RUN, labels_digest="sha256:0"), 'labels.digest "sha256:fe" before, "sha256:0" now (the same --labels). '),
    (replace(RUN, model="clip"), 'model.name "builtin" before, "clip" now (--model builtin). '),
    (replace(RUN, bank=None), 'bank "words sha256:b" before, null now. '),
    (replace(RUN, zsar="0.2.0"), 'zsar "0.1.0" before, "0.2.0" now. '),
]


@pytest.mark.parametrize(("run", "told"), CHANGES, ids=["sampling", "precision", "labels", "model", "bank", "zsar"])
@pytest.mark.parametrize("killed", [False, True])
def test_other_settings_are_refused_by_name_and_change_nothing(
    target: Path, disk: Disk, run: Run, told: str, killed: bool
) -> None:
    whole(target, disk, "a.mp4")
    place = target.rename(f"{target}.part") if killed else target
    before = place.read_bytes()
    message = f"{place}: was made with other settings: {told}Give the same again, name another file, or make all of it"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}"):
        resume(target, disk, "a.mp4", "b.mp4", run=run)
    assert place.read_bytes() == before and list(target.parent.iterdir()) == [place] and disk.done == []


def test_other_ways_to_tell_files_apart_or_numbers_of_labels_are_refused(target: Path, disk: Disk) -> None:
    whole(target, disk, "a.mp4")
    with pytest.raises(UsageError, match=r"predictions 2 before, 1 now \(--top-k 2\)\. Give"):
        ResumedWriter(target, RUN, 1, "sampled")
    with pytest.raises(UsageError, match=r'hash "sampled" before, "full" now \(--hash sampled\)\. Give'):
        ResumedWriter(target, RUN, None, "full")


def test_another_release_or_device_is_named_and_goes_on(target: Path, disk: Disk) -> None:
    whole(target, disk, "a.mp4")
    other = replace(RUN, device="cuda:0", versions={"torch": "2.14.0"})
    writer = resume(target, disk, "a.mp4", "b.mp4", run=other)
    assert writer.notes == [
        f"{target}: some of it was made with device cpu, now cuda:0; each line says with what",
        f"{target}: some of it was made with torch 2.13.0, now 2.14.0; each line says with what",
    ]
    assert [json.loads(line)["run"]["device"] for line in target.read_text().splitlines()] == ["cpu", "cuda:0"]


FOREIGN = ('{"path": "a.mp4"}\n', "keep me\n", '{\n"schema"', "[1]\n", '{"schema": "zsar.result/1"}\n')


@pytest.mark.parametrize("text", FOREIGN)
def test_what_is_no_results_is_refused_and_kept(target: Path, disk: Disk, text: str) -> None:
    good = whole(target, disk, "a.mp4")
    target.write_bytes(good + text.encode())
    with pytest.raises(UsageError, match=r"r\.jsonl, line 2: is no zsar\.result/2, .* --overwrite replaces it$"):
        resume(target, disk, "b.mp4")
    assert target.read_bytes() == good + text.encode() and list(target.parent.iterdir()) == [target]


def test_what_cannot_be_resumed_is_refused_at_once(tmp_path: Path) -> None:
    message = r"--resume goes on with a file of JSON Lines, not with .*-f jsonl -o FILE\.jsonl"
    for format, target in (("json", Path("r.json")), ("csv", Path("r.csv")), ("jsonl", None), ("jsonl", tmp_path)):
        with pytest.raises(UsageError, match=message):
            check_resume(format, target, overwrite=False)
    with pytest.raises(UsageError, match="give one of them"):
        check_resume("jsonl", Path("r.jsonl"), overwrite=True)
    check_resume("jsonl", tmp_path / "none.jsonl", overwrite=False)


def test_two_jobs_do_not_go_on_with_one_file(target: Path, disk: Disk) -> None:
    whole(target, disk, "a.mp4")
    with ResumedWriter(target, RUN, None, "sampled"), pytest.raises(OutputError, match="written by another job"):
        ResumedWriter(target, RUN, None, "sampled")


@contextlib.contextmanager
def longest(size: int) -> Iterator[None]:
    """No file may be longer than this many bytes, which stands in for the end of a disk."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits")
def test_a_full_disk_is_named_and_the_file_goes_on(target: Path, disk: Disk) -> None:
    expected = whole(target, disk, *ALL)
    old = whole(target, disk, "a.mp4", "b.mp4")
    message = "File too large; all that was done is kept, and --resume goes on with it$"
    # For what is new, but not for all of it in order; for a part of it; for nothing.
    for room in (len(expected) - 300, len(expected) * 2 // 3, 1):
        disk.done.clear()
        target.write_bytes(old)
        Path(f"{target}.part").unlink(missing_ok=True)
        with longest(room), pytest.raises(OutputError, match=message):
            resume(target, disk, *ALL)
        assert target.read_bytes() == old and not Path(f"{target}.part.whole").exists()
        assert Path(f"{target}.part").exists() == (room > 1)
        resume(target, disk, *ALL)
        assert target.read_bytes() == expected
        assert max(map(disk.done.count, {*disk.done} - {*FAILED})) <= 2
