"""Spreadsheets: a row a video, or of `zsar localize` a segment, as .csv, .tsv and .parquet (.xlsx: xlsx_format.py)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from zsar_cli.data.tables import FORMULA
from zsar_cli.records import UNKNOWN, VideoRecord
from zsar_cli.report.escaping import printable
from zsar_cli.report.writer import Writer

__all__ = ["SHEET", "CsvSheetWriter", "ParquetWriter", "TsvWriter", "WholeSheet", "delimited", "sheet_rows"]

# The columns, and what their cells hold where they are not empty.
SHEET: dict[str, type] = {
    "path": str,
    "answer": str,
    "similarity": float,
    "probability": float,
    "second": str,
    "margin": float,
    "unknown": float,
    "doubtful": bool,
    "reasons": str,
    "start": float,
    "end": float,
    "error": str,
}


def sheet_rows(record: VideoRecord) -> Iterator[dict[str, Any]]:
    """The rows of a record; what is not known is not in them."""
    values = record.to_dict()
    shared: dict[str, Any] = {"path": record.path}
    if record.partial is not None:
        shared["error"] = f"only {record.partial.share:.0%} was read: {record.partial.reason}"
    if record.error is not None:
        yield {"path": record.path, "error": f"{record.error.stage} failed: {record.error.reason}"}
    elif values["segments"]:
        for one in values["segments"]:
            yield {**shared, "answer": one["label"], **{key: one[key] for key in ("similarity", "start", "end")}}
    elif record.segments is not None or not record.predictions:
        yield shared
    else:
        yield {**shared, **_answered(values)}


def _answered(values: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a video that was classified; `unknown` has no similarity, and the best label comes second to it."""
    best, *others = values["predictions"]
    judged = {"unknown": values["unknown"], "doubtful": values["doubtful"], "reasons": "; ".join(values["reasons"])}
    margin = round(best["similarity"] - others[0]["similarity"], 6) if others else None
    if values["answer"] == UNKNOWN:
        return {"answer": UNKNOWN, "second": best["label"], "margin": margin, **judged}
    second = others[0]["label"] if others else None
    numbers = {"similarity": best["similarity"], "probability": best["probability"]}
    return {"answer": best["label"], **numbers, "second": second, "margin": margin, **judged}


def delimited(cells: Iterable[Any], delimiter: str = ",") -> bytes:
    """A line of a table: numbers without an exponent; text without controls, which runs nowhere as a formula."""
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(map(_cell, cells))
    return line.getvalue().encode()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format(Decimal(repr(round(value, 6) + 0.0)), "f")
    if isinstance(value, str):
        return f"'{printable(value)}" if value.startswith(FORMULA) else printable(value)
    return value


class CsvSheetWriter(Writer):
    """UTF-8, commas, quotes where needed, a header, line feeds."""

    delimiter = ","

    def _head(self) -> bytes:
        return delimited(SHEET, self.delimiter)

    def _record(self, record: VideoRecord) -> bytes:
        return b"".join(delimited(map(row.get, SHEET), self.delimiter) for row in sheet_rows(record))


class TsvWriter(CsvSheetWriter):
    """The same with tabs."""

    delimiter = "\t"


class WholeSheet(Writer):
    """A format that is written in one piece: rows are kept until then."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rows: list[dict[str, Any]] = []

    def _record(self, record: VideoRecord) -> bytes:
        self.rows += sheet_rows(record)
        return b""


class ParquetWriter(WholeSheet):
    """For data frames: paths and labels as they are, odd bytes of names as escapes."""

    def _tail(self, complete: bool) -> bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {str: pa.string(), float: pa.float64(), bool: pa.bool_()}
        columns = {
            name: pa.array([_sound(row.get(name)) for row in self.rows], kinds[kind]) for name, kind in SHEET.items()
        }
        whole = io.BytesIO()
        pq.write_table(pa.table(columns), whole)
        return whole.getvalue()


def _sound(value: Any) -> Any:
    """Text that UTF-8 can hold."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()
