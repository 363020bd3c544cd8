"""Tables of labelled videos: a path, a label, and perhaps from when to when."""

from __future__ import annotations

import contextlib
import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zsar_cli.errors import MissingExtraError, UsageError
from zsar_cli.plain import read_json
from zsar_cli.records import UNKNOWN

__all__ = ["FORMULA", "SHEETS", "TABLES", "Row", "read_cells", "read_rows"]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SHEETS = (*DELIMITERS, ".xlsx", ".parquet")  # whose columns have names
TABLES = (*SHEETS, ".json")
# A cell of text that begins with one of these is a formula to a spreadsheet, and is written with a quote before it; the
# last four are the wide forms that some take for the same.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_TIMES = ("start", "end")
_COLUMNS = ("path", "label", *_TIMES)


class Row(NamedTuple):
    """A row as it stands in the file.

    Args:
        place: of the row, for messages.
        path: relative to `folder`, where it is relative.
        label: empty where it has none.
        span: its start and end in seconds; None where it has neither.
        folder: that of the table; of a spreadsheet of zsar the current one, as in all results.
    """

    place: str
    path: str
    label: str
    span: tuple[float, float] | None
    folder: Path


def read_rows(source: Path, timed: bool = False) -> list[Row]:
    """The rows of a table with the columns `path` and `label`, and perhaps `start` and `end`; others are passed over.

    Of a spreadsheet of zsar, which has an `answer`, rows are left out that say `unknown`, or why a video failed.

    Args:
        source: .csv, .tsv, .xlsx or .parquet whose first row or whose columns have these names, or .json, a list of
            mappings.
        timed: whether there must be columns of times.

    Raises:
        UsageError: the file is no such table, has no rows, or a row has no path, one time alone, or a time that is no
            number of seconds.
        MissingExtraError: a package that reads .xlsx is not installed.
    """
    rows = []
    of_json = source.suffix.lower() == ".json"
    entries = _of_json(source) if of_json else read_cells(source, ("path", "label", *(_TIMES * timed)))
    for place, cells in entries:
        if cells.get("rank"):
            raise UsageError(f"{place}: is a prediction, of the format csv-long; labelled videos are read from -f csv")
        answered = "answer" in cells
        if answered and (cells["answer"] == UNKNOWN or (not cells["answer"] and cells.get("error"))):
            continue  # it shows none of the labels, or could not be used
        given = {name: cells[name] for name in _COLUMNS if cells.get(name) is not None}
        if wrong := [value for value in given.values() if not isinstance(value, str | int | float)]:
            raise UsageError(f"{place}: {wrong[0]!r} is neither text nor a number")
        texts = {name: str(value) for name, value in given.items()}
        if not texts.get("path"):
            raise UsageError(f"{place}: its path is empty")
        folder = Path() if answered else source.parent
        rows.append(Row(place, texts["path"], texts.get("label", ""), _span(texts, place), folder))
    if not rows:
        raise UsageError(f"{source}: has no rows")
    return rows


def read_cells(source: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row of one of `SHEETS` with its place, by the names of columns, the `wanted` among them; see `read_rows`.

    A spreadsheet of zsar has an `answer`, which is the label as well.
    """
    kind = source.suffix.lower()
    read = {".xlsx": _of_xlsx, ".parquet": _of_parquet}.get(kind, _of_text)
    rows = read(source)
    _, columns = next(rows, ("", ()))
    answered = "answer" in columns and "label" not in columns
    if missing := [name for name in wanted if name not in columns and not (answered and name == "label")]:
        there = ", ".join(map(str, columns)) or "none"
        raise UsageError(f"{source}: has no column {' and no column '.join(missing)}; it has {there}")
    for place, values in rows:
        cells = dict.fromkeys(columns) | dict(zip(columns, values, strict=False))
        yield place, {**cells, "label": cells.get("answer")} if answered else cells


_Rows = Iterator[tuple[str, Sequence[Any]]]  # the names of the columns first; each with its place


def _of_text(source: Path) -> _Rows:
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=DELIMITERS[source.suffix.lower()])
            for row in reader:
                if row:
                    yield f"{source}, line {reader.line_num}", [_as_written(cell) for cell in row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{source}: cannot be read as a table: {error}") from None


def _as_written(cell: str) -> str:
    """A cell without the quote that keeps spreadsheets from taking text for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell


def _of_xlsx(source: Path) -> _Rows:
    """Of the first sheet; a formula counts as what it gave when the file was saved."""
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise MissingExtraError("openpyxl", "xlsx", f"reading {source}") from None
    try:
        book = load_workbook(source, read_only=True, data_only=True)
    except Exception as error:  # of zipfile, of XML, of openpyxl
        raise UsageError(f"{source}: cannot be read as a table: {error}") from None
    with contextlib.closing(book):
        for number, row in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            if any(cell is not None for cell in row):
                yield f"{source}, row {number}", row


def _of_parquet(source: Path) -> _Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(source)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{source}: cannot be read as a table: {error}") from None
    yield f"{source}", table.column_names
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"{source}, row {number}", list(row.values())


def _of_json(source: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    entries = read_json(source, UsageError)
    if not isinstance(entries, list):
        raise UsageError(f"{source}: is no list of mappings with path, label, start and end")
    for number, entry in enumerate(entries, start=1):
        place = f"{source}, entry {number}"
        if not isinstance(entry, Mapping):
            raise UsageError(f"{place}: {entry!r} is no mapping with path, label, start and end")
        yield place, entry


def _span(cells: Mapping[str, str], place: str) -> tuple[float, float] | None:
    texts = [cells.get(name, "").strip() for name in _TIMES]
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
