"""Decoding in processes of its own, with a time limit.

Decoders hang (sometimes while holding the interpreter lock), crash and leak, so nothing less than a process
that can be killed keeps a job going. Each process is a plain `python -c` with a pair of pipes rather than a
`multiprocessing` child: nothing is forked, the caller's `__main__` is not imported again, and it works the
same from a script, a notebook and on every system.

In the parent, one thread per process writes a path and takes messages until the file ends; a timer kills the
process when a message is late, which the thread sees as the end of the pipe. Frames do not go through the pipe: they
lie in memory that both sides map (`shared_frames`), a batch of windows a message. So neither side ever holds more of
a video than a few windows, however long it is.

Where processes have nothing to do they take shares of the windows of a long file that another one begins. What is
damaged in such a file, or happens to one of the processes, is no matter: all is then read again by one process alone.
"""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar

from zsar_cli.errors import InputError, UsageError, ZsarError
from zsar_cli.video.assembly import joined
from zsar_cli.video.decoding import BOOT, DigestOf, Ended, Frames, Part, Planned, Request, Task
from zsar_cli.video.jobs import Broken, Choose, Event, Job, Sender, Split, Stopped
from zsar_cli.video.limits import check_timeout
from zsar_cli.video.processes import Expired, Lost, ask, one_line
from zsar_cli.video.sampling import Indivisible
from zsar_cli.video.shared_frames import SharedFrames
from zsar_cli.video.types import DecodedVideo, Excerpt, VideoFacts, View, WindowBatch

__all__ = ["DecodePool", "Event"]

_FILES_PER_PROCESS = 256  # then a fresh process: a slow leak in a decoder stays small
_WORTH = 300.0  # seconds of video for which another process opens and scans a file
_START_LIMIT = 60.0  # seconds for a process to start; it takes about 0.2 s on an idle machine


Ready = TypeVar("Ready")


