"""Free memory goes back to the system."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["give_back"]

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None  # of glibc alone


def give_back() -> None:
    """Hand what is free back to the system, where its allocator keeps it.

    That of Linux keeps what lies between blocks that live on, as the vectors of windows do after each batch of
    activations: the process would grow with the length of a video, many times faster than its vectors do.
    """
    if _trim is not None:
        _trim(0)
