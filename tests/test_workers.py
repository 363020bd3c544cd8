"""Decode processes: order, limits, crashes, and nothing left behind."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import faulty_readers
import numpy as np
import pytest
import videos

from zsar_cli.errors import InputError, UsageError
from zsar_cli.networks.parts import FRAMES
from zsar_cli.video import workers as workers_module
from zsar_cli.video.assembly import joined
from zsar_cli.video.content import content_digest
from zsar_cli.video.decoding import Part
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling, VideoFacts, View, WindowBatch
from zsar_cli.video.workers import DecodePool

SAMPLING, GEOMETRY = Sampling(frames=4), Geometry(32)
VIEW = View(SAMPLING, GEOMETRY)
needs_posix = pytest.mark.skipif(os.name == "nt", reason="signals and process groups of POSIX")


def pool(read: str, workers: int = 1, timeout: float = 60.0) -> DecodePool:
    return DecodePool(workers, timeout, [VIEW], "fake", f"faulty_readers:{read}")


def expected(path: str) -> DecodedVideo:
    batch, facts = faulty_readers.good(path, SAMPLING, GEOMETRY, "fake")
    assert isinstance(batch, WindowBatch) and isinstance(facts, VideoFacts)
    return joined(facts, [batch])


def failure(result: DecodedVideo | InputError) -> tuple[str, str, str, str | None]:
    assert isinstance(result, InputError)
    return result.path, result.stage, result.reason, result.decoder


def note(result: DecodedVideo | InputError, index: int) -> str:
    assert isinstance(result, DecodedVideo), result
    return result.facts.notes[index]


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def port(listener: socket.socket) -> str:
    return str(listener.getsockname()[1])


def accept(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(60)
    return connection


def wait_for_end(connection: socket.socket) -> None:
    """Returns when the process at the other end is gone; fails after a minute."""
    with connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


@pytest.mark.parametrize("workers", [1, 4])
def test_results_come_in_order_and_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    paths = [f"video {index}.mp4" for index in range(30)]
    with pool("uneven", workers) as decoders:
        results = list(decoders.decode(paths))
    assert len(results) == 30
    for path, result in zip(paths, results, strict=True):
        assert isinstance(result, DecodedVideo)
        assert (result.facts.path, result.facts.sampling, result.facts.decoder) == (path, SAMPLING, "fake")
        np.testing.assert_array_equal(result.frames, expected(path).frames)
        assert result.facts.times == expected(path).facts.times
    assert len({note(result, 0) for result in results}) <= workers


def test_a_worker_is_a_reused_process_of_its_own_without_torch() -> None:
    with pool("good") as decoders:
        results = [*decoders.decode(["a", "b"]), *decoders.decode(["c"])]
    processes = {note(result, 0) for result in results}
    assert len(processes) == 1 and str(os.getpid()) not in processes
    assert {note(result, 1) for result in results} == {"no torch"}


def test_the_real_reader_gives_what_it_gives_here_and_loads_no_torch(tmp_path: Path) -> None:
    path = str(tmp_path / "noise.mkv")
    rng = np.random.default_rng(0)
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=25, width=64, height=48)
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with DecodePool(1, 60, [VIEW]) as decoders:
        (video,) = decoders.decode([path])
    here = read_video(path, SAMPLING, GEOMETRY)
    assert isinstance(video, DecodedVideo)
    assert video.frames.shape == (1, 4, 32, 32, 3) and video.frames.std() > 10
    np.testing.assert_array_equal(video.frames, here.frames)
    assert (video.facts, video.windows) == (here.facts, here.windows)
    with DecodePool(1, 60, [VIEW], "pyav", "faulty_readers:real") as decoders:
        assert note(next(decoders.decode([path])), 0) == "no torch"


def test_a_process_is_replaced_after_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "_FILES_PER_PROCESS", 2)
    with pool("good") as decoders:
        first, second, third = (note(result, 0) for result in decoders.decode(["a", "b", "c"]))
    assert first == second != third


def test_paths_are_read_lazily() -> None:
    taken: list[str] = []

    def endless() -> Iterator[str]:
        while True:
            taken.append(f"{len(taken)}.mp4")
            yield taken[-1]

    with pool("good", workers=2) as decoders:
        results = decoders.decode(endless())
        for count in range(1, 6):
            next(results)
            assert len(taken) <= count + 7  # four results that wait, three files under way


def test_an_odd_name_reaches_the_reader() -> None:
    path = "a b\n\u00e9\u4f60 \udcff.mp4"  # the last is a byte that is not UTF-8, as Python decodes it
    with pool("good") as decoders:
        (result,) = decoders.decode([path])
    assert isinstance(result, DecodedVideo) and result.facts.path == path


@pytest.mark.parametrize("name", ["hang", pytest.param("hang with the lock", marks=needs_posix)])
def test_a_hanging_file_is_stopped_and_the_others_go_on(name: str) -> None:
    with pool("by_name", timeout=0.5) as decoders:
        before, hung, after = decoders.decode(["before", name, "after"])
    reason = "no result within 0.5 s; the decoder was stopped (--timeout raises the limit)"
    assert failure(hung) == (name, "timeout", reason, "fake")
    assert note(before, 0) != note(after, 0)


def test_the_limit_counts_from_the_start_of_a_file_not_from_queueing() -> None:
    with pool("half_a_second", timeout=2.0) as decoders:
        results = list(decoders.decode(["a", "b", "c", "d", "e"]))  # two and a half seconds in all
    assert all(isinstance(result, DecodedVideo) for result in results)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        pytest.param("segfault", "the decoder crashed (signal 11)", marks=needs_posix),
        ("hard exit", "the decoder crashed (exit code 3: library: cannot go on)"),
        ("exit", "SystemExit: 3"),
        ("other error", "ValueError: a line and another"),
    ],
)
def test_a_crash_is_the_failure_of_its_file_alone(name: str, reason: str) -> None:
    with pool("by_name") as decoders:
        before, crashed, after = decoders.decode(["before", name, "after"])
    assert failure(crashed) == (name, "decode", reason, "fake")
    assert isinstance(before, DecodedVideo) and isinstance(after, DecodedVideo)


def test_an_input_error_of_the_reader_arrives_as_it_was() -> None:
    with pool("by_name") as decoders:
        (result,) = decoders.decode(["input error"])
    assert failure(result) == ("input error", "open", "not a video", "fake")


def test_results_that_cannot_be_sent_are_failures() -> None:
    with pool("by_name") as decoders:
        unpicklable, unreadable, good = decoders.decode(["unpicklable", "unreadable", "good"])
    assert failure(unpicklable)[1] == "decode" and "<lambda>" in failure(unpicklable)[2]
    assert failure(unreadable)[1] == "decode" and "unreadable answer, ValueError" in failure(unreadable)[2]
    assert isinstance(good, DecodedVideo)


def test_settings_the_reader_refuses_are_raised() -> None:
    with pool("by_name") as decoders, pytest.raises(UsageError, match="no such decoder"):
        list(decoders.decode(["a", "settings error", "b"]))


def test_a_process_that_died_between_two_files_is_not_blamed_on_the_next() -> None:
    with pool("good") as decoders:
        (first,) = decoders.decode(["a"])
        os.kill(int(note(first, 0)), signal.SIGTERM)
        process = decoders._workers[0]._process
        assert process is not None and process.wait(60) != 0
        (second,) = decoders.decode(["b"])
    assert note(second, 0) != note(first, 0)


def test_prints_of_a_decoder_do_not_touch_the_answers(capfd: pytest.CaptureFixture[str]) -> None:
    with pool("noisy") as decoders:
        results = list(decoders.decode(["a", "b"]))
    for path, result in zip(["a", "b"], results, strict=True):
        assert isinstance(result, DecodedVideo), result
        np.testing.assert_array_equal(result.frames, expected(path).frames)
    assert capfd.readouterr() == ("", "")


def test_a_reader_that_cannot_be_loaded_is_named() -> None:
    with DecodePool(1, 60, [VIEW], "fake", "no_such_module:read") as decoders:
        results = list(decoders.decode(["a", "b"]))
    for result in results:
        assert "ModuleNotFoundError: No module named 'no_such_module'" in failure(result)[2]
    assert len(results) == 2


@pytest.mark.parametrize(("workers", "timeout"), [(0, 1.0), (1, 0.0), (1, float("inf")), (1, float("nan"))])
def test_settings_out_of_range_are_refused(workers: int, timeout: float) -> None:
    with pytest.raises(UsageError, match="not possible"):
        DecodePool(workers, timeout, [VIEW])


def test_leaving_the_pool_ends_processes_and_threads_in_the_middle_of_a_file(listener: socket.socket) -> None:
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), pool("connect_and_hang", workers=2) as decoders:
        results = decoders.decode([port(listener)] * 8)
        starter = threading.Thread(target=lambda: next(results, None))
        starter.start()
        connections = [accept(listener), accept(listener)]
        _ = 1 / 0
    starter.join(60)
    for connection in connections:
        wait_for_end(connection)
    assert threading.active_count() == threads


def test_an_iterator_closed_early_leaves_nothing_behind() -> None:
    with pool("good", workers=2) as decoders:
        results = decoders.decode(["a"] * 10)
        next(results)
        results.close()
        processes = [worker._process for worker in decoders._workers]
    assert all(process is None or process.returncode is not None for process in processes)
    assert any(process is not None for process in processes)


PARENT = """
    from zsar_cli.video.types import Geometry, Sampling, View
    from zsar_cli.video.workers import DecodePool
    with DecodePool(1, {timeout}, [View(Sampling(), Geometry(32))], "fake", "faulty_readers:{read}") as pool:
        print([result.facts.path for result in pool.decode({paths})])
