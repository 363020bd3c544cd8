"""The vectors of a library as one file, a row a window, some at a time: no more than a part of it is in memory."""

from __future__ import annotations

import contextlib
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.lib import format as npy

from zsar_cli.errors import OutputError, UsageError
from zsar_cli.report.output import check_target
from zsar_cli.store.arrow import to_arrow
from zsar_cli.store.library import Block, Library

__all__ = ["write_vectors"]


def write_vectors(library: Library, target: Path, overwrite: bool = False) -> None:
    """Columns `path`, `start`, `end` (seconds), and for each model one of its fingerprint, float16 [D].

    A path that is no text has its bytes in a further column of Parquet, `path_bytes`, and in NumPy's file surrogates in
    their place, as in Python.

    Args:
        target: .parquet, or .npz with an array for each column.

    Raises:
        UsageError: it has another suffix.
        OutputError: it cannot be written.
    """
    writers: dict[str, Callable[[Library, Path], None]] = {".parquet": _to_parquet, ".npz": _to_npz}
    if (write := writers.get(target.suffix.lower())) is None:
        raise UsageError(f"{target}: vectors are written as {' or '.join(writers)}")
    check_target(target, overwrite)
    library.filled()
    part = target.with_name(f"{target.name}.part")
    try:
        write(library, part)
        os.replace(part, target)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):  # nothing can be left where nothing can be written
            part.unlink(missing_ok=True)


def _to_parquet(library: Library, target: Path) -> None:
    fields = [pa.field("path", pa.string()), pa.field("start", pa.float64()), pa.field("end", pa.float64())]
    fields += [pa.field(name, pa.list_(pa.float16(), width)) for name, width in library.spec.columns]
    odd = any(_text(path) != path for path in library.videos.paths)
    schema = pa.schema([*fields, pa.field("path_bytes", pa.binary())] if odd else fields)
    names = [name for name, _ in library.spec.columns]
    with pq.ParquetWriter(target, schema, use_dictionary=["path"], write_statistics=False) as writer:
        for block in library.blocks(names):
            paths = _paths(library, block)
            columns = [pa.array(map(_text, paths)), *map(pa.array, block.spans.T), *map(to_arrow, block.vectors)]
            if odd:
                columns.append(pa.array([None if _text(path) == path else os.fsencode(path) for path in paths]))
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _to_npz(library: Library, target: Path) -> None:
    rows = int(library.videos.counts.sum())
    longest = max(map(len, library.videos.paths), default=1)
    with zipfile.ZipFile(target, "w") as archive:

        def add(name: str, kind: Any, shape: Sequence[int], parts: Iterator[Any]) -> None:
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                about = {"descr": npy.dtype_to_descr(np.dtype(kind)), "fortran_order": False, "shape": (rows, *shape)}
                npy.write_array_header_2_0(file, about)
                for part in parts:
                    file.write(np.ascontiguousarray(part, kind).tobytes())

        add("path", f"<U{longest}", (), (np.array(_paths(library, block)) for block in library.blocks([])))
        add("start", "<f8", (), (block.spans[:, 0] for block in library.blocks([])))
        add("end", "<f8", (), (block.spans[:, 1] for block in library.blocks([])))
        for name, width in library.spec.columns:
            add(name, "<f2", (width,), (block.vectors[0] for block in library.blocks([name])))


def _paths(library: Library, block: Block) -> list[str]:
    """Of each window."""
    counts = zip(block.videos.tolist(), block.counts.tolist(), strict=True)
    return [library.videos.paths[number] for number, count in counts for _ in range(count)]


def _text(path: str) -> str:
    """A path as text; bytes that are none are replaced."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
