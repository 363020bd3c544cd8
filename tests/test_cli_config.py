"""Where options come from: command line > ZSAR_* > --config > default, and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
import videos
from cli_runner import Finished, Runner

from zsar_cli.cli.app import app, hint_for, variables_of
from zsar_cli.cli.renamed import in_place_of

Here = Callable[..., Finished]


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One video and two label files."""
    folder = tmp_path_factory.mktemp("config")
    videos.write_video(folder / "a.mp4", frames=4)
    (folder / "two.txt").write_text("swimming\nriding a bike\n")
    (folder / "three.txt").write_text("swimming\nriding a bike\nplaying chess\n")
    return folder


@pytest.fixture
def result(zsar_here: Here, folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """What a run with such options, variables and configuration file tells of its one video."""

    def run(*options: str, config: str = "", **variables: str) -> dict[str, Any]:
        (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
        arguments = ["a.mp4", "--format", "json", "--frames", "4", "--config", tmp_path / "config.yaml", *options]
        found: dict[str, Any] = json.loads(
            zsar_here("classify", *arguments, cwd=folder, variables=variables, code=0).stdout
        )
        return found

    return run


def top_k(found: dict[str, Any]) -> int:
    return len(found["results"][0]["predictions"])


def labels(found: dict[str, Any]) -> int:
    count: int = found["run"]["labels"]["count"]
    return count


def fast(found: dict[str, Any]) -> bool:
    return bool(found["results"][0]["sampling"]["mode"] == "key frames")


Result = Callable[..., dict[str, Any]]


def test_a_whole_number(result: Result) -> None:
    three = ("--labels", "three.txt")
    assert top_k(result(*three)) == 3  # the default, 5, is more than there are
    assert top_k(result(*three, config="top-k: 1")) == 1
    assert top_k(result(*three, config="top_k: 1", ZSAR_TOP_K="2")) == 2
    assert top_k(result(*three, "-k", "3", config="top-k: 1", ZSAR_TOP_K="2")) == 3


def test_a_switch(result: Result) -> None:
    two = ("--labels", "two.txt")
    assert not fast(result(*two))
    assert fast(result(*two, config="fast: true"))
    assert fast(result(*two, ZSAR_FAST="1"))
    assert not fast(result(*two, ZSAR_FAST="0"))
    assert not fast(result(*two, config="fast: yes", ZSAR_FAST="0"))
    assert fast(result(*two, "--fast", config="fast: no", ZSAR_FAST="0"))


def test_a_path(result: Result) -> None:
    assert labels(result(config="labels: two.txt")) == 2
    assert labels(result(config="labels: two.txt", ZSAR_LABELS="three.txt")) == 3
    assert labels(result("--labels", "two.txt", ZSAR_LABELS="three.txt")) == 2


def test_a_list(result: Result) -> None:
    def names(found: dict[str, Any]) -> set[str]:
        return {prediction["label"] for prediction in found["results"][0]["predictions"]}

    assert names(result(config="label: [swimming, riding a bike]")) == {"swimming", "riding a bike"}
    assert names(result(config="label: riding a bike")) == {"riding a bike"}
    variable = "playing chess\n\nriding a bike\n"
    assert names(result(config="label: [swimming]", ZSAR_LABEL=variable)) == {"playing chess", "riding a bike"}
    assert names(result("--label", "swimming", ZSAR_LABEL=variable)) == {"swimming"}


def test_the_file_itself_may_come_from_a_variable(zsar_here: Here, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("labels: two.txt\nformat: jsonl\nframes:\n")
    run = zsar_here("classify", "a.mp4", cwd=folder, variables={"ZSAR_CONFIG": str(tmp_path / "other.yaml")}, code=0)
    assert run.records[0]["run"]["labels"]["count"] == 2
    assert run.records[0]["sampling"]["frames"] == 16  # a key without a value is not set


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("top-k: 3\nshape: round\nsize: 4\n", "c.yaml: no such option: shape, size; 'classify' has bank, batch-size,"),
        ("topk: 3\n", "c.yaml: no such option: topk; 'classify' has"),
        ("config: other.yaml\n", "c.yaml: no such option: config;"),
        ("paths: [a.mp4]\n", "c.yaml: no such option: paths;"),
        ("top-k: three\n", "c.yaml: top-k: three: "),
        ("top-k: 2.5\n", "c.yaml: top-k: 2.5: "),
        ("top-k: 0\n", "c.yaml: top-k: 0: "),
        ("top-k: [1]\n", "c.yaml: top-k: a single value is expected, found [1]"),
        ("label: {a: b}\n", "c.yaml: label: a single value is expected, found {'a': 'b'}"),
        ("timeout: true\n", "c.yaml: timeout: True: "),
        ("fast: perhaps\n", "c.yaml: fast: perhaps: "),
        ("- swimming\n", "c.yaml: expected lines such as 'top-k: 3', found a list"),
        ("archery\n", "c.yaml: expected lines such as 'top-k: 3', found a str"),
        ("a: b: c\n", "c.yaml: is not a YAML file: mapping values are not allowed here"),
    ],
)
def test_a_file_that_is_wrong_is_named(zsar_here: Here, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    run = zsar_here("classify", "a.mp4", "--label", "x", "--config", "c.yaml", cwd=tmp_path, code=2)
    assert f"Invalid value for '--config': {message}" in run.prose


def test_the_keys_that_were_meant_are_named(zsar_here: Here, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("topk: 3\nWorker: 4\nsorce: raw\n")
    run = zsar_here("classify", "a.mp4", "--label", "x", "--config", "c.yaml", cwd=tmp_path, code=2)
    assert "workers; did you mean top-k?; did you mean workers?" in run.prose
    run = zsar_here("train", "videos", "-o", "run", "--config", "c.yaml", cwd=tmp_path, code=2)
    assert "c.yaml: no such key: topk; there are the sections train, model, clip," in run.prose
    assert "no such key: Worker;" in run.prose and "did you mean workers?" in run.prose
    assert "no such key: sorce;" in run.prose and "did you mean source?" in run.prose


@pytest.mark.parametrize(
    ("command", "old", "pointer"),
    [
        (["train", "videos", "-o", "run"], "finetune", "--source raw trains the backbone too, --start MODEL"),
        (["train", "videos", "-o", "run"], "labels", "--names FILE gives folders of a data set natural names"),
        (["classify", "a.mp4"], "clips", "windows are what a model sees: --windows N, or --window SECONDS"),
        (["classify", "a.mp4"], "lexicon", "the action lexicon takes no part in scores; leave it out"),
        (["localize", "a.mp4"], "smooth", "segments are scenes that look alike"),
    ],
)
def test_an_option_of_an_earlier_version_is_refused_with_the_one_in_its_place(
    zsar_here: Here, tmp_path: Path, command: list[str], old: str, pointer: str
) -> None:
    run = zsar_here(*command, f"--{old}=3", cwd=tmp_path, code=2)
    assert f"No such option: --{old}; {pointer}" in run.prose and "Possible options" not in run.prose
    (tmp_path / "c.yaml").write_text(f"{old}: 3\n")
    run = zsar_here(*command, "--config", "c.yaml", cwd=tmp_path, code=2)
    assert f": {old}" in run.prose and f"; {pointer}" in run.prose


def test_a_name_of_an_earlier_option_that_another_command_has_is_no_old_one() -> None:
    assert in_place_of("labels", ("labels", "names")) == "" and in_place_of("clips", ("frames",)) == ""


def test_files_that_cannot_be_read_are_named(zsar_here: Here, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"label: caf\xe9\n")
    for name, message in (
        ("none.yaml", "none.yaml: cannot be read: No such file or directory"),
        (".", ".: cannot be read: Is a directory"),
        ("latin.yaml", "latin.yaml: is not text in UTF-8: 'utf-8' codec can't decode byte 0xe9"),
    ):
        run = zsar_here("classify", "a.mp4", "--label", "x", "--config", name, cwd=tmp_path, code=2)
        assert f"Invalid value for '--config': {message}" in run.prose


@pytest.mark.parametrize(
    ("variable", "value", "option"),
    [("ZSAR_TOP_K", "0", "--top-k"), ("ZSAR_FAST", "perhaps", "--fast"), ("ZSAR_TIMEOUT", "soon", "--timeout")],
)
def test_a_variable_that_is_wrong_is_refused(
    zsar_here: Here, tmp_path: Path, variable: str, value: str, option: str
) -> None:
    run = zsar_here("classify", "a.mp4", "--label", "x", cwd=tmp_path, variables={variable: value}, code=2)
    assert f"Invalid value for '{option}'" in run.prose


def test_a_variable_that_sets_nothing_is_named(zsar_here: Callable[..., Finished], tmp_path: Path) -> None:
    variables = {"ZSAR_TOPK": "2", "ZSAR_DEBUG": "", "ZSAR_TOP_K": "1"}
    run = zsar_here("cache", "info", "--cache-dir", tmp_path, variables=variables, code=0)
    assert run.stderr == "warning: ZSAR_TOPK sets nothing; did you mean ZSAR_TOP_K?\n"
    assert zsar_here("help", "train", cwd=tmp_path, variables=variables, code=0).stderr == run.stderr  # once


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("ZSAR_CACHE", "/data/cache", "; did you mean ZSAR_CACHE_DIR?"),  # not ZSAR_NO_CACHE, which is a switch
        ("ZSAR_CACHE", "0", "; did you mean ZSAR_CACHE_DIR or ZSAR_NO_CACHE?"),
        ("ZSAR_MODELS", "a", "; did you mean ZSAR_MODELS_DIR or ZSAR_MODEL?"),
        ("ZSAR_FLIP", "no", "; did you mean ZSAR_NO_FLIP?"),
        ("ZSAR_DEVCE", "cpu", "; did you mean ZSAR_DEVICE?"),
        ("ZSAR_COLOUR", "red", ""),
        ("ZSAR_FINETUNE", "30", "; --source raw trains the backbone too, --start MODEL begins with a trained one"),
        ("ZSAR_", "1", ""),
    ],
)
def test_the_variable_that_was_meant_is_named(name: str, value: str, hint: str) -> None:
    known = {"ZSAR_MODELS_DIR": False, **dict(variables_of(typer.main.get_command(app)))}
    assert hint_for(name, value, known) == hint
