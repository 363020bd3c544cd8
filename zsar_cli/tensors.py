"""Tensors to a safetensors file, the one way they are written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

__all__ = ["write_tensors"]


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a file with the permissions of the user's umask; safetensors alone makes it readable to its owner only.

    Raises:
        OSError, SafetensorError: it cannot be written.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, dict(metadata) if metadata is not None else None)
    path.chmod(mode)
