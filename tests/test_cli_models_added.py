"""The command line with .tflite files, added models and several models at once."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Finished
from tflite_files import write_plain
from videos import write_video

Here = Callable[..., Finished]
ASKED = ["--label", "riding a bike", "--label", "swimming"]


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A classifier, the names of its outputs, a video, and the variable of an empty folder of models."""
    (tmp_path / "seen.txt").write_text("riding a bike\nchopping wood\nplaying chess\n", encoding="utf-8")
    return {
        "model": str(write_plain(tmp_path / "own model.tflite", np.eye(3, dtype=np.float32) * 5)),
        "seen": str(tmp_path / "seen.txt"),
        "video": str(write_video(tmp_path / "video.mp4").path),
        "ZSAR_MODELS_DIR": str(tmp_path / "models"),
    }


def models(files: dict[str, str], **more: str) -> dict[str, str]:
    return {"ZSAR_MODELS_DIR": files["ZSAR_MODELS_DIR"], **more}


def test_a_file_with_seen_labels(zsar_here: Here, files: dict[str, str]) -> None:
    named = ["--model", files["model"], "--seen-labels", files["seen"]]
    done = zsar_here("classify", files["video"], *ASKED, *named, "-f", "jsonl", code=0, variables=models(files))
    (record,) = done.records
    assert record["run"]["model"]["name"] == files["model"]
    assert record["run"]["model"]["fingerprint"].startswith("litert")
    assert {item["label"] for item in record["predictions"]} == {"riding a bike", "swimming"}
    told = zsar_here("explain", *ASKED, *named, "-f", "json", code=0, variables=models(files))
    document = json.loads(told.stdout)
    assert document["labels"][0]["kind"] == "seen"
    assert document["counts"]["seen"] == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes by name are of POSIX")
def test_seen_labels_may_come_from_a_pipe(zsar_here: Here, files: dict[str, str], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen(["cp", files["seen"], str(pipe)])
    named = ["--model", files["model"], "--seen-labels", str(pipe)]
    try:
        zsar_here("classify", files["video"], *ASKED, *named, "-f", "jsonl", code=0, variables=models(files))
    finally:
        writer.kill()
        writer.wait()


def test_added_once_used_by_name_and_listed(zsar_here: Here, files: dict[str, str]) -> None:
    where = models(files)
    added = zsar_here("models", "add", "mine", files["model"], "--seen-labels", files["seen"], code=0, variables=where)
    assert "3 classes; use it with --model mine" in added.stderr
    listed = zsar_here("models", "list", "-f", "json", code=0, variables=where)
    assert [entry["here"] for entry in json.loads(listed.stdout) if entry["name"] == "mine"] == [True]
    assert "ok  sha256" in zsar_here("models", "verify", "mine", code=0, variables=where).stdout
    assert "litert" in zsar_here("models", "info", "mine", code=0, variables=where).stdout
    done = zsar_here("classify", files["video"], *ASKED, "--model", "mine", "-f", "jsonl", code=0, variables=where)
    assert done.records[0]["run"]["model"]["name"] == "mine"
    again = zsar_here("models", "add", "mine", files["model"], "--seen-labels", files["seen"], code=1, variables=where)
    assert "--overwrite replaces it" in again.stderr


def test_two_models_are_blended_by_weights(zsar_here: Here, files: dict[str, str]) -> None:
    where = models(files)
    zsar_here("models", "add", "mine", files["model"], "--seen-labels", files["seen"], code=0, variables=where)
    both = ["--model", "mine", "--model", "builtin"]
    done = zsar_here(
        "classify", files["video"], *ASKED, *both, "--weights", "1,3", "-f", "jsonl", code=0, variables=where
    )
    run = done.records[0]["run"]
    assert run["model"]["name"] == "mine + builtin"
    assert [member["weight"] for member in run["settings"]["members"]] == [0.25, 0.75]
    lines = models(files, ZSAR_MODEL="mine\nbuiltin", ZSAR_WEIGHTS="1,3")
    by_variables = zsar_here("classify", files["video"], *ASKED, "-f", "jsonl", code=0, variables=lines)
    assert by_variables.stdout == done.stdout


def test_a_variable_names_a_file_with_a_space(zsar_here: Here, files: dict[str, str]) -> None:
    lines = models(files, ZSAR_MODEL=files["model"], ZSAR_SEEN_LABELS=files["seen"])
    assert " " in files["model"]
    zsar_here("explain", *ASKED, code=0, variables=lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "builtin", "--weights", "1"], "--weights needs several models"),
        (
            ["--model", "builtin", "--model", "MODEL", "--seen-labels", "SEEN", "--weights", "1"],
            "2 models need 2 weights",
        ),
        (
            ["--model", "builtin", "--model", "MODEL", "--seen-labels", "SEEN", "--weights", "a,b"],
            "numbers with commas",
        ),
        (["--model", "MODEL"], "does not name its classes; give --seen-labels FILE"),
        (["--model", "MODEL", "--seen-labels", "SEEN", "--precision", "bf16"], "take --precision auto"),
        (["--seen-labels", "SEEN"], "the model 'builtin' knows its own"),
    ],
)
def test_what_is_refused_is_a_usage_error(
    arguments: list[str], message: str, zsar_here: Here, files: dict[str, str]
) -> None:
    given = [{"MODEL": files["model"], "SEEN": files["seen"]}.get(part, part) for part in arguments]
    done = zsar_here("classify", files["video"], *ASKED, *given, code=2, variables=models(files))
    assert message in done.prose


def test_one_model_where_one_is_meant(zsar_here: Here, files: dict[str, str]) -> None:
    for command in (["explain", *ASKED], ["export-prototypes", "-o", files["seen"] + ".safetensors"]):
        done = zsar_here(*command, "--model", "builtin", "--model", "mine", code=2, variables=models(files))
        assert "one model at a time: run it with --model builtin, then with --model mine" in done.stderr


def test_the_known_name_without_its_file_says_what_to_run(zsar_here: Here, files: dict[str, str]) -> None:
    done = zsar_here("explain", *ASKED, "--model", "movinet", code=1, variables=models(files))
    assert "zsar models add movinet-a0-stream FILE.tflite --seen-labels FILE" in done.stderr
    missing = zsar_here("models", "add", "movinet", files["model"], code=2, variables=models(files))
    assert "give --seen-labels FILE" in missing.stderr
    other = zsar_here("models", "add", "movinet", files["model"], "--seen-labels", files["seen"], code=1,
                      variables=models(files))  # fmt: skip
    assert "is not movinet-a0-stream: its sha256 is" in other.stderr