"""


def environment() -> dict[str, str]:
    """Finds the package and the readers."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def start_parent(read: str, paths: list[str], timeout: float = 60.0) -> subprocess.Popen[str]:
    script = textwrap.dedent(PARENT.format(timeout=timeout, read=read, paths=paths))
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize(
    ("read", "timeout"),
    [("connect_and_hang", 60.0), pytest.param("connect_and_hang_with_the_lock", 0.5, marks=needs_posix)],
)
def test_no_process_outlives_a_killed_parent(listener: socket.socket, read: str, timeout: float) -> None:
    with start_parent(read, [port(listener)], timeout) as parent:
        connection = accept(listener)
        parent.kill()
        wait_for_end(connection)


@needs_posix
def test_an_interrupt_of_the_process_group_leaves_the_cleaning_to_the_parent(listener: socket.socket) -> None:
    with start_parent("connect_and_hang", [port(listener)]) as parent:
        connection = accept(listener)
        os.killpg(parent.pid, signal.SIGINT)
        stdout, stderr = parent.communicate(timeout=60)
        wait_for_end(connection)
    assert stdout == "" and parent.returncode != 0
    assert stderr.count("Traceback") == 1 and stderr.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("as_file", [True, False])
def test_a_script_needs_no_main_guard(tmp_path: Path, as_file: bool) -> None:
    script = textwrap.dedent(PARENT.format(timeout=60, read="good", paths=["a", "b"]))
    (tmp_path / "script.py").write_text(script)
    here = tmp_path / "elsewhere"
    here.mkdir()
    if as_file:  # then Python does not look for modules in the working directory, nor must the process
        (here / "queue.py").write_text("raise SystemExit('the wrong module')\n")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py") if as_file else "-"],
        input=None if as_file else script,
        env=environment(),
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("['a', 'b']\n", "", 0)


