"""`zsar classify` end to end: the same answers however a job is run, inputs from lists, and every format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import videos
from cli_runner import LABELS, Finished, Runner, label_options

from zsar_cli.report.csv_format import COLUMNS

Here = Callable[..., Finished]
COUNT = 30
# The keys of docs/formats.md.
RECORD = {"path", "predictions", "error", "content", "video", "decoder", "sampling", "partial", "notes"}
RUN = {"zsar", "model", "labels", "settings", "bank", "device", "precision", "versions", "notes"}


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


# --- one job, many ways, with weights whose arithmetic a batch could change ---


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of thirty different videos."""
    folder = tmp_path_factory.mktemp("thirty")
    for i in range(COUNT):
        videos.write_video(folder / f"clip{i}.mp4", frames=5, first=97 * i, gop=2)
    return folder


Way = Callable[..., Finished]


@pytest.fixture(scope="module")
def classify(thirty: Path) -> Way:
    """Classifies some of the thirty, two frames of each."""

    def run(program: Runner, *arguments: object) -> Finished:
        return program("classify", *arguments, *label_options(), "--frames", 2, "--format", "jsonl", cwd=thirty)

    return run


@pytest.fixture(scope="module")
def program(zsar_builtin: Runner, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """With a cache of its own, that knows no video at first."""
    return zsar_builtin.with_fresh_cache(tmp_path_factory.mktemp("reference") / "cache")


@pytest.fixture(scope="module")
def one_by_one(classify: Way, program: Runner) -> Finished:
    """The reference: one worker, one clip at a time."""
    return classify(program, ".", "--workers", 1, "--batch-size", 1)


def assert_equal(run: Finished, reference: Finished) -> None:
    """The same files, labels in the same order, scores to 1e-5."""
    expected = {record["path"].removeprefix("./"): record for record in reference.records}
    for record in run.records:
        twin = expected[record["path"].removeprefix("./")]
        assert [p["label"] for p in record["predictions"]] == [p["label"] for p in twin["predictions"]]
        scores = [p["score"] for p in record["predictions"]]
        assert scores == pytest.approx([p["score"] for p in twin["predictions"]], abs=1e-5)
        assert record["sampling"] == twin["sampling"]


def test_thirty_videos_give_thirty_different_answers_in_natural_order(one_by_one: Finished) -> None:
    assert [record["path"] for record in one_by_one.records] == [f"./clip{i}.mp4" for i in range(COUNT)]
    scores = {tuple(p["score"] for p in record["predictions"]) for record in one_by_one.records}
    assert len(scores) == COUNT  # so that answers cannot be mixed up unseen
    *counts, last = one_by_one.stderr.splitlines()
    assert last == "30 videos: 30 classified"
    answers = Counter(record["answer"] for record in one_by_one.records)
    assert [int(re.findall(r"\d+", line)[0]) for line in counts] == sorted(answers.values(), reverse=True)


def test_a_file_alone_is_scored_as_in_a_folder(
    classify: Way, zsar_builtin: Runner, one_by_one: Finished, tmp_path: Path
) -> None:
    alone = classify(zsar_builtin.with_fresh_cache(tmp_path / "cache"), "clip17.mp4", "--workers", 4, "--batch-size", 8)
    assert len(alone.records) == 1
    assert_equal(alone, one_by_one)


def test_workers_and_batches_change_nothing(
    classify: Way, zsar_builtin: Runner, one_by_one: Finished, tmp_path: Path
) -> None:
    many = classify(zsar_builtin.with_fresh_cache(tmp_path / "cache"), ".", "--workers", 4, "--batch-size", 8)
    assert [record["path"] for record in many.records] == [record["path"] for record in one_by_one.records]
    assert_equal(many, one_by_one)


def test_the_same_run_gives_the_same_bytes(
    classify: Way, zsar_builtin: Runner, one_by_one: Finished, tmp_path: Path
) -> None:
    fresh = zsar_builtin.with_fresh_cache(tmp_path / "cache")
    names = [f"./clip{i}.mp4" for i in range(9, 3, -1)]
    again = classify(fresh, *names, "--workers", 1, "--batch-size", 1)
    line_of = dict(zip((record["path"] for record in one_by_one.records), one_by_one.stdout.splitlines(), strict=True))
    assert again.stdout.splitlines() == [line_of[name] for name in names]


def test_the_cache_gives_the_same_bytes(classify: Way, program: Runner, one_by_one: Finished) -> None:
    assert classify(program, ".", "--workers", 1, "--batch-size", 1).stdout == one_by_one.stdout


def test_without_a_cache_nothing_changes_and_nothing_is_kept(
    classify: Way, one_by_one: Finished, tmp_path: Path
) -> None:
    run = classify(Runner(tmp_path / "none"), "clip3.mp4", "clip29.mp4", "--no-cache")
    assert len(run.records) == 2
    assert_equal(run, one_by_one)
    assert not (tmp_path / "none").exists()


# --- inputs ---


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good videos, one bad, in folders."""
    folder = tmp_path_factory.mktemp("few")
    (folder / "deep" / "er").mkdir(parents=True)
    videos.write_video(folder / "a.mp4", frames=4)
    videos.write_video(folder / "deep" / "er" / "b b.mp4", frames=4, first=9)
    (folder / "bad.mp4").write_text("no video")
    return folder


def test_paths_come_from_stdin_lists_patterns_and_folders(zsar: Runner, few: Path) -> None:
    (few / "list.txt").write_text("a.mp4\nnone.mp4\n")
    options = [*label_options(), "--format", "jsonl"]
    run = zsar("classify", "-", "@list.txt", "ba*.mp4", ".", *options, cwd=few, stdin="deep/er/b b.mp4\n", code=3)
    assert [(record["path"], record["error"] is None) for record in run.records] == [
        ("deep/er/b b.mp4", True),
        ("a.mp4", True),
        ("none.mp4", False),
        ("bad.mp4", False),
    ]


def test_a_folder_of_frames_and_an_animation_are_videos(zsar_here: Here, tmp_path: Path) -> None:
    videos.folder(tmp_path / "frames", frames=6)
    videos.animation(tmp_path / "dance.gif")
    options = ["--label", "swimming", "--format", "jsonl", "--frame-rate", "3", "--frames", 4]
    run = zsar_here("classify", "frames", "dance.gif", *options, cwd=tmp_path, code=0)
    frames, dance = run.records
    assert frames["video"]["duration"] == 2.0 and frames["decoder"]["name"] == "images"
    assert frames["sampling"]["times"] == pytest.approx([0, 2 / 3, 1, 5 / 3], abs=1e-6)
    assert dance["video"]["codec"] == "gif"


def test_windows_and_key_frames_are_told(zsar_here: Here, few: Path) -> None:
    options = ["--label", "swimming", "--format", "jsonl", "--windows", 2, "--frames", 3, "--fast"]
    (record,) = zsar_here("classify", "a.mp4", *options, cwd=few, code=0).records
    sampling = record["sampling"]
    assert (sampling["windows"], sampling["frames"], sampling["mode"]) == (2, 3, "key frames")
    assert len(sampling["times"]) == 6
    assert record["notes"][0].startswith("key frames: up to 0.")
    assert record["run"]["settings"]["sampling"]["exact"] is False


# --- formats ---


def test_one_label_alone_is_said_to_have_nothing_to_compare_with(zsar_here: Here, few: Path) -> None:
    warning = "warning: one label alone has nothing to compare with: its score is 1 whatever a video shows; "
    video = few / "a.mp4"
    run = zsar_here("classify", video, "--label", LABELS[0])
    assert run.stderr.startswith(warning)
    (record,) = zsar_here("classify", video, "--label", LABELS[0], "--format", "jsonl").records
    (prediction,) = record["predictions"]
    assert prediction["score"] == 1.0
    assert run.stdout.splitlines()[:2] == [str(video), f"? {LABELS[0]}  similarity {prediction['similarity']:.3f}"]
    assert "nothing to compare" not in zsar_here("classify", video, *label_options(LABELS[:2])).stderr


@pytest.fixture
def written(zsar_here: Here, few: Path, tmp_path: Path) -> Callable[..., str]:
    """The text of a file with the results for a good and a bad video."""

    def run(name: str, *options: object) -> str:
        target = tmp_path / name
        arguments = ["a.mp4", "bad.mp4", *label_options(), "-k", 2, "-o", target, *options]
        finished = zsar_here("classify", *arguments, cwd=few, code=3)
        assert finished.stdout == ""
        return target.read_text(encoding="utf-8")

    return run


ERROR = {"stage": "open", "reason": "its content is not a video that FFmpeg recognises", "decoder": "pyav"}


def assert_records(good: dict[str, Any], bad: dict[str, Any]) -> None:
    assert good.keys() >= RECORD and bad.keys() >= RECORD
    assert (good["path"], good["error"], len(good["predictions"])) == ("a.mp4", None, 2)
    assert {prediction["label"] for prediction in good["predictions"]} < set(LABELS)
    assert good["video"].keys() == {
        "width", "height", "duration", "frame_rate", "codec", "container", "rotation",
    }  # fmt: skip
    assert (good["video"]["width"], good["video"]["height"]) == videos.SIZE
    assert good["decoder"]["name"] == "pyav" and "FFmpeg" in good["decoder"]["version"]
    assert (bad["path"], bad["error"], bad["predictions"], bad["video"]) == ("bad.mp4", ERROR, [], None)


def assert_run(run: dict[str, Any]) -> None:
    assert run.keys() == RUN
    assert run["model"].keys() >= {"name", "fingerprint"}
    assert run["labels"]["count"] == len(LABELS) and run["labels"]["digest"].startswith("sha256:")
    assert run["settings"]["decoder"] == "pyav"
    assert {"torch", "av"} <= run["versions"].keys()


def test_json(written: Callable[..., str]) -> None:
    document = json.loads(written("out.json"))
    assert list(document) == ["schema", "run", "results", "summary", "complete"]
    assert document["schema"] == "zsar.result/2" and document["complete"] is True
    assert document["summary"] == {"total": 2, "done": 1, "failed": 1, "partial": 0}
    assert_run(document["run"])
    assert_records(*document["results"])


def test_json_lines(written: Callable[..., str]) -> None:
    good, bad = map(json.loads, written("out.jsonl").splitlines())
    assert good["schema"] == bad["schema"] == "zsar.result/2"
    assert_run(good["run"])
    assert_records(good, bad)


def test_long_csv(written: Callable[..., str]) -> None:
    rows = list(csv.DictReader(io.StringIO(written("out.csv", "-f", "csv-long"))))
    assert tuple(rows[0]) == COLUMNS
    first, second, bad = rows
    assert [first["path"], first["rank"], second["rank"]] == ["a.mp4", "1", "2"]
    assert float(first["score"]) >= float(second["score"])
    assert (bad["path"], bad["label"], bad["error_stage"], bad["error_reason"]) == (
        "bad.mp4", "", ERROR["stage"], ERROR["reason"],
    )  # fmt: skip
    assert {row["schema"] for row in rows} == {"zsar.result/2"}


def test_table(written: Callable[..., str]) -> None:
    lines = written("out.txt").splitlines()
    assert lines[0] == "a.mp4"
    assert lines[1].startswith("    1  ") and lines[2].startswith("    2  ")
    assert lines[-2:] == ["bad.mp4", f"  open failed (pyav): {ERROR['reason']}"]


def test_the_format_may_differ_from_the_suffix(written: Callable[..., str]) -> None:
    assert written("out.csv", "--format", "json").startswith("{")


def test_an_existing_file_is_replaced_on_demand(written: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")
    assert json.loads(written("out.json", "--overwrite"))["complete"] is True
