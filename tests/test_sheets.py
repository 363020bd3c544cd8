"""Spreadsheets: one row a video, the same in all kinds, read back by other packages; nothing in them runs."""

from __future__ import annotations

import csv
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import openpyxl
import pyarrow.parquet as pq
import pytest
from test_report import FAILED, NOT_UTF8, NOTHING, PARTIAL, RUN, TIMED

from zsar_cli.data.tables import read_rows
from zsar_cli.data.timed import read_moments
from zsar_cli.errors import MissingExtraError, UsageError
from zsar_cli.records import Decision, Prediction, VideoRecord
from zsar_cli.report import open_writer
from zsar_cli.report.html_report import gather
from zsar_cli.report.sheet_formats import SHEET
from zsar_cli.report.writer import SortedWriter

SURE = VideoRecord(
    "a.mp4", (Prediction("archery", 0.75, 3.5, 0.875), Prediction("rowing", 0.25, 1.25, 0.0625)),
    decision=Decision("archery", 0.125, False),
)  # fmt: skip
LOST = replace(SURE, path="b.mp4", decision=Decision("unknown", 0.95, True, ("nearer to 'sewing'", "two alike")))
FORMULA = VideoRecord("=1+1.mp4", (Prediction("@SUM(A1)", 1.0, -1e-6),), decision=Decision("@SUM(A1)", 1e-6, False))
STILL = replace(NOTHING, path="still.avi")
RECORDS = (SURE, LOST, FAILED, PARTIAL, NOT_UTF8, FORMULA)


def written(format, folder, records=RECORDS):
    target = folder / f"sheet.{format}"
    with open_writer(format, target, overwrite=True, run=RUN) as writer:
        for record in records:
            writer.write(record)
    return target


def read(target):
    """Rows as mappings of what is not empty, whatever the kind of file."""
    if target.suffix == ".parquet":
        rows = pq.read_table(target).to_pylist()
    elif target.suffix == ".xlsx":
        header, *cells = openpyxl.load_workbook(target).active.iter_rows(values_only=True)
        rows = [dict(zip(header, row, strict=True)) for row in cells]
    else:
        text = target.read_text(encoding="utf-8")
        rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if target.suffix == ".tsv" else ","))
        assert list(rows[0]) == list(SHEET)
        kinds = {str: str, float: float, bool: {"true": True, "false": False}.get}
        rows = [{name: kinds[SHEET[name]](cell) if cell else None for name, cell in row.items()} for row in rows]
    return [{name: value for name, value in row.items() if value not in (None, "")} for row in rows]


EXPECTED = [
    {"path": "a.mp4", "answer": "archery", "similarity": 3.5, "probability": 0.875, "second": "rowing", "margin": 2.25,
     "unknown": 0.125, "doubtful": False},
    {"path": "b.mp4", "answer": "unknown", "second": "archery", "margin": 2.25,
     "unknown": 0.95, "doubtful": True, "reasons": "nearer to 'sewing'; two alike"},
    {"path": "bad\\nname.mp4", "error": "decode failed: no frame, none"},
    {"path": "cut.avi", "answer": "archery", "similarity": 0.125, "error": "only 62% was read: the file ends early"},
    {"path": "caf\\udce9.mp4", "answer": "archery", "similarity": 0.125},
    {"path": "=1+1.mp4", "answer": "@SUM(A1)", "similarity": -1e-6, "unknown": 1e-6, "doubtful": False},
]  # fmt: skip


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "xlsx"])
def test_all_kinds_say_the_same(tmp_path, format):
    rows = read(written(format, tmp_path))
    if format in ("csv", "tsv"):
        assert (rows[5]["path"], rows[5]["answer"]) == ("'=1+1.mp4", "'@SUM(A1)"), "no formula"
        rows[5] |= {"path": "=1+1.mp4", "answer": "@SUM(A1)"}
    if format == "parquet":
        assert rows[2]["path"] == "bad\nname.mp4"
        rows[2]["path"] = EXPECTED[2]["path"]
    assert rows == EXPECTED


def test_a_segment_is_a_row_without_the_doubts_of_the_whole_video(tmp_path):
    timed = replace(TIMED, decision=Decision("rowing", 0.9, True, ("far",)))
    rows = read(written("csv", tmp_path, (timed, NOTHING)))
    assert all(not row.keys() & {"unknown", "doubtful", "reasons"} for row in rows)
    assert [[row.get(name) for name in ("answer", "start", "end", "similarity")] for row in rows] == [
        ["riding a bike", 0.3, 2.5, 1.5],
        ["太极拳", 1.0, 7.207207, 0.5],
        ["riding a bike", 6.0, 7.0, 0.25],
        [None, None, None, None],
    ]


def test_cells_of_a_workbook_are_text_and_numbers(tmp_path):
    sheet = openpyxl.load_workbook(written("xlsx", tmp_path)).active
    kinds = {cell.data_type for row in sheet.iter_rows(min_row=2) for cell in row if cell.value is not None}
    assert kinds == {"s", "n", "b"}  # no "f", a formula
    assert sheet.freeze_panes == "A2"


@pytest.mark.parametrize("format", ["parquet", "xlsx"])
def test_a_job_that_is_cut_short_keeps_its_rows(tmp_path, format):
    target = tmp_path / f"sheet.{format}"
    with pytest.raises(KeyboardInterrupt), open_writer(format, target, overwrite=False, run=RUN) as writer:
        writer.write(SURE)
        raise KeyboardInterrupt
    assert [row["path"] for row in read(target)] == ["a.mp4"] and list(tmp_path.iterdir()) == [target]
    with pytest.raises(KeyboardInterrupt), open_writer(format, tmp_path / "none", overwrite=False, run=RUN):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [target]


