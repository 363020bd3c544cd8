"""Memory that a decode process and its parent both map: frames cross without being pickled."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from zsar_cli.video.types import View

__all__ = ["SharedFrames", "bytes_of_a_frame"]

SMALLEST = 16_777_216  # bytes: windows that overlap travel together, so that what they share travels once
IN_MEMORY = "/dev/shm"  # Linux; elsewhere the system's folder for temporary files, which it keeps in memory as it can


@dataclass
class SharedFrames:
    """One batch of windows at a time: the process writes, says so through its pipe, and waits until it was read.

    Args:
        path: of the file that is mapped.
        size: bytes.
        memory: the map.
    """

    path: str
    size: int
    memory: mmap.mmap

    @classmethod
    def create(cls, views: Iterable[View]) -> SharedFrames:
        """Room for the largest window of these views. Raises OSError where there is no space for it."""
        size = max([SMALLEST, *(view.sampling.frames * bytes_of_a_frame(view) for view in views)])
        folders = [IN_MEMORY, None] if os.path.isdir(IN_MEMORY) else [None]
        for number, folder in enumerate(folders, start=1):
            try:
                return cls._in(folder, size)
            except OSError:  # small in many containers
                if number == len(folders):
                    raise
        raise AssertionError("there is always a folder")

    @classmethod
    def _in(cls, folder: str | None, size: int) -> SharedFrames:
        handle, path = tempfile.mkstemp(".zsar-frames", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(handle, 0, size)  # a map into a full disk would kill the process that writes
            else:
                os.truncate(handle, size)
            return cls(path, size, mmap.mmap(handle, size))
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(handle)

    @classmethod
    def attach(cls, path: str, size: int) -> SharedFrames:
        """The other side of what `create` made."""
        with open(path, "r+b") as file:
            return cls(path, size, mmap.mmap(file.fileno(), size))

    def forget(self) -> None:
        """Take away the file's name, once both sides map it: nothing is left behind however they end."""
        with contextlib.suppress(OSError):  # Windows keeps a file that is open; `close` removes it there
            os.unlink(self.path)

    def write(self, frames: NDArray[np.uint8]) -> None:
        """Raises ValueError where there is not enough room."""
        if frames.nbytes > self.size:
            raise ValueError(f"frames {list(frames.shape)} are larger than asked for")
        np.frombuffer(self.memory, np.uint8, frames.nbytes).reshape(frames.shape)[:] = frames

    def read(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """A copy."""
        return np.frombuffer(self.memory, np.uint8, prod(shape)).reshape(shape).copy()

    def close(self) -> None:
        """Give the memory back."""
        self.memory.close()
        self.forget()


def bytes_of_a_frame(view: View) -> int:
    """As the model sees it."""
    return view.geometry.size**2 * 3
