"""`--resume` end to end: a killed job that is started again, and a folder that grows."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import videos
from cli_runner import Finished, Runner, label_options, preload

Here = Callable[..., Finished]
posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

# The file that is named after the variable is never read to its end.
STUCK = """
import os, time
import zsar_cli.video.reader as reader

good = reader.read_windows

def read_windows(path, *rest):
    if path == os.environ.get("STUCK"):
        time.sleep(3600)
    return good(path, *rest)

reader.read_windows = read_windows
"""


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture
def week(tmp_path: Path) -> Path:
    """Six videos and one that is none."""
    folder = tmp_path / "week"
    folder.mkdir()
    for i in range(6):
        videos.write_video(folder / f"clip{i}.mp4", frames=12, first=50 * i)
    (folder / "clip3.mp4").write_text("no video")
    return folder


COMMANDS = (
    ("classify", *label_options(), "--frames", 4, "-k", 3),
    ("localize", *label_options(), "--frames", 2, "--window", 0.2, "--onset", 0.5),
)


@posix
@pytest.mark.parametrize("command", COMMANDS, ids=["classify", "localize"])
def test_a_job_that_is_killed_again_and_again_gives_what_one_gives_that_is_not(
    zsar: Runner, zsar_here: Here, week: Path, tmp_path: Path, command: tuple[object, ...]
) -> None:
    fresh = zsar.with_fresh_cache(tmp_path / "cache")
    arguments = [*command, "week", "--workers", 1, "-o", "out.jsonl", "--resume"]
    part = tmp_path / "out.jsonl.part"
    for stuck in (2, 2, 5):
        variables = {**preload(tmp_path / "faults", STUCK), "STUCK": f"week/clip{stuck}.mp4"}
        with fresh.start(*arguments, cwd=tmp_path, variables=variables) as process:
            deadline = time.monotonic() + 120
            while not (part.exists() and lines_for(part, tmp_path / "out.jsonl") == stuck):
                assert process.poll() is None and time.monotonic() < deadline, process.communicate()
                time.sleep(0.02)
            process.kill()
    with open(part, "ab") as file:
        file.write(b'{"schema": "zsar.result/2", "path": "week/cl')
    run = fresh(*arguments, cwd=tmp_path, code=3)
    done = "classified" if command[0] == "classify" else "localized"
    assert "out.jsonl: 4 of 6 done before\n" in run.stderr
    assert run.stderr.endswith(f"6 videos: 1 {done}, 1 failed, 4 done before\n")
    fresh(*command, "week", "--workers", 1, "-o", "whole.jsonl", cwd=tmp_path, code=3)
    found, expected = read(tmp_path / "out.jsonl"), read(tmp_path / "whole.jsonl")
    assert [record["path"] for record in found] == [f"week/clip{i}.mp4" for i in range(6)]
    assert found == expected  # the values are those of the cache
    assert {path.name for path in tmp_path.iterdir()} == {"week", "cache", "faults", "out.jsonl", "whole.jsonl"}


def lines_for(*files: Path) -> int:
    """Videos that have a record."""
    return len({record["path"] for file in files if file.exists() for record in read(file)})


def read(file: Path) -> list[dict[str, object]]:
    lines = file.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


def test_next_week_is_added_and_what_is_done_is_not_done_again(zsar_here: Here, week: Path, tmp_path: Path) -> None:
    arguments = ["classify", "week", *label_options(), "-o", "out.jsonl", "--resume", "--no-cache"]
    zsar_here(*arguments, cwd=tmp_path, code=3)
    first = (tmp_path / "out.jsonl").read_bytes()
    videos.write_video(week / "clip6.mp4", frames=12, first=999)
    (week / "clip3.mp4").unlink()
    (week / "clip1.mp4").rename(week / "moved.mp4")
    run = zsar_here(*arguments, cwd=tmp_path, code=0)
    assert run.stderr == "out.jsonl: 5 of 6 done before\n6 videos: 1 classified, 5 done before\n"
    paths = [record["path"] for record in read(tmp_path / "out.jsonl")]
    assert paths == ["week/clip3.mp4", *(f"week/clip{i}.mp4" for i in (0, 2, 4, 5, 6)), "week/moved.mp4"]
    assert set(first.splitlines()[2:]) <= set((tmp_path / "out.jsonl").read_bytes().splitlines())
    run = zsar_here(*arguments, cwd=tmp_path, code=0)
    assert run.stderr == "out.jsonl: 6 of 6 done before\n6 videos: 0 classified, 6 done before\n"


def test_other_settings_are_refused_with_what_to_do(zsar_here: Here, week: Path, tmp_path: Path) -> None:
    arguments = [week / "clip0.mp4", *label_options(), "--resume"]
    zsar_here("classify", *arguments, "-o", tmp_path / "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    for more, told in (
        (["--frames", 4], "settings.sampling.frames 16 before, 4 now (--frames 16)"),
        (["-k", 2], "predictions 5 before, 2 now (--top-k 5)"),
        (["--label", "canoe"], "(the same --labels)"),
        (["--hash", "full"], 'hash "sampled" before, "full" now (--hash sampled)'),
        (["--fast"], "settings.sampling.exact true before, false now (without --fast)"),
    ):
        run = zsar_here("classify", *arguments, *more, "-o", tmp_path / "out.jsonl", code=2)
        assert f"error: {tmp_path / 'out.jsonl'}: was made with other settings: " in run.stderr and told in run.stderr
    run = zsar_here("localize", *arguments, "-o", tmp_path / "out.jsonl", code=2)
    assert "settings.sampling.window null before, 4.0 now (without --window)" in run.stderr
    assert (tmp_path / "out.jsonl").read_bytes() == before and not (tmp_path / "out.jsonl.part").exists()
    run = zsar_here("classify", *arguments, "-o", tmp_path / "out.csv", code=2)
    assert "error: --resume goes on with a file of JSON Lines, not with" in run.stderr
