"""The formats by name, and the one way to open an output in one of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from zsar_cli.errors import UsageError
from zsar_cli.records import Run
from zsar_cli.report.output import Output
from zsar_cli.report.writer import Writer

__all__ = ["FORMATS", "check_format", "format_for", "open_writer"]

_SUFFIXES: Mapping[str, str] = MappingProxyType({".txt": "table", ".json": "json", ".jsonl": "jsonl", ".csv": "csv"})
FORMATS = ("table", "json", "jsonl", "csv")


def format_for(target: Path | None) -> str:
    """The format that a target's suffix asks for; "table" for standard output (None).

    Raises:
        UsageError: the suffix names no format.
    """
    if target is None:
        return "table"
    if (format := _SUFFIXES.get(target.suffix.lower())) is not None:
        return format
    known = ", ".join(f"{suffix} ({format})" for suffix, format in _SUFFIXES.items())
    raise UsageError(f"{target}: its suffix names no format; known: {known}; or give --format")


def check_format(format: str) -> str:
    """The format, if it is one. Raises UsageError."""
    if format not in FORMATS:
        raise UsageError(f"format {format!r} is not known; allowed: {', '.join(FORMATS)}")
    return format


def open_writer(format: str, target: Path | None, *, overwrite: bool, run: Run, top_k: int | None = None) -> Writer:
    """Open an output before any work is done.

    Args:
        format: one of `FORMATS`.
        target: a path; None is standard output.
        overwrite: replace a file that exists.
        run: what all records share.
        top_k: how many predictions of a record are written; None is all.

    Raises:
        UsageError: the format or `top_k` is not allowed.
        OutputError: the target exists, is in no folder, or cannot be written.
    """
    from zsar_cli.report.csv_format import CsvWriter
    from zsar_cli.report.json_format import JsonLinesWriter, JsonWriter
    from zsar_cli.report.table_format import TableWriter

    writers: dict[str, type[Writer]] = {
        "table": TableWriter,
        "json": JsonWriter,
        "jsonl": JsonLinesWriter,
        "csv": CsvWriter,
    }
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k {top_k} is not allowed; give 1 or more")
    return writers[check_format(format)](Output(target, overwrite), run, top_k)
