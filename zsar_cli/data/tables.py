"""Tables of labelled videos, with commas (.csv) or tabs (.tsv): a path, a label, and perhaps from when to when."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from zsar_cli.errors import UsageError

__all__ = ["TABLES", "Row", "read_rows"]

TABLES = {".csv": ",", ".tsv": "\t"}
_TIMES = ("start", "end")


class Row(NamedTuple):
    """A row as it stands in the file; `span` is its start and end in seconds, None where both cells are empty."""

    line: int
    path: str
    label: str
    span: tuple[float, float] | None


def read_rows(source: Path, timed: bool = False) -> list[Row]:
    """The rows below a header that names the columns `path` and `label`, and perhaps `start` and `end`.

    Args:
        source: .csv or .tsv; other columns are passed over.
        timed: whether there must be columns of times.

    Raises:
        UsageError: the file is no such table, has no rows, or a row has no path, one time alone, or a time that is no
            number of seconds.
    """
    wanted = ("path", "label", *(_TIMES * timed))
    rows = []
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=TABLES[source.suffix.lower()])
            if missing := [name for name in wanted if name not in (reader.fieldnames or ())]:
                raise UsageError(f"{source}: has no column {' and no column '.join(missing)}")
            for cells in reader:
                place = f"{source}, line {reader.line_num}"
                if not cells["path"]:
                    raise UsageError(f"{place}: its path is empty")
                rows.append(Row(reader.line_num, cells["path"], cells["label"] or "", _span(cells, place)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{source}: cannot be read as a table: {error}") from None
    if not rows:
        raise UsageError(f"{source}: has a header and no rows")
    return rows


def _span(cells: dict[str, str], place: str) -> tuple[float, float] | None:
    texts = [(cells.get(name) or "").strip() for name in _TIMES]
    if not any(texts):
        return None
    start, end = (_seconds(text, f"{place}: its {name}") for name, text in zip(_TIMES, texts, strict=True))
    if start >= end:
        raise UsageError(f"{place}: it ends at {texts[1]}, which is not after its start at {texts[0]}")
    return start, end


def _seconds(text: str, what: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not math.isfinite(seconds) or seconds < 0:
        raise UsageError(f"{what} is {text!r}; it must be seconds from the first frame, such as 62.5")
    return seconds
