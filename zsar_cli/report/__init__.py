"""Results: records in, one writer per format out. Every format is written from the same records."""

from __future__ import annotations

from zsar_cli.records import (
    SCHEMA,
    Failure,
    Prediction,
    Run,
    Segment,
    Summary,
    VideoRecord,
)
from zsar_cli.report.formats import FORMATS, format_for, open_writer
from zsar_cli.report.output import OutputClosed, check_target
from zsar_cli.report.writer import Writer

__all__ = [
    "FORMATS",
    "SCHEMA",
    "Failure",
    "OutputClosed",
    "Prediction",
    "Run",
    "Segment",
    "Summary",
    "VideoRecord",
    "Writer",
    "check_target",
    "format_for",
    "open_writer",
]