def test_windows_come_as_they_are_decoded_and_the_pool_holds_few_of_them() -> None:
    with pool("endless") as decoders:
        events = decoders.stream(["a"])
        batches = []
        for number, part in itertools.islice(events, 5):
            assert number == 0 and isinstance(part, Part) and isinstance(part.content, WindowBatch)
            batches.append(part.content)
        events.close()
        process = decoders._workers[0]._process
        assert process is None or process.wait(60) != 0  # nobody waits for the rest of an endless file
    starts = [window.start for batch in batches for window in batch.windows]
    assert starts == list(range(len(starts)))
    for batch in batches:
        for window, frames in zip(batch.windows, batch.pixels, strict=True):
            assert (frames == window.start % 256).all()


def test_every_view_of_a_file_is_read_by_one_process() -> None:
    views = [View(Sampling(frames=4), Geometry(32)), View(Sampling(windows=2, frames=3), Geometry(16))]
    with DecodePool(2, 60, views, "fake", "faulty_readers:good") as decoders:
        events = list(decoders.stream(["a", "b"]))
    for number in (0, 1):
        parts = [part for found, part in events if found == number]
        assert parts[-1] is None and all(isinstance(part, Part) for part in parts[:-1])
        shapes = [part.content.pixels.shape for part in parts if part and isinstance(part.content, WindowBatch)]
        assert shapes == [(1, 4, 32, 32, 3), (2, 3, 16, 16, 3)]
        facts = [part.content for part in parts if part and isinstance(part.content, VideoFacts)]
        assert [one.sampling for one in facts] == [view.sampling for view in views]
        assert len({one.notes for one in facts}) == 1


