"""Arrays that live in files and are mapped into memory."""

from __future__ import annotations

import contextlib
import errno
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

from zsar_cli.errors import OutputError

__all__ = ["allocate", "mapped"]

PIECE = 2**20  # bytes written at a time where the system cannot reserve space
CANNOT = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def allocate(file: Path, dtype: DTypeLike, shape: Sequence[int]) -> NDArray[Any]:
    """A new .npy file of zeros, mapped, for which the disk has the space.

    A mapped file cannot say later that the disk is full: the first write to a page without space ends the process
    (SIGBUS).

    Raises:
        OutputError: names the file and the bytes it takes; nothing is left of it.
    """
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    try:
        with open(file, "wb") as opened:
            header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": tuple(shape)}
            np.lib.format.write_array_header_1_0(opened, header)
            opened.flush()
            _reserve(opened, size)
        return mapped(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            file.unlink()
        raise OutputError(f"{file}: cannot be written, it takes {size:,} bytes: {error.strerror or error}") from None


def mapped(file: Path) -> NDArray[Any]:
    """The array of a file that is there."""
    array: NDArray[Any] = np.lib.format.open_memmap(file, "r+")
    return array


def _reserve(file: BinaryIO, size: int) -> None:
    """Take `size` bytes of the disk at the end of the file."""
    try:
        os.posix_fallocate(file.fileno(), file.tell(), size)
        return
    except AttributeError:
        pass  # Windows and macOS have no such call
    except OSError as error:
        if error.errno not in CANNOT:
            raise
    for start in range(0, size, PIECE):
        file.write(bytes(min(PIECE, size - start)))
    file.flush()
    os.fsync(file.fileno())
