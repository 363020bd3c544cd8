"""Between Arrow and NumPy: numbers, rows, vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = ["Half", "places", "plain_numbers", "to_arrow", "to_numpy"]

Half = NDArray[np.float16]


def to_numpy(column: pa.Array, width: int) -> Half:
    """Embeddings [N, D] of a column, not copied."""
    return plain_numbers(column.flatten()).reshape(-1, width)


def plain_numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """A column of numbers, none of them null. Other ways to NumPy import pandas where it is installed, in 0.3 s."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return np.from_dlpack(whole)


def places(rows: NDArray[np.int64]) -> pa.Array:
    """Numbers of rows, for `take`; without pandas as well."""
    return pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows, np.int64))])


def to_arrow(rows: Half) -> pa.Array:
    """The same the other way round."""
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