def test_views_are_chosen_by_what_a_file_holds(tmp_path: Path) -> None:
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4", tmp_path / "missing.mp4"]
    for path in paths[:2]:
        path.write_bytes(b"the same")
    told: dict[int, tuple[str, str | None]] = {}

    def choose(number: int, path: str, digest: str | None) -> tuple[int, ...]:
        told[number] = path, digest
        return () if number == 0 else (1,)

    views = [VIEW, View(Sampling(frames=2), Geometry(8))]
    with DecodePool(1, 60, views, "fake", "faulty_readers:good") as decoders:
        events = list(decoders.stream(map(str, paths), choose))
    assert [part.view if part else None for number, part in events if number == 0] == [None]
    assert [part.view if part else None for number, part in events if number == 1] == [1, 1, None]
    assert told[0][1] == told[1][1] == content_digest(str(paths[0])) is not None
    assert told[2] == (str(paths[2]), None)


def test_a_hanging_file_does_not_stop_those_after_it() -> None:
    paths = ["hang", *(f"{number}.mp4" for number in range(40))]
    ended = []
    with pool("by_name", workers=2, timeout=30.0) as decoders:
        for number, part in decoders.stream(paths):
            if part is None:
                ended.append(number)
            if len(ended) == 40:
                break
    assert sorted(ended) == list(range(1, 41))


def test_no_file_is_left_in_shared_memory() -> None:
    with pool("good") as decoders:
        next(decoders.decode(["a"]))
        shared = decoders._workers[0]._shared
        assert shared is not None and shared.path.endswith(".zsar-frames")
        assert not Path(shared.path).exists() or os.name == "nt"


def test_windows_travel_by_as_many_frames_as_networks_take_at_a_time(tmp_path: Path) -> None:
    path = str(videos.write_video(tmp_path / "a.mp4", frames=251, gop=5).path)
    with DecodePool(1, 60, [View(Sampling(window=0.2, frames=4, exact=False), GEOMETRY)]) as decoders:
        parts = [part.content for _, part in decoders.stream([path]) if part is not None]
    counts = [len(part.frames) for part in parts if isinstance(part, WindowBatch)]
    assert len(counts) in (3, 4) and all(count % FRAMES == 0 for count in counts[:-1])


