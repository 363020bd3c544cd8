"""Decoding in processes of its own, with a time limit per file.

Decoders hang (sometimes while holding the interpreter lock), crash and leak, so nothing less than a process
that can be killed keeps a job going. Each process is a plain `python -c` with a pair of pipes rather than a
`multiprocessing` child: nothing is forked, the caller's `__main__` is not imported again, and it works the
same from a script, a notebook and on every system.

In the parent, one thread per process writes a path and waits for the pickled answer; a timer kills the
process when the answer is late, which the thread sees as the end of the pipe.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import pkgutil
import queue
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

from zsar_cli.errors import InputError, UsageError, ZsarError
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling

__all__ = ["DecodePool"]

Ready = TypeVar("Ready")

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from zsar_cli.video.workers import _serve; _serve()"
_FILES_PER_PROCESS = 256  # then a fresh process: a slow leak in a decoder stays small
_START_LIMIT = 60.0  # seconds for a process to start; it takes about 0.2 s on an idle machine
_ORPHAN_GRACE = 2.0  # seconds past the time limit after which a process without a parent ends itself
_LONGEST_TIMEOUT = 86_400.0  # seconds; timers of the operating system overflow far above
_SIGALRM = getattr(signal, "SIGALRM", None)  # Windows has none


@dataclass(frozen=True)
class _Task:
    """What a decode process is told once, before the first path."""

    read: str
    sampling: Sampling
    geometry: Geometry
    decoder: str
    timeout: float


class DecodePool:
    """Decode processes that outlive a bad file.

        with DecodePool(2, 120.0, sampling, geometry) as pool:
            for result in pool.decode(paths): ...

    Processes start with the first file, are reused, and are replaced when they were killed or crashed.
    Leaving the `with` block kills them all, whatever they are doing.

    Args:
        workers: number of processes, at least 1.
        timeout: seconds one file may take, counted from the moment a process begins with it.
        sampling: which frames to decode.
        geometry: how to shape them.
        decoder: handed to `read`, and named in failures.
        read: "module:function" called in the process as `read(path, sampling, geometry, decoder)`.

    Raises:
        UsageError: `workers` or `timeout` is out of range.
    """

    def __init__(
        self,
        workers: int,
        timeout: float,
        sampling: Sampling,
        geometry: Geometry,
        decoder: str = "pyav",
        read: str = "zsar_cli.video.reader:read_video",
    ) -> None:
        if workers < 1:
            raise UsageError(f"{workers} decode workers are not possible: give at least 1")
        if not 0 < timeout <= _LONGEST_TIMEOUT:
            raise UsageError(
                f"a time limit of {timeout:g} s is not possible: give seconds above 0, "
                f"at most {_LONGEST_TIMEOUT:g} (a day)"
            )
        task = _Task(read, sampling, geometry, decoder, timeout)
        self._workers = [_Worker(task) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="decode")

    def decode(self, paths: Iterable[str | Ready]) -> Iterator[DecodedVideo | InputError | Ready]:
        """Decodes files side by side; the results come in the order of `paths`.

        Anything in `paths` that is no string is a result already, and comes out in its place. `paths` is read
        lazily: at most two files per process are under way or waiting to be taken, which bounds the memory. A file
        that cannot be decoded, takes too long or crashes its process comes out as an `InputError` value and is not
        tried again. Closing the iterator early drops the files that wait.

        Raises:
            ZsarError: the reader refused the settings rather than the file, such as an unknown decoder.
        """
        pending: deque[Future[DecodedVideo | InputError | Ready]] = deque()
        try:
            for path in paths:
                pending.append(self._submit(path))
                if len(pending) >= 2 * len(self._workers):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def _submit(self, path: str | Ready) -> Future[DecodedVideo | InputError | Ready]:
        if isinstance(path, str):
            return self._threads.submit(self._decode_one, path)
        ready: Future[DecodedVideo | InputError | Ready] = Future()
        ready.set_result(path)
        return ready

    def close(self) -> None:
        """Kills the processes and ends the threads; the pool cannot be used again."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.release()

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _decode_one(self, path: str) -> DecodedVideo | InputError | Ready:
        worker = self._idle.get()  # never waits: there are as many threads as workers
        try:
            return worker.decode(path)
        finally:
            self._idle.put(worker)


class _Lost(Exception):
    """The process gave no answer and is gone; the message says how it ended."""


class _Expired(_Lost):
    """The process was killed because its answer was late."""


