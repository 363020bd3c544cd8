"""Tables of labelled videos."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zsar_cli.data.tables import Row, read_rows
from zsar_cli.errors import UsageError


def table(tmp_path: Path, content: str, name: str = "list.csv") -> Path:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    return tmp_path / name


def test_rows_with_and_without_times(tmp_path: Path) -> None:
    expected = [("a.mp4", "x, y", (0.0, 1.5)), ("b.mp4", "z", None), ("c.mp4", "", None)]
    rows = read_rows(table(tmp_path, 'path,start,end,label\na.mp4,0,1.5,"x, y"\nb.mp4,,,z\nc.mp4\n'))
    places = [f"{tmp_path / 'list.csv'}, line {line}" for line in (2, 3, 4)]
    assert rows == [Row(place, *one, tmp_path) for place, one in zip(places, expected, strict=True)]
    rows = read_rows(table(tmp_path, "end\tn\tlabel\tstart\tpath\n1.5\t7\tx, y\t0\ta.mp4\n", "list.tsv"))
    assert [row[1:4] for row in rows] == expected[:1]
    assert [row[1:4] for row in read_rows(table(tmp_path, "path,label\nb.mp4,z\n"))] == expected[1:2]
    entries = [
        {"path": "a.mp4", "label": "x, y", "start": 0, "end": 1.5, "n": [7]},
        {"path": "b.mp4", "label": "z", "start": None, "end": None},
        {"path": "c.mp4"},
    ]
    rows = read_rows(table(tmp_path, json.dumps(entries), "list.json"))
    assert rows == [Row(f"{tmp_path / 'list.json'}, entry {n}", *one, tmp_path) for n, one in enumerate(expected, 1)]


def test_workbooks_and_parquet_are_tables_as_well(tmp_path: Path) -> None:
    cells: list[list[object]] = [
        ["end", "path", "label", "start"], [1.5, "a.mp4", "'=x", 0], [None, "b.mp4", "z", None], [None, "c.mp4"],
    ]  # fmt: skip
    expected = [("a.mp4", "'=x", (0.0, 1.5)), ("b.mp4", "z", None), ("c.mp4", "", None)]
    book = openpyxl.Workbook()
    for row in (cells[0], *cells[1:3], [None], *cells[3:]):
        book.active.append(row)
    book.create_sheet("notes").append(["not read"])
    book.save(tmp_path / "list.xlsx")
    rows = read_rows(tmp_path / "list.xlsx")
    assert [row[1:4] for row in rows] == expected
    assert [row.place for row in rows] == [f"{tmp_path / 'list.xlsx'}, row {n}" for n in (2, 3, 5)]
    columns = list(map(pa.array, zip_longest(*cells[1:])))
    pq.write_table(pa.table(columns, list(map(str, cells[0]))), tmp_path / "list.parquet")
    assert [row[1:4] for row in read_rows(tmp_path / "list.parquet")] == expected


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_files_that_only_have_the_name_of_a_table(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"list{suffix}").write_bytes(b"PK\x03\x04 nothing else")
    with pytest.raises(UsageError, match=rf"list{suffix}: cannot be read as a table: "):
        read_rows(tmp_path / f"list{suffix}")
    with pytest.raises(UsageError, match=rf"none{suffix}: cannot be read as a table: "):
        read_rows(tmp_path / f"none{suffix}")


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"list\.csv: has no column path and no column label; it has none"):
        read_rows(table(tmp_path, ""))


def test_paths_are_below_the_table_and_those_of_results_below_the_current_folder(tmp_path: Path) -> None:
    (row,) = read_rows(table(tmp_path, "path,label\na.mp4,z\n"))
    assert row.folder == tmp_path
    (row,) = read_rows(table(tmp_path, "path,answer\na.mp4,z\n"))
    assert row.folder == Path()


def test_the_quote_before_what_looks_like_a_formula_is_no_part_of_the_text(tmp_path: Path) -> None:
    rows = read_rows(table(tmp_path, "path,label\n'-a.mp4,'=1+1\nb.mp4,'quoted'\n"))
    assert [(row.path, row.label) for row in rows] == [("-a.mp4", "=1+1"), ("b.mp4", "'quoted'")]
    (row,) = read_rows(table(tmp_path, json.dumps([{"path": "a.mp4", "label": "'=1"}]), "list.json"))
    assert row.label == "'=1"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\nx.mp4,a\n", "list.csv: has no column start and no column end"),
        ("path,start,end,label\n", "has no rows"),
        ("path,start,end,label\nx.mp4,1,2,a\n,1,2,a\n", "list.csv, line 3: its path is empty"),
        ("path,start,end,label\nx.mp4,1:02,2,a\n", "line 2: its start is '1:02'; it must be seconds"),
        ("path,start,end,label\nx.mp4,1,,a\n", "line 2: its end is ''; it must be seconds"),
        ("path,start,end,label\nx.mp4,1,nan,a\n", "line 2: its end is 'nan'"),
        ("path,start,end,label\nx.mp4,-1,2,a\n", "line 2: its start is '-1'"),
        ("path,start,end,label\nx.mp4,2,2.0,a\n", "line 2: it ends at 2.0, which is not after its start at 2"),
        ('path,start,end,label\n"x\ny.mp4",1,2,a\nx.mp4,1,0,a\n', "line 4: it ends at 0"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_rows(table(tmp_path, content), timed=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{}", "list.json: is no list of mappings"),
        ("[]", "list.json: has no rows"),
        ("[1]", "list.json, entry 1: 1 is no mapping"),
        ('[{"path": "x"}, {"label": "a"}]', "list.json, entry 2: its path is empty"),
        ('[{"path": "x", "start": true, "end": 2}]', "entry 1: its start is 'True'; it must be seconds"),
        ('[{"path": "x", "label": ["a"]}]', r"entry 1: \['a'\] is neither text nor a number"),
        ("[", "list.json: is not readable JSON"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_rows(table(tmp_path, content, "list.json"))


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent.csv: cannot be read as a table"):
        read_rows(tmp_path / "absent.csv")
    (tmp_path / "x.csv").write_bytes(b"path,label\n\xff,a\n")
    with pytest.raises(UsageError, match="cannot be read as a table"):
        read_rows(tmp_path / "x.csv")
