"""Tensors to a safetensors file, the one way they are written; and random ones that leave the caller's alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

__all__ = ["seeded", "write_tensors"]


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file with the permissions of the user's umask; safetensors alone makes it readable to its owner only.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, dict(metadata) if metadata is not None else None)
    path.chmod(mode)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of the CPU from a seed; behind it the caller's random state is what it was, on every device.

    `torch.manual_seed` would seed the other devices too, and nothing here draws from them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
