"""Tables of labelled videos, with commas, with tabs or as JSON: a path, a label, and perhaps from when to when."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zsar_cli.errors import UsageError
from zsar_cli.plain import read_json
from zsar_cli.records import UNKNOWN

__all__ = ["DELIMITERS", "FORMULA", "TABLES", "Row", "as_written", "read_cells", "read_rows"]

DELIMITERS = {".csv": ",", ".tsv": "\t"}
TABLES = (*DELIMITERS, ".json")
# A cell of text that begins with one of these is a formula to a spreadsheet, and is written with a quote before it; the
# last four are the wide forms that some take for the same.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_TIMES = ("start", "end")
_COLUMNS = ("path", "label", *_TIMES)


class Row(NamedTuple):
    """A row as it stands in the file, at `place`; `span` is its start and end in seconds, None where it has neither."""

    place: str
    path: str
    label: str
    span: tuple[float, float] | None


def read_rows(source: Path, timed: bool = False) -> list[Row]:
    """The rows of a table with the columns `path` and `label`, and perhaps `start` and `end`; others are passed over.

    Of a spreadsheet of zsar, which has an `answer`, rows are left out that say `unknown`, or why a video failed.

    Args:
        source: .csv or .tsv whose first row names the columns, or .json, a list of mappings.
        timed: whether there must be columns of times.

    Raises:
        UsageError: the file is no such table, has no rows, or a row has no path, one time alone, or a time that is no
            number of seconds.
    """
    rows = []
    of_json = source.suffix.lower() == ".json"
    entries = _of_json(source) if of_json else read_cells(source, ("path", "label", *(_TIMES * timed)))
    for place, cells in entries:
        if cells.get("rank"):
            raise UsageError(f"{place}: is a prediction, of the format csv-long; labelled videos are read from -f csv")
        if "answer" in cells and (cells["answer"] == UNKNOWN or (not cells["answer"] and cells.get("error"))):
            continue  # it shows none of the labels, or could not be used
        given = {name: cells[name] for name in _COLUMNS if cells.get(name) is not None}
        if wrong := [value for value in given.values() if not isinstance(value, str | int | float)]:
            raise UsageError(f"{place}: {wrong[0]!r} is neither text nor a number")
        texts = {name: str(value) if of_json else as_written(str(value)) for name, value in given.items()}
        if not texts.get("path"):
            raise UsageError(f"{place}: its path is empty")
        rows.append(Row(place, texts["path"], texts.get("label", ""), _span(texts, place)))
    if not rows:
        raise UsageError(f"{source}: has no rows")
    return rows


def read_cells(source: Path, wanted: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row of a .csv or .tsv with its place, by the names of columns, the `wanted` among them; see `read_rows`.

    A spreadsheet of zsar has an `answer`, which is the label as well.
    """
    try:
        with open(source, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=DELIMITERS[source.suffix.lower()])
            columns = reader.fieldnames or ()
            answered = "answer" in columns and "label" not in columns
            if missing := [name for name in wanted if name not in columns and not (answered and name == "label")]:
                raise UsageError(f"{source}: has no column {' and no column '.join(missing)}")
            for cells in reader:
                yield f"{source}, line {reader.line_num}", {**cells, "label": cells["answer"]} if answered else cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{source}: cannot be read as a table: {error}") from None


def as_written(cell: str) -> str:
    """A cell without the quote that keeps spreadsheets from taking text for a formula."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in FORMULA else cell


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
