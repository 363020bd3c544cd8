"""The formats by name, and the one way to open an output in one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name
from types import MappingProxyType
from typing import NamedTuple

from zsar_cli.errors import UsageError
from zsar_cli.records import Run
from zsar_cli.report.caption_formats import OneVideo
from zsar_cli.report.folder import FolderWriter, check_folder
from zsar_cli.report.output import Output
from zsar_cli.report.writer import Writer

__all__ = [
    "FORMATS", "SEGMENT_FORMATS", "check_format", "check_paths", "format_for", "is_folder", "open_folder",
    "open_writer",
]  # fmt: skip


class _Format(NamedTuple):
    writer: str  # module of this room and class; what a format needs is imported when it is asked for
    suffix: str | None = None
    segments: bool = False  # of segments alone


_FORMATS: Mapping[str, _Format] = MappingProxyType(
    {
        "table": _Format("table_format:TableWriter", ".txt"),
        "json": _Format("json_format:JsonWriter", ".json"),
        "jsonl": _Format("json_format:JsonLinesWriter", ".jsonl"),
        "csv": _Format("sheet_formats:CsvSheetWriter", ".csv"),
        "csv-long": _Format("csv_format:LongCsvWriter"),
        "tsv": _Format("sheet_formats:TsvWriter", ".tsv"),
        "parquet": _Format("sheet_formats:ParquetWriter", ".parquet"),
        "xlsx": _Format("xlsx_format:XlsxWriter", ".xlsx"),
        "vtt": _Format("caption_formats:WebVttWriter", ".vtt", segments=True),
        "srt": _Format("caption_formats:SrtWriter", ".srt", segments=True),
        "audacity": _Format("caption_formats:AudacityWriter", segments=True),
        "activitynet": _Format("annotation_formats:ActivityNetWriter", segments=True),
        "labelstudio": _Format("annotation_formats:LabelStudioWriter", segments=True),
        "fiftyone": _Format("annotation_formats:FiftyOneWriter", segments=True),
        "edl": _Format("edl_format:EdlWriter", ".edl", segments=True),
        "elan": _Format("elan_format:ElanWriter", ".eaf", segments=True),
    }
)
FORMATS = tuple(name for name, one in _FORMATS.items() if not one.segments)
SEGMENT_FORMATS = tuple(name for name, one in _FORMATS.items() if one.segments)  # of segments alone


def format_for(target: Path | None, segments: bool = False) -> str:
    """The format that a target's suffix asks for; "table" for standard output (None).

    Args:
        segments: whether there will be segments.

    Raises:
        UsageError: the suffix names no format.
    """
    if target is None:
        return "table"
    suffixes = {one.suffix: name for name, one in _FORMATS.items() if one.suffix and (segments or not one.segments)}
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


def is_folder(format: str, target: Path | None) -> bool:
    """Whether the target is a folder for a file per video: one that exists, in a format that holds one video.

    Raises:
        MissingExtraError: the format is written by a package that is not there.
    """
    return target is not None and target.is_dir() and issubclass(_writer(format), OneVideo)


def check_paths(format: str, paths: Sequence[str], target: Path | None = None, overwrite: bool = False) -> None:
    """Refuse videos that one file of the format, or the folder that is the target, cannot hold together.

    Raises:
        UsageError: it cannot.
        OutputError: a file of the folder exists or cannot be written.
        MissingExtraError: the format is written by a package that is not there.
    """
    if target is not None and is_folder(format, target):
        check_folder(paths, target, _suffix(format), overwrite)
    else:
        _writer(format).check_paths(paths)


def open_folder(format: str, folder: Path, *, overwrite: bool, run: Run) -> FolderWriter:
    """As `open_writer`, of a file per video in what `is_folder`."""
    writer = _writer(format)
    assert issubclass(writer, OneVideo)
    return FolderWriter(folder, writer, _suffix(format), overwrite, run)


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
    known = _FORMATS[check_format(format, segments=True)]
    writer: type[Writer] = resolve_name(f"zsar_cli.report.{known.writer}")
    return writer


def _suffix(format: str) -> str:
    return _FORMATS[format].suffix or ".txt"