class _Worker:
    """One decode process at a time and the replacements of it. `decode` is called by one thread at a time."""

    def __init__(self, task: _Task) -> None:
        self._task = task
        self._process: subprocess.Popen[bytes] | None = None
        self._log: BinaryIO | None = None
        self._files = 0
        self._killed = False
        self._lock = threading.Lock()  # between starting a process and killing it for good

    def decode(self, path: str) -> DecodedVideo | InputError:
        """The answer of the process, or what became of the process, as a value."""
        task = self._task
        try:
            process = self._ready_process()
        except (_Lost, OSError) as error:
            return InputError(path, "decode", f"no decode process could be started: {error}", task.decoder)
        self._files += 1
        try:
            answer = self._ask(process, path, task.timeout)
        except _Expired:
            reason = f"no result within {task.timeout:g} s; the decoder was stopped (--timeout raises the limit)"
            return InputError(path, "timeout", reason, task.decoder)
        except _Lost as error:
            return InputError(path, "decode", f"the decoder crashed ({error})", task.decoder)
        if isinstance(answer, ZsarError) and not isinstance(answer, InputError):
            raise answer
        assert isinstance(answer, DecodedVideo | InputError), f"{task.read} returned {type(answer)}"
        return answer

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
        self._process = self._log = None

    def _ready_process(self) -> subprocess.Popen[bytes]:
        """The running process, or a new one that has loaded its reader."""
        process = self._process
        if process is not None and process.poll() is None and self._files < _FILES_PER_PROCESS:
            return process
        self.release()
        self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (`release` closes it)
        self._files = 0
        with self._lock:
            if self._killed:
                raise _Lost("the pool is closed")
            process = self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
            )
        self._ask(process, self._task, max(_START_LIMIT, self._task.timeout))
        return process

    def _ask(self, process: subprocess.Popen[bytes], question: object, limit: float) -> object:
        """Sends a question and waits up to `limit` seconds for the answer.

        Raises:
            _Expired: no answer came in time; the process is dead.
            _Lost: the process ended, or answered with something unreadable and was killed.
        """
        assert process.stdin is not None and process.stdout is not None and self._log is not None
        self._log.seek(0)  # the process writes where this file stands
        self._log.truncate()
        with _time_limit(process, limit) as expired:
            try:
                pickle.dump(question, process.stdin)
                process.stdin.flush()
                return pickle.load(process.stdout)
            except Exception as error:  # a closed pipe or the stump of an answer: whatever pickle makes of it
                cause = error
        try:
            code = process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:  # alive, so its answer was unreadable: the pipe is of no more use
            process.kill()
            process.wait()
            raise _Lost(f"unreadable answer, {_one_line(cause)}") from cause
        if expired.is_set() or (_SIGALRM is not None and code == -_SIGALRM):
            raise _Expired(f"no answer within {limit:g} s") from cause
        raise _Lost(_ending(code, self._log)) from cause


@contextlib.contextmanager
def _time_limit(process: subprocess.Popen[bytes], seconds: float) -> Iterator[threading.Event]:
    """Kills the process unless the block ends in time; the event tells that it did."""
    expired = threading.Event()

    def stop() -> None:
        expired.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()  # from here on `expired` cannot change
        if expired.is_set():
            process.wait()  # even where the answer came just in time, the next file must see it gone


def _ending(code: int, log: BinaryIO) -> str:
    """How a process ended, with the last line it wrote to its standard error."""
    ending = f"signal {-code}" if code < 0 else f"exit code {code}"
    if code == -getattr(signal, "SIGKILL", 0):
        ending += ", perhaps out of memory"
    size = log.seek(0, os.SEEK_END)
    log.seek(max(size - 4096, 0))
    lines = log.read().decode(errors="replace").strip().splitlines()
    return f"{ending}: {textwrap.shorten(lines[-1], 200)}" if lines else ending


def _one_line(error: BaseException) -> str:
    """Type and message of an exception, without line breaks, at most 300 characters."""
    return textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 300)


# The rest runs in the decode process.


def _serve() -> None:
    """Answers paths with decoded videos until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent cleans up
    if _SIGALRM is not None:
        signal.signal(_SIGALRM, signal.SIG_DFL)
    questions, answers = _take_pipes()
    task = pickle.load(questions)
    assert isinstance(task, _Task)
    pkgutil.resolve_name(task.read)
    _answer(answers, pickle.dumps(None))
    paths: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(questions, paths), daemon=True).start()
    while True:
        path = paths.get()
        _end_after(task.timeout + _ORPHAN_GRACE)
        answer = _read(task, path)
        _end_after(0)
        _answer(answers, answer)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Moves the pipes out of a decoder's reach: its prints go to standard error, it reads an empty input."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return questions, answers


def _listen(questions: BinaryIO, paths: queue.SimpleQueue[str]) -> None:
    """Passes paths on; ends the process at once, even in the middle of a file, when the parent is gone."""
    try:
        while True:
            paths.put(pickle.load(questions))
    finally:
        os._exit(0)


def _end_after(seconds: float) -> None:
    """Has the system end this process after `seconds` (0: not at all).

    Only of use when the parent was killed while a decoder holds the interpreter lock, so that `_listen`
    cannot run: the default action of SIGALRM needs no interpreter.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _read(task: _Task, path: str) -> bytes:
    """The pickled video or error; pickled here so that a result that cannot be sent is an error too."""
    try:
        video = pkgutil.resolve_name(task.read)(path, task.sampling, task.geometry, task.decoder)
        return pickle.dumps(video, protocol=5)
    except ZsarError as error:
        return pickle.dumps(error)
    except BaseException as error:  # sys.exit() in a decoder is no reason to lose the process
        return pickle.dumps(InputError(path, "decode", _one_line(error), task.decoder))


def _answer(answers: BinaryIO, answer: bytes) -> None:
    answers.write(answer)
    answers.flush()
