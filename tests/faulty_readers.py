"""Readers that misbehave in every way a decoder can; decode processes load them by name.

Each has the signature of `read_video`. Where a test must know that a process has ended, the path is the
port of a socket the test listens on: the system closes the connection when the process is gone, however
it ended.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import warnings
from dataclasses import replace

import numpy as np

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling, VideoInfo


def good(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> DecodedVideo:
    """Frames made of the path, so that answers cannot be mixed up unseen; its notes tell of the process."""
    rng = np.random.default_rng(list(os.fsencode(path)))
    count, side = sampling.clips * sampling.frames, geometry.size
    frames = rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    info = VideoInfo(side, side, 1.0, 25.0, "none", "none")
    notes = (str(os.getpid()), "torch" if "torch" in sys.modules else "no torch")
    return DecodedVideo(path, frames, np.arange(count) / 25, info, sampling, decoder, "1", notes=notes)


def real(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> DecodedVideo:
    """The project's own reader, with a note on what it loaded."""
    video = read_video(path, sampling, geometry, decoder)
    return replace(video, notes=("torch" if "torch" in sys.modules else "no torch",))


def uneven(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> DecodedVideo:
    time.sleep(0.02 * (sum(map(ord, path)) % 4))
    return good(path, sampling, geometry, decoder)


def half_a_second(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> DecodedVideo:
    time.sleep(0.5)
    return good(path, sampling, geometry, decoder)


def noisy(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> DecodedVideo:
    """Writes a megabyte to each stream in every way there is, and reads what it should not."""
    warnings.warn("deprecated", stacklevel=1)
    print("x" * 1_000_000, flush=True)
    print("x" * 1_000_000, file=sys.stderr, flush=True)
    os.write(1, b"x" * 1_000_000)
    assert os.read(0, 100) == b""
    return good(path, sampling, geometry, decoder)


def by_name(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> object:
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
        return lambda: None
    elif path == "unreadable":
        return _Unreadable()
    return good(path, sampling, geometry, decoder)


def connect_and_hang(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> None:
    connection = socket.create_connection(("127.0.0.1", int(path)))
    time.sleep(3600)
    connection.close()


def connect_and_hang_with_the_lock(path: str, sampling: Sampling, geometry: Geometry, decoder: str) -> None:
    connection = socket.create_connection(("127.0.0.1", int(path)))
    hold_the_lock()
    connection.close()


def hold_the_lock() -> None:
    """Sleeps in C without releasing the interpreter lock (PyDLL, unlike CDLL, keeps it)."""
    ctypes.PyDLL(None).sleep(3600)


class _Unreadable:
    """Pickles well and cannot be unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return int, ("not a number",)