def test_a_package_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    monkeypatch.delitem(sys.modules, "zsar_cli.report.xlsx_format", raising=False)
    with pytest.raises(MissingExtraError, match=r"extra .xlsx"):
        open_writer("xlsx", tmp_path / "sheet.xlsx", overwrite=False, run=RUN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["csv", "tsv"])
def test_pieces_are_cut_by_a_spreadsheet(tmp_path, format):
    whole = read_moments(written(format, tmp_path, (SURE, LOST, FAILED)))
    assert [(name, one.label, one.start, one.end) for name, one in whole] == [("a.mp4", "archery", 0.0, float("inf"))]
    timed = read_moments(written(format, tmp_path, (TIMED, NOTHING)))
    assert [(name, one.label, one.start) for name, one in timed] == [
        (TIMED.path, "riding a bike", 0.3), (TIMED.path, "太极拳", 1.0), (TIMED.path, "riding a bike", 6.0),
    ]  # fmt: skip


def test_a_spreadsheet_is_a_data_set_without_what_failed_or_is_unknown(tmp_path):
    rows = read_rows(written("csv", tmp_path, (SURE, LOST, FAILED, PARTIAL)))
    assert [(row.path, row.label) for row in rows] == [("a.mp4", "archery"), ("cut.avi", "archery")]
    with pytest.raises(UsageError, match="is a prediction, of the format csv-long"):
        read_rows(written("csv-long", tmp_path, (SURE,)).rename(tmp_path / "long.csv"))


def test_sorted_records_are_written_in_the_end_also_of_a_job_that_is_cut_short(tmp_path):
    target = tmp_path / "sheet.csv"
    writer = SortedWriter(open_writer("csv", target, overwrite=False, run=RUN), lambda record: record.path)
    with pytest.raises(KeyboardInterrupt), writer:
        for record in (LOST, FAILED, SURE):
            writer.write(record)
        assert not target.exists()
        raise KeyboardInterrupt
    assert [row["path"] for row in read(target)] == ["a.mp4", "b.mp4", "bad\\nname.mp4"]


@pytest.mark.skipif(shutil.which("soffice") is None, reason="no LibreOffice here")
@pytest.mark.parametrize("format", ["csv", "xlsx"])
def test_libreoffice_shows_the_same_numbers_and_runs_no_formula(tmp_path, format):
    source = written(format, tmp_path)
    home = f"-env:UserInstallation=file://{tmp_path / 'profile'}"
    options = ["--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false", "--outdir", "out"]
    subprocess.run(
        ["soffice", home, "--headless", *options, str(source)], cwd=tmp_path, check=True, capture_output=True,
        timeout=120, env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    rows = read(Path(tmp_path, "out", "sheet.csv"))
    mark = "'" * (format == "csv")
    assert (rows[5]["path"], rows[5]["answer"]) == (f"{mark}=1+1.mp4", f"{mark}@SUM(A1)")
    for row, expected in zip(rows, EXPECTED, strict=True):
        numbers = {name: value for name, value in expected.items() if isinstance(value, float)}
        assert {name: row[name] for name in numbers} == pytest.approx(numbers)


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "xlsx"])
def test_segments_come_back_from_every_kind(tmp_path, format):
    found = read_moments(written(format, tmp_path, (TIMED,)))
    assert [(path, one.label, one.start, one.end) for path, one in found] == [
        (TIMED.path, one.label, round(one.start, 6), round(one.end, 6)) for one in TIMED.segments
    ]


@pytest.mark.parametrize("format", ["csv", "tsv", "parquet", "xlsx"])
def test_every_kind_is_reported_alike(tmp_path, format):
    page = gather([written(format, tmp_path, (SURE, LOST, FAILED, PARTIAL, TIMED, STILL))], tmp_path)
    sure, lost, failed, damaged, timed, nothing = page.videos
    archery, rowing = page.labels["archery"], page.labels["rowing"]
    assert sure["answer"] == archery and sure["unsure"] == 0.125 and "doubtful" not in sure
    assert sure["top"] == [[archery, None, 3.5, 0.875], [rowing, None, None, None]]
    assert lost["answer"] == -1 and lost["doubtful"] and lost["reasons"] == ["nearer to 'sewing'", "two alike"]
    assert lost["top"] == [[archery, None, None, None]]
    assert failed["error"] == {"stage": "decode", "reason": "no frame, none", "decoder": None}
    assert not failed.keys() & {"segments", "answer"}
    assert damaged["partial"] == {"share": 0.62, "reason": "the file ends early"} and damaged["answer"] == archery
    assert [one[1:3] for one in timed["segments"]] == [[0.3, 2.5], [1.0, 7.21], [6.0, 7.0]]
    assert nothing["segments"] == [] and "answer" not in nothing


def test_the_table_of_all_predictions_is_reported(tmp_path):
    long = written("csv-long", tmp_path, (SURE, FAILED, PARTIAL, TIMED, STILL)).rename(tmp_path / "long.csv")
    page = gather([long], tmp_path)
    sure, failed, damaged, timed, nothing = page.videos
    archery, rowing = page.labels["archery"], page.labels["rowing"]
    assert sure["answer"] == archery
    assert sure["top"] == [[archery, 0.75, 3.5, 0.875], [rowing, 0.25, 1.25, 0.0625]]
    assert failed["error"] == {"stage": "decode", "reason": "no frame, none", "decoder": "pyav"}
    assert damaged["partial"] == {"share": 0.62, "reason": "the file ends early"}
    assert len(timed["segments"]) == 3 and nothing["segments"] == []