WINDOWS = Sampling(window=0.3, frames=3)


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[range]:
    """What the process that begins a file reads of it, where one second is worth another process."""
    given: list[range] = []
    divide = DecodePool._divide

    def recorded(self: DecodePool, *about: object) -> range:
        given.append(divide(self, *about))
        return given[-1]

    monkeypatch.setattr(workers_module, "_WORTH", 1.0)
    monkeypatch.setattr(DecodePool, "_divide", recorded)
    return given


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: videos.write_video(path / "a.mp4", frames=101, gop=10, b_frames=2),
        lambda path: videos.write_video(path / "a.ts", frames=101, gop=10, b_frames=2),
        lambda path: videos.rotated(path / "a.mp4", 90, frames=101),
        lambda path: videos.truncated(path / "a.mp4", 0.8, frames=201, gop=10),
        lambda path: videos.corrupted(path / "a.mkv", frames=201, gop=10),
        lambda path: videos.corrupted(path / "a.ts", 0.1, 0.2, frames=201, gop=10),
        lambda path: videos.corrupted(path / "a.mkv", 0.8, 0.9, frames=201, gop=10),
    ],
    ids=["mp4", "ts", "rotated", "cut off", "damaged in the middle", "damaged early", "damaged late"],
)
def test_a_long_file_that_several_processes_share_gives_what_one_gives(
    write: Callable[[Path], videos.Clip], exact: bool, tmp_path: Path, shares: list[range]
) -> None:
    path, sampling = str(write(tmp_path).path), replace(WINDOWS, exact=exact)
    alone = read_video(path, sampling, GEOMETRY)
    with DecodePool(3, 60, [View(sampling, GEOMETRY)]) as decoders:
        (video,) = decoders.decode([path])
    assert isinstance(video, DecodedVideo)
    assert (video.facts, video.windows) == (alone.facts, alone.windows)
    np.testing.assert_array_equal(video.frames, alone.frames)
    assert not shares or shares[0].stop < len(alone.windows)


def test_all_processes_have_a_share_of_one_file_and_none_of_many(tmp_path: Path, shares: list[range]) -> None:
    path = str(videos.write_video(tmp_path / "a.mp4", frames=101, gop=10).path)
    with DecodePool(3, 60, [View(WINDOWS, GEOMETRY)]) as decoders:
        events = list(decoders.stream([path]))
        assert shares[0] == range(0, 14 // 3)
        assert sum(len(part.content.windows) for _, part in events if part and hasattr(part.content, "windows")) == 14
        assert sum(worker._process is not None for worker in decoders._workers) == 3
    with DecodePool(1, 60, [View(WINDOWS, GEOMETRY)]) as decoders:
        assert len(list(decoders.decode([path] * 3))) == 3
    assert all(share == range(14) for share in shares[3:])


def test_what_happens_to_a_share_is_no_matter(tmp_path: Path, shares: list[range]) -> None:
    path = str(videos.write_video(tmp_path / "a.mp4", frames=101, gop=10).path)
    alone = read_video(path, WINDOWS, GEOMETRY)
    with DecodePool(3, 60, [View(WINDOWS, GEOMETRY)], read="faulty_readers:fails_in_shares") as decoders:
        (video,) = decoders.decode([path])
    assert isinstance(video, DecodedVideo) and video.facts == alone.facts
    np.testing.assert_array_equal(video.frames, alone.frames)


def test_a_file_that_fails_in_shares_and_alone_is_one_failure(tmp_path: Path, shares: list[range]) -> None:
    path = str(videos.write_video(tmp_path / "a.mp4", frames=101, gop=10).path)
    with DecodePool(3, 60, [View(WINDOWS, GEOMETRY)], read="faulty_readers:fails_late") as decoders:
        (result,) = decoders.decode([path])
        assert failure(result) == (path, "decode", "too late", "pyav")
        assert isinstance(next(decoders.decode([path])), InputError)
