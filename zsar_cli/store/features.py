"""Grid features of videos, one .npy file each: too large for the embedding cache, and read back memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import OutputError

__all__ = ["FeatureCache"]

Array = NDArray[np.float16]


class FeatureCache:
    """Arrays by key. A key is a digest of all that its value depends on, so an entry is never wrong.

    Args:
        folder: of the user's cache; the files lie in its folder "features", which is made on first write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "features"

    def get(self, key: str) -> Array | None:
        """The array, memory-mapped; None where there is none, or only a damaged one."""
        try:
            found: Array = np.load(self._file(key), mmap_mode="r")
        except (OSError, ValueError):
            return None
        return found

    def put(self, key: str, array: Array) -> None:
        """Keep an array; the file appears whole, so a killed process leaves nothing that could be read by mistake.

        Raises:
            OutputError: it cannot be written.
        """
        part = self.folder / f"{key}.{os.getpid()}.part"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                np.save(file, array)
            os.replace(part, self._file(key))
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"{self.folder}: features cannot be written: {error.strerror or error}") from None

    def info(self) -> tuple[int, int]:
        """Number of entries, and bytes."""
        sizes = [file.stat().st_size for file in self.folder.glob("*.npy")]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Delete them all, unfinished ones too. Returns the bytes that were freed."""
        freed = 0
        for file in (*self.folder.glob("*.npy"), *self.folder.glob("*.part")):
            freed += file.stat().st_size
            file.unlink()
        return freed

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.npy"
