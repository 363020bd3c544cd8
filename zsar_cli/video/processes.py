"""What a process that works on a stranger's files and the one that started it need, whatever the work is.

The two speak by pickles through a pair of pipes; see `workers` and `cut_process`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import textwrap
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

__all__ = ["SIGALRM", "Expired", "Lost", "ask", "listen", "one_line", "take_pipes"]

SIGALRM = getattr(signal, "SIGALRM", None)  # Windows has none


def one_line(error: BaseException) -> str:
    """Type and message of an exception, without line breaks, at most 300 characters."""
    return textwrap.shorten(f"{type(error).__name__}: {error}".rstrip(": "), 300)


# --- of the parent ---


class Lost(Exception):
    """The process gave no answer and is gone; the message says how it ended."""


class Expired(Lost):
    """The process was killed because its answer was late."""


def ask(process: subprocess.Popen[bytes], log: BinaryIO, question: object, limit: float) -> Any:
    """Sends a question and waits for the answer, up to `limit` seconds.

    Args:
        log: the file that is the standard error of the process.

    Raises:
        Expired: no answer came in time; the process is dead.
        Lost: the process ended, or answered with something unreadable and was killed.
    """
    assert process.stdin is not None and process.stdout is not None
    log.seek(0)  # the process writes where this file stands
    log.truncate()
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
        raise Lost(f"unreadable answer, {one_line(cause)}") from cause
    if expired.is_set() or (SIGALRM is not None and code == -SIGALRM):
        raise Expired(f"no answer within {limit:g} s") from cause
    raise Lost(_ending(code, log)) from cause


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


# --- of the child ---


def take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Moves the pipes out of a decoder's reach: its prints go to standard error, it reads an empty input."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def listen(incoming: BinaryIO, questions: queue.SimpleQueue[object]) -> None:
    """Passes messages on; ends the process at once, even in the middle of a file, when the parent is gone."""
    try:
        while True:
            questions.put(pickle.load(incoming))
    finally:
        os._exit(0)
