"""`zsar calibrate`, and what becomes of its file, of --reject and of --sort in `zsar classify`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import videos
import yaml
from cli_runner import EXAMPLE_LABELS, LABELS, Finished, Runner, label_options

from zsar_cli.labels import LabelSet

Here = Callable[..., Finished]
CLASSES = LabelSet.read(EXAMPLE_LABELS).names[:12]


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve classes of two videos; a thirteenth file that is none."""
    root = tmp_path_factory.mktemp("calibrate")
    rows = ["path,label"]
    for number, name in enumerate(CLASSES):
        for i in range(2):
            videos.write_video(root / f"{number}-{i}.mp4", frames=4, first=number * 700 + i * 31)
            rows.append(f"{number}-{i}.mp4,{name}")
    (root / "bad.mp4").write_bytes(b"no video")
    (root / "list.csv").write_text("\n".join([*rows, f"bad.mp4,{CLASSES[0]}"]) + "\n")
    return root


@pytest.fixture(scope="module")
def made(zsar_tiny: Runner, home: Path) -> Finished:
    options = ("--output", home / "mine.yaml", "--runs", 3, "-l", EXAMPLE_LABELS)
    return zsar_tiny("calibrate", home / "list.csv", *options, code=3)


def test_it_says_what_answers_are_worth_and_names_what_failed(made: Finished, home: Path) -> None:
    assert "bad.mp4: open failed" in made.stderr
    assert made.stdout.startswith("24 videos of 12 classes; all of it on classes that the fit had not seen\n")
    for name in ("probability, lists of any length", "max softmax", "NegLabel", "classes taken away, 3 runs"):
        assert name in made.stdout
    document = yaml.safe_load((home / "mine.yaml").read_text())
    assert document["schema"] == "zsar.calibration/1" and document["measured"]["videos"] == 24
    assert [model["weight"] for model in document["models"]] == [1.0]


def test_its_file_gives_probabilities_and_is_named_in_results(zsar_here: Here, made: Finished, home: Path) -> None:
    options = (home / "1-0.mp4", *label_options(), "-f", "jsonl")
    (plain,) = zsar_here("classify", *options).records
    (record,) = zsar_here("classify", *options, "--calibration", home / "mine.yaml").records
    assert {one["probability"] for one in plain["predictions"]} == {None}
    found = [one["probability"] for one in record["predictions"]]
    assert all(0 <= one <= 1 for one in found)
    assert plain["run"]["settings"]["calibration"] is None
    assert record["run"]["settings"]["calibration"].startswith("mine.yaml ")
    for key in ("label", "score", "similarity"):
        assert [one[key] for one in record["predictions"]] == [one[key] for one in plain["predictions"]]


def test_reject_answers_unknown(zsar_here: Here, home: Path) -> None:
    options = (home / "1-0.mp4", *label_options(), "-f", "jsonl", "--reject")
    (never,) = zsar_here("classify", *options, 1).records
    (always,) = zsar_here("classify", *options, 0).records
    assert never["answer"] == never["predictions"][0]["label"] and always["answer"] == "unknown"
    assert always["predictions"] == never["predictions"] and always["doubtful"]
    table = zsar_here("classify", home / "1-0.mp4", *label_options(), "--reject", 0).stdout
    assert table.splitlines()[1] == "?      unknown: none of the labels"
    run = zsar_here("classify", *options, 0.5, "--label", "Unknown", code=2)
    assert "--reject answers 'unknown', which is a label of yours too" in run.prose


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--reject", "maybe"], "--reject maybe: give auto, or a number from 0 to 1"),
        (["--reject", 2], "--reject 2: give auto, or a number from 0 to 1"),
        (["--reject", "auto", "--calibration", "none"], "--reject auto: these models and settings were not calibrated"),
        (["--calibration", "missing.yaml"], "--calibration missing.yaml: no such file"),
        (["--sort", "size"], "--sort size: unknown; allowed: path, answer, probability"),
        (["--sort", "path", "--resume", "-o", "a.jsonl"], "--sort path: cannot go with --resume"),
    ],
)
def test_what_cannot_be_is_refused(zsar_here: Here, home: Path, options: list[object], message: str) -> None:
    assert message in zsar_here("classify", home / "1-0.mp4", *label_options(), *options, code=2).prose


def test_a_calibration_is_written_as_yaml(zsar_here: Here, home: Path) -> None:
    run = zsar_here("calibrate", home / "list.csv", "-o", "mine.json", code=2)
    assert "mine.json: a calibration is written as YAML" in run.prose


def test_sorted_rows_begin_with_the_most_doubtful(zsar_here: Here, home: Path) -> None:
    options = (home, *label_options(), "-f", "csv", "-k", 1, "--sort")
    for key, sign in (("margin", 1), ("unknown", -1)):
        run = zsar_here("classify", *options, key, code=3)
        rows = list(csv.DictReader(io.StringIO(run.stdout)))
        assert len(rows) == 25 and rows[-1]["error"].startswith("open failed")
        values = [sign * float(row[key]) for row in rows[:-1]]
        assert values == sorted(values) and len(set(values)) > 5
        assert all(row["second"] in LABELS for row in rows[:-1])


def test_a_spreadsheet_with_corrected_answers_is_a_data_set(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    zsar_here("classify", home / "1-0.mp4", home / "2-0.mp4", *label_options(), "-q", "-o", sheet)
    header, *rows = csv.reader(io.StringIO(sheet.read_text()))
    for row, name in zip(rows, LABELS, strict=False):
        row[header.index("answer")] = name
    with open(sheet, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    assert zsar_here("evaluate", sheet).stdout.startswith("2 classes, 2 videos\n")