class DecodePool:
    """Decode processes that outlive a bad file.

        with DecodePool(2, 120.0, [View(sampling, geometry)]) as pool:
            for result in pool.decode(paths): ...

    Processes start with the first file, are reused, and are replaced when they were killed or crashed.
    Leaving the `with` block kills them all, whatever they are doing.

    Args:
        workers: number of processes, at least 1.
        timeout: seconds a process may take for the next windows of a file, or for its end.
        views: what to read of every file.
        decoder: handed to `read`, and named in failures.
        read: "module:function" called in the process as `read(path, sampling, geometry, decoder)`; see
            `reader.read_windows`.

    Raises:
        UsageError: `workers` or `timeout` is out of range.
    """

    def __init__(
        self,
        workers: int,
        timeout: float,
        views: Iterable[View],
        decoder: str = "pyav",
        read: str = "zsar_cli.video.reader:read_windows",
    ) -> None:
        if workers < 1:
            raise UsageError(f"{workers} decode workers are not possible: give at least 1")
        check_timeout(timeout)
        self.views = tuple(views)
        self._workers = [_Worker(read, self.views, decoder, timeout) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._name = f"decode-{id(self)}"
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=self._name)
        self._closed = threading.Event()

    def stream(
        self,
        paths: Iterable[str | Excerpt | Ready],
        choose: Choose | None = None,
        hold: Callable[[], bool] = lambda: False,
        hashes: str = "sampled",
        ahead: int | None = None,
    ) -> Generator[tuple[int, Part | InputError | Ready | None], None, None]:
        """Decodes files side by side and gives their windows when they are ready, those of different files mixed.

        For each file come its windows, view after view, each view ended by its `VideoFacts`, then None; or an
        `InputError`, after which nothing more comes of the file. Windows of a long file may come in any order, and a
        `Part` of None says that those so far do not count. `paths` is read lazily: one file more than
        there are processes is asked for. Closing the iterator stops the files under way.

        Args:
            paths: of the files, or parts of them. Anything else is a result already, and comes back with its number.
            choose: called before a file is decoded, on a thread of the pool, with its number, path and content digest
                (None where it cannot be read); returns which views to decode. None decodes all and digests nothing.
            hold: while it is true and any file is under way, no further one is begun.
            hashes: see `content.content_digest`.
            ahead: how many parts may wait to be taken; None lets two for each process.

        Raises:
            ZsarError: the reader refused the settings rather than the file, such as an unknown decoder.
        """
        events: queue.Queue[Event | ZsarError] = queue.Queue(ahead or 2 * len(self._workers))
        stopped = threading.Event()
        numbered = enumerate(paths)
        under_way, exhausted = 0, False
        try:
            while True:
                # What has been decoded is taken before more is begun.
                while not exhausted and under_way <= len(self._workers) and not (under_way and hold()):
                    if not events.empty():
                        break
                    try:
                        number, path = next(numbered)
                    except StopIteration:
                        exhausted = True
                        break
                    if not isinstance(path, str | Excerpt):
                        yield number, path
                        continue
                    file, within = (path, None) if isinstance(path, str) else (path.path, path.within)
                    send = Sender(events, (stopped, self._closed))
                    job = Job(number, file, within, choose, hashes, send, self._divide)
                    self._threads.submit(self._run, job)
                    under_way += 1
                if not under_way and exhausted:
                    return
                event = self._next(events)
                if event is None:
                    return
                if isinstance(event, ZsarError):
                    raise event
                under_way -= not isinstance(event[1], Part)
                yield event
        finally:
            stopped.set()

    def _next(self, events: queue.Queue[Event | ZsarError]) -> Event | ZsarError | None:
        """The next event; None once the pool is closed."""
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                return events.get(timeout=0.5)
        return None

    def decode(self, paths: Iterable[str | Excerpt]) -> Iterator[DecodedVideo | InputError]:
        """Whole short videos in one view, in the order of `paths`; failures are values in their place."""
        assert len(self.views) == 1
        batches: dict[int, list[WindowBatch]] = {}
        done: dict[int, DecodedVideo | InputError] = {}
        following = 0
        for number, event in self.stream(paths, hold=lambda: len(done) >= 2 * len(self._workers)):
            if isinstance(event, InputError):
                batches.pop(number, None)
                done[number] = event
            elif event is not None and isinstance(event.content, WindowBatch):
                batches.setdefault(number, []).append(event.content)
            elif event is not None and isinstance(event.content, VideoFacts):
                done[number] = joined(event.content, sorted(batches.pop(number), key=_begin))
            elif event is not None:
                batches.pop(number, None)
            while event is not None and following in done:
                yield done.pop(following)
                following += 1

    def close(self) -> None:
        """Kills the processes and ends the threads; the pool cannot be used again."""
        self._closed.set()
        for worker in self._workers:
            worker.kill()
        # Where the last reference goes on a thread of the pool, that thread cannot wait for itself.
        own = threading.current_thread().name.startswith(self._name)
        self._threads.shutdown(wait=not own, cancel_futures=True)
        for worker in self._workers if not own else ():
            worker.release()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _divide(self, job: Job, planned: Planned) -> range:
        """Which windows of a file the process that begins it reads; idle ones are given the others."""
        parts = min(1 + self._idle.qsize(), int(planned.seconds / _WORTH), planned.windows)
        if len(self.views) > 1 or parts < 2 or job.split is not None:
            return range(planned.windows)
        job.split = Split(parts)
        borders = [planned.windows * part // parts for part in range(parts + 1)]
        first, *others = map(range, borders[:-1], borders[1:])
        for share in others:
            self._threads.submit(self._run, replace(job, choose=None, share=(share, planned.windows)))
        return first

    def _run(self, job: Job) -> None:
        worker = self._idle.get()  # never waits: there are as many threads as workers
        try:
            worker.decode(job)
        except Stopped:
            worker.release()  # it is in the middle of a file that nobody waits for
        except BaseException as error:
            job.send.fail(error if isinstance(error, ZsarError) else ZsarError(f"{job.path}: {one_line(error)}"))
        finally:
            self._idle.put(worker)


def _begin(batch: WindowBatch) -> float:
    return batch.windows[0].start


class _Worker:
    """One decode process at a time and the replacements of it. `decode` is called by one thread at a time."""

    def __init__(self, read: str, views: tuple[View, ...], decoder: str, timeout: float) -> None:
        self._read, self._views, self._decoder, self._timeout = read, views, decoder, timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._log: BinaryIO | None = None
        self._shared: SharedFrames | None = None
        self._files = 0
        self._killed = False
        self._lock = threading.Lock()  # between starting a process and killing it for good

    def decode(self, job: Job) -> None:
        """Sends the file's events; what becomes of the process is a failure of the file.

        Raises:
            ZsarError: the reader refused the settings.
            Stopped: nobody waits for the events.
        """
        try:
            process = self._ready_process()
        except (Lost, OSError) as error:
            return self._fail(job, "decode", f"no decode process could be started: {error}")
        self._files += 1
        try:
            self._end(job, self._converse(process, job))
        except Broken:
            self.release()  # it is in the middle of a share that nobody waits for
            self._end(job, Indivisible())
        except Expired:
            reason = f"no result within {self._timeout:g} s; the decoder was stopped (--timeout raises the limit)"
            self._fail(job, "timeout", reason)
        except Lost as error:
            self._fail(job, "decode", f"the decoder crashed ({error})")

    def _converse(self, process: subprocess.Popen[bytes], job: Job) -> InputError | Indivisible | None:
        """One file: a request, then messages until its end; returns why it failed, if it did."""
        everything = tuple(range(len(self._views)))
        asks = job.choose is not None
        views, hashes = (None, job.hashes) if asks else (everything, None)
        request = Request(job.path, job.within, views, hashes, job.share)
        message = self._ask(process, request)
        while True:
            if job.split is not None and job.split.broken:
                raise Broken
            if isinstance(message, DigestOf):
                assert job.choose is not None
                message = self._ask(process, tuple(job.choose(job.number, job.path, message.digest)))
            elif isinstance(message, Planned):
                message = self._ask(process, job.divide(job, message))
            elif isinstance(message, Frames):
                assert self._shared is not None
                batch = WindowBatch(message.windows, tuple(self._shared.read(message.shape)), message.shown)
                job.send((job.number, Part(message.view, batch)))
                message = self._ask(process, True)
            elif isinstance(message, Part):
                if job.split is None:
                    job.send((job.number, message))
                else:
                    job.split.facts = message
                message = self._ask(process, True)
            elif isinstance(message, Ended):
                return None
            elif isinstance(message, InputError | Indivisible):
                return message
            elif isinstance(message, ZsarError):
                raise message
            else:
                raise AssertionError(f"{self._read} gave {type(message)}")

    def _fail(self, job: Job, stage: str, reason: str) -> None:
        self._end(job, InputError(job.path, stage, reason, self._decoder))

    def _end(self, job: Job, failure: InputError | Indivisible | None) -> None:
        """A file or a share of it was read. The last of those that shared one reads it again where any failed."""
        split = job.split
        if split is None:
            assert not isinstance(failure, Indivisible)
            return job.send((job.number, failure))
        if not split.end(failure is not None):
            return
        if not split.broken:
            assert split.facts is not None
            job.send((job.number, split.facts))
            return job.send((job.number, None))
        job.send((job.number, Part(0, None)))
        everything = lambda _, planned: range(planned.windows)  # noqa: E731
        self.decode(replace(job, choose=None, divide=everything, share=None, split=None))

    def kill(self) -> None:
        """Ends the process, and lets no other take its place."""
        with self._lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def release(self) -> None:
        """Closes the pipes and reaps the process; no thread may be waiting for an answer."""
        if self._process is not None:
            assert self._process.stdin is not None and self._process.stdout is not None
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()
            with contextlib.suppress(OSError):  # what was not sent yet has nowhere to go
                self._process.stdin.close()
        if self._log is not None:
            self._log.close()
        if self._shared is not None:
            self._shared.close()
        self._process = self._log = self._shared = None

    def _ready_process(self) -> subprocess.Popen[bytes]:
        """The running process, or a new one that has loaded its reader."""
        process = self._process
        if process is not None and process.poll() is None and self._files < _FILES_PER_PROCESS:
            return process
        self.release()
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (`release` closes it)
        self._shared = SharedFrames.create(self._views)
        self._files = 0
        with self._lock:
            if self._killed:
                raise Lost("the pool is closed")
            process = self._process = subprocess.Popen(
                [sys.executable, "-c", BOOT, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )
        task = Task(self._read, self._views, self._decoder, self._timeout, self._shared.path, self._shared.size)
        self._ask(process, task, max(_START_LIMIT, self._timeout))
        self._shared.forget()  # both sides have it now
        return process

    def _ask(self, process: subprocess.Popen[bytes], question: object, limit: float | None = None) -> Any:
        """Sends a question and waits for the answer, up to `limit` seconds (None: the time limit).

        Raises:
            Expired: no answer came in time; the process is dead.
            Lost: the process ended, or answered with something unreadable and was killed.
        """
        assert self._log is not None
        return ask(process, self._log, question, self._timeout if limit is None else limit)
