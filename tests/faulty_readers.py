"""Readers that misbehave in every way a decoder can; decode processes load them by name.

Each has the signature of `read_windows`. Where a test must know that a process has ended, the path is the
port of a socket the test listens on: the system closes the connection when the process is gone, however
it ended.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.reader import read_windows
from zsar_cli.video.sampling import spans
from zsar_cli.video.types import Geometry, Sampling, VideoFacts, VideoInfo, Window, WindowBatch

Parts = Iterator[WindowBatch | VideoFacts]


def batch(spans: list[tuple[float, float]], clips: NDArray[np.uint8]) -> WindowBatch:
    """Windows that share no frame: clips [n, T, S, S, 3]."""
    frames = clips.reshape(-1, *clips.shape[2:])
    return WindowBatch(tuple(Window(*span) for span in spans), frames, np.arange(len(frames)).reshape(clips.shape[:2]))


def good(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    """Frames made of the path, so that answers cannot be mixed up unseen; its notes tell of the process."""
    rng = np.random.default_rng(list(os.fsencode(path)))
    count, side = sampling.windows * sampling.frames, geometry.size
    frames = rng.integers(0, 256, (sampling.windows, sampling.frames, side, side, 3), dtype=np.uint8)
    info = VideoInfo(side, side, 1.0, 25.0, "none", "none")
    notes = (str(os.getpid()), "torch" if "torch" in sys.modules else "no torch")
    yield batch(spans(1.0, sampling).tolist(), frames)
    yield VideoFacts(path, info, sampling, decoder, "1", tuple((np.arange(count) / 25).tolist()), notes=notes)


def real(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *more: Any) -> Parts:
    """The project's own reader, with a note on what it loaded."""
    for part in read_windows(path, sampling, geometry, decoder, *more):
        note = ("torch" if "torch" in sys.modules else "no torch",)
        yield replace(part, notes=note) if isinstance(part, VideoFacts) else part


def fails_in_shares(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *more: Any) -> Parts:
    """The project's own reader, which ends its process in the second share of a file."""
    within, allot = more

    def asked(windows: int, seconds: float) -> range:
        share = allot(windows, seconds)
        if share.start:
            os._exit(3)
        return share

    return read_windows(path, sampling, geometry, decoder, within, asked)


def fails_late(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *more: Any) -> Parts:
    """The project's own reader, which fails at the end of what it reads."""
    for part in read_windows(path, sampling, geometry, decoder, *more):
        if isinstance(part, VideoFacts):
            raise InputError(path, "decode", "too late", decoder)
        yield part


def endless(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    """A window after another, for ever, each a little later than the one before."""
    for second in itertools.count():
        time.sleep(0.01)
        frames = np.full((1, sampling.frames, geometry.size, geometry.size, 3), second % 256, dtype=np.uint8)
        yield batch([(second, second + 1)], frames)


def uneven(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    time.sleep(0.02 * (sum(map(ord, path)) % 4))
    yield from good(path, sampling, geometry, decoder)


def half_a_second(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    time.sleep(0.5)
    yield from good(path, sampling, geometry, decoder)


def noisy(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    """Writes a megabyte to each stream in every way there is, and reads what it should not."""
    warnings.warn("deprecated", stacklevel=1)
    print("x" * 1_000_000, flush=True)
    print("x" * 1_000_000, file=sys.stderr, flush=True)
    os.write(1, b"x" * 1_000_000)
    assert os.read(0, 100) == b""
    yield from good(path, sampling, geometry, decoder)


def by_name(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Iterator[object]:
    """Does what the path says; any other path is read well."""
    if path == "hang":
        time.sleep(3600)
    elif path == "hang with the lock":
        hold_the_lock()
    elif path == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif path == "exit":
        sys.exit(3)
    elif path == "hard exit":
        os.write(2, b"first line\nlibrary: cannot go on\n")
        os._exit(3)
    elif path == "input error":
        raise InputError(path, "open", "not a video", decoder)
    elif path == "other error":
        raise ValueError("a line\nand another")
    elif path == "settings error":
        raise UsageError("no such decoder")
    elif path == "unpicklable":
        yield lambda: None
    elif path == "unreadable":
        yield _Unreadable()
    yield from good(path, sampling, geometry, decoder)


def connect_and_hang(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    connection = socket.create_connection(("127.0.0.1", int(path)))
    time.sleep(3600)
    connection.close()
    yield from ()


def connect_and_hang_with_the_lock(path: str, *_: object) -> Parts:
    connection = socket.create_connection(("127.0.0.1", int(path)))
    hold_the_lock()
    connection.close()
    yield from ()


def hold_the_lock() -> None:
    """Sleeps in C without releasing the interpreter lock (PyDLL, unlike CDLL, keeps it)."""
    ctypes.PyDLL(None).sleep(3600)


class _Unreadable:
    """Pickles well and cannot be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)


def three_hours(path: str, sampling: Sampling, geometry: Geometry, decoder: str, *_: object) -> Parts:
    """Windows of 4 s, one every 2 s, lit on the left in 5 of 15; the file has a byte for each that was read."""
    count, side = 5400, geometry.size
    for number in range(count):
        image = np.full((1, sampling.frames, side, side, 3), 20, dtype=np.uint8)
        image[..., : side // 2, :] = 235 if number % 15 in range(4, 9) else 20
        with open(path, "a") as file:
            file.write(".")
        yield batch([(2.0 * number, 2.0 * number + 4)], image)
    yield VideoFacts(path, VideoInfo(side, side, 2.0 * count + 2, 25.0, "none", "none"), sampling, decoder, "1")
