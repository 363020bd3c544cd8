"""What a thread that has one decode process needs to know: its file, who takes what comes of it, who shares it."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from zsar_cli.errors import InputError, ZsarError
from zsar_cli.video.decoding import Part, Planned
from zsar_cli.video.types import Window

__all__ = ["Broken", "Choose", "Event", "Job", "Sender", "Split", "Stopped"]

# The number of a file in the order of the paths, and: a part of it, why it failed, or None at its end.
Event = tuple[int, Part | InputError | None]
Choose = Callable[[int, str, str | None], Collection[int]]


class Stopped(Exception):
    """Nobody takes the results any more."""


@dataclass(frozen=True)
class Sender:
    """Hands events to the one who iterates; waits while it has enough of them."""

    events: queue.Queue[Event | ZsarError]
    ends: tuple[threading.Event, ...]

    def __call__(self, event: Event | ZsarError) -> None:
        """Raises Stopped once the iterator or the pool was closed."""
        while not any(end.is_set() for end in self.ends):
            with contextlib.suppress(queue.Full):
                return self.events.put(event, timeout=0.1)
        raise Stopped

    def fail(self, error: ZsarError) -> None:
        with contextlib.suppress(Stopped):
            self(error)


class Broken(Exception):
    """Another process failed at its share of the file."""


@dataclass
class Split:
    """What the processes that share a file know of each other.

    Args:
        reading: how many of them have not ended.
        broken: whether one failed.
        facts: what they found out of the file, which is the same.
    """

    reading: int
    broken: bool = False
    facts: Part | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self, failed: bool) -> bool:
        """One of them is done; true for the last."""
        with self.lock:
            self.reading -= 1
            self.broken = self.broken or failed
            return not self.reading


@dataclass
class Job:
    """One file, or a share of its windows. `divide` may let others have some, and then there is a `split`."""

    number: int
    path: str
    within: Window | None
    choose: Choose | None
    hashes: str
    send: Sender
    divide: Callable[[Job, Planned], range]
    share: tuple[range, int] | None = None
    split: Split | None = None
