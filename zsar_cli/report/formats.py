"""The formats by name, and the one way to open an output in one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from zsar_cli.errors import UsageError
from zsar_cli.records import Run
from zsar_cli.report.output import Output
from zsar_cli.report.writer import Writer

__all__ = ["FORMATS", "SEGMENT_FORMATS", "check_format", "check_paths", "format_for", "open_writer"]

_SUFFIXES: Mapping[str, str] = MappingProxyType({".txt": "table", ".json": "json", ".jsonl": "jsonl", ".csv": "csv"})
_SEGMENT_SUFFIXES: Mapping[str, str] = MappingProxyType({".vtt": "vtt", ".srt": "srt", ".edl": "edl", ".eaf": "elan"})
FORMATS = ("table", "json", "jsonl", "csv")
# Of segments alone.
SEGMENT_FORMATS = ("vtt", "srt", "audacity", "activitynet", "labelstudio", "fiftyone", "edl", "elan")


def format_for(target: Path | None, segments: bool = False) -> str:
    """The format that a target's suffix asks for; "table" for standard output (None).

    Args:
        segments: whether there will be segments.

    Raises:
        UsageError: the suffix names no format.
    """
    if target is None:
        return "table"
    suffixes = {**_SUFFIXES, **(_SEGMENT_SUFFIXES if segments else {})}
    if (format := suffixes.get(target.suffix.lower())) is not None:
        return format
    known = ", ".join(f"{suffix} ({format})" for suffix, format in suffixes.items())
    raise UsageError(f"{target}: its suffix names no format; known: {known}; or give --format")


def check_format(format: str, segments: bool = False) -> str:
    """The format, if it is one, and not of segments unless there will be `segments`. Raises UsageError."""
    allowed = FORMATS + SEGMENT_FORMATS * segments
    if format not in allowed:
        more = "; segments are written by zsar localize" if format in SEGMENT_FORMATS else ""
        raise UsageError(f"format {format!r} is not known; allowed: {', '.join(allowed)}{more}")
    return format


def check_paths(format: str, paths: Sequence[str]) -> None:
    """Refuse videos that one file of the format cannot hold together.

    Raises:
        UsageError: it cannot.
        MissingExtraError: the format is written by a package that is not there.
    """
    _writer(format).check_paths(paths)


def open_writer(format: str, target: Path | None, *, overwrite: bool, run: Run, top_k: int | None = None) -> Writer:
    """Open an output before any work is done.

    Args:
        format: one of `FORMATS` or `SEGMENT_FORMATS`.
        target: a path; None is standard output.
        overwrite: replace a file that exists.
        run: what all records share.
        top_k: how many predictions of a record are written; None is all.

    Raises:
        UsageError: the format or `top_k` is not allowed.
        MissingExtraError: the format is written by a package that is not there.
        OutputError: the target exists, is in no folder, or cannot be written.
    """
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k {top_k} is not allowed; give 1 or more")
    return _writer(format)(Output(target, overwrite), run, top_k)


def _writer(format: str) -> type[Writer]:
    if format == "edl":
        from zsar_cli.report.edl_format import EdlWriter

        return EdlWriter
    if format == "elan":
        from zsar_cli.report.elan_format import ElanWriter

        return ElanWriter
    from zsar_cli.report.annotation_formats import ActivityNetWriter, FiftyOneWriter, LabelStudioWriter
    from zsar_cli.report.caption_formats import AudacityWriter, SrtWriter, WebVttWriter
    from zsar_cli.report.csv_format import CsvWriter
    from zsar_cli.report.json_format import JsonLinesWriter, JsonWriter
    from zsar_cli.report.table_format import TableWriter

    writers: dict[str, type[Writer]] = {
        "table": TableWriter,
        "json": JsonWriter,
        "jsonl": JsonLinesWriter,
        "csv": CsvWriter,
        "vtt": WebVttWriter,
        "srt": SrtWriter,
        "audacity": AudacityWriter,
        "activitynet": ActivityNetWriter,
        "labelstudio": LabelStudioWriter,
        "fiftyone": FiftyOneWriter,
    }
    return writers[check_format(format, segments=True)]
