"""What tells one video's content from another's: the key by which embeddings are kept, whatever a file is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from zsar_cli.digests import digest, sha256_of

__all__ = ["HASHES", "content_digest"]

HASHES = ("sampled", "full")
BLOCK = 65_536  # bytes
SAMPLES = 64  # blocks between the first and the last


def content_digest(path: str, how: str = "sampled") -> str | None:
    """A digest of a video file, or of the names and contents of a folder of frames; None for what cannot be read.

    Args:
        path: a file or folder.
        how: "sampled" reads a file's size, first and last block, and 64 blocks of 64 KiB spread evenly between them,
            4 MiB in all; a change that touches none of these goes unnoticed. "full" reads every byte.
    """
    try:
        if os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if os.path.isfile(os.path.join(path, name)))
            return digest("folder", [(name, content_digest(os.path.join(path, name), how)) for name in names])
        if not os.path.isfile(path):  # a FIFO would block
            return None
        found = sha256_of(Path(path)) if how == "full" else _sampled(path)
    except OSError:
        return None
    # FFmpeg chooses its demuxer by the name's suffix as well as by content.
    return f"{how}:{found}{Path(path).suffix.lower()}"


def _sampled(path: str) -> str:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        hasher = hashlib.sha256(b"%d" % size)
        if size <= BLOCK * (SAMPLES + 2):
            places, length = [0], size
        else:
            places, length = [place * (size - BLOCK) // (SAMPLES + 1) for place in range(SAMPLES + 2)], BLOCK
        for place in places:
            file.seek(place)
            hasher.update(file.read(length))
    return hasher.hexdigest()
