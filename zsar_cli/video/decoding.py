"""What runs in a decode process: requests in, windows and facts out. See `workers` for the other side.

The two speak in turns: every message of the parent is answered by one message of the process.
"""

from __future__ import annotations

import pickle
import pkgutil
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import InputError, ZsarError
from zsar_cli.video.assembly import together
from zsar_cli.video.content import content_digest
from zsar_cli.video.limits import limit_memory
from zsar_cli.video.processes import SIGALRM, listen, one_line, take_pipes
from zsar_cli.video.sampling import Indivisible
from zsar_cli.video.shared_frames import SharedFrames, bytes_of_a_frame
from zsar_cli.video.types import VideoFacts, View, Window, WindowBatch

__all__ = ["BOOT", "DigestOf", "Ended", "Frames", "Part", "Planned", "Request", "Task", "serve"]

BOOT = "import sys; sys.path[:] = sys.argv[1:]; from zsar_cli.video.decoding import serve; serve()"
_AT_ONCE = 4  # frames that networks take at a time (`networks.parts`): a multiple of them goes into one message,
_FEW, _MOST = 16, 23  # as soon as it has so many windows, at the latest when it has so many
_ORPHAN_GRACE = 2.0  # seconds past the time limit after which a process without a parent ends itself


@dataclass(frozen=True)
class Task:
    """What the process is told once, before the first file; answered by None."""

    read: str
    views: tuple[View, ...]
    decoder: str
    timeout: float
    shared: str
    size: int


@dataclass(frozen=True)
class Request:
    """A file to decode, or a part of it: these views, or, where they are None, what the answer to its digest says.

    Args:
        share: of a file that several processes read, the windows that are read here; those of how many.
    """

    path: str
    within: Window | None
    views: tuple[int, ...] | None
    hashes: str | None
    share: tuple[range, int] | None = None


@dataclass(frozen=True)
class Planned:
    """The windows of a view of a file and the seconds they last; answered by the range of those to read."""

    windows: int
    seconds: float


@dataclass(frozen=True)
class DigestOf:
    """The content of the file; answered by the views to decode."""

    digest: str | None


@dataclass(frozen=True)
class Frames:
    """Windows whose frames lie in the shared memory; answered by True once they were taken."""

    view: int
    windows: tuple[Window, ...]
    shown: NDArray[np.int64]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """What came of one view of a file: windows, or at their end what is known of the file; answered by True.

    From the pool None says that no window so far counts: all of them will come again.
    """

    view: int
    content: WindowBatch | VideoFacts | None


@dataclass(frozen=True)
class Ended:
    """Nothing more comes of the file."""


def serve() -> None:
    """Answers requests until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent cleans up
    if SIGALRM is not None:
        signal.signal(SIGALRM, signal.SIG_DFL)
    incoming, outgoing = take_pipes()
    task = pickle.load(incoming)
    assert isinstance(task, Task)
    pkgutil.resolve_name(task.read)
    limit_memory()
    shared = SharedFrames.attach(task.shared, task.size)
    questions: queue.SimpleQueue[object] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(incoming, questions), daemon=True).start()

    def say(message: object) -> object:
        """Sends a message; returns what the parent says next."""
        data = pickle.dumps(message, protocol=5)
        _end_after(0)
        outgoing.write(data)
        outgoing.flush()
        heard = questions.get()
        _end_after(task.timeout + _ORPHAN_GRACE)
        return heard

    request = say(None)
    while True:
        assert isinstance(request, Request)
        request = _answer(task, request, shared, say)


def _answer(task: Task, request: Request, shared: SharedFrames, say: Callable[[object], object]) -> object:
    """All messages of one file; returns the next request."""
    try:
        wanted: object = request.views
        if request.hashes is not None:
            wanted = say(DigestOf(content_digest(request.path, request.hashes)))
        assert isinstance(wanted, tuple)
        for index in wanted:
            _decode(task, request, index, shared, say)
        last: object = Ended()
    except (ZsarError, Indivisible) as error:
        last = error
    except MemoryError:
        last = InputError(request.path, "decode", "it needs more memory than one file may take", task.decoder)
    except BaseException as error:  # sys.exit() in a decoder is no reason to lose the process
        last = InputError(request.path, "decode", one_line(error), task.decoder)
    return say(last)


def _decode(task: Task, request: Request, index: int, shared: SharedFrames, say: Callable[[object], object]) -> None:
    """One view of a file."""
    view, read = task.views[index], pkgutil.resolve_name(task.read)
    as_planned = request.share is None

    def allot(windows: int, seconds: float) -> range:
        nonlocal as_planned
        if request.share is None:
            answer = say(Planned(windows, seconds))
            assert isinstance(answer, range)
            return answer
        share, expected = request.share
        as_planned = windows == expected
        return share

    parts = read(request.path, view.sampling, view.geometry, task.decoder, request.within, allot)
    for part in _batches(parts, shared.size // bytes_of_a_frame(view), view.sampling.frames):
        if not as_planned:  # the file is not as it was when it was divided
            raise Indivisible
        if isinstance(part, WindowBatch):
            frames = np.stack(part.frames)
            shared.write(frames)
            say(Frames(index, part.windows, part.shown, frames.shape))
        else:
            say(Part(index, part))


def _batches(
    parts: Iterator[WindowBatch | VideoFacts], room: int, frames: int
) -> Iterator[WindowBatch | VideoFacts]:
    """Windows together, as many as there is room for: `room` frames, where the next may bring as many as `frames`."""
    held: list[WindowBatch] = []
    for part in parts:
        if isinstance(part, WindowBatch):
            held = [together([*held, part])]
            windows, count = len(held[0].windows), len(held[0].frames)
            if (windows < _FEW or (windows < _MOST and count % _AT_ONCE)) and count + frames <= room:
                continue
        yield from held
        held = []
        if not isinstance(part, WindowBatch):
            yield part


def _end_after(seconds: float) -> None:
    """Has the system end this process after `seconds` (0: not at all).

    Only of use when the parent was killed while a decoder holds the interpreter lock, so that `listen`
    cannot run: the default action of SIGALRM needs no interpreter.
    """
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
