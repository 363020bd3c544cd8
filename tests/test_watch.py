"""`zsar classify --watch`: videos as they arrive, each once it is whole."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import videos
from cli_runner import Finished, Runner, label_options

from zsar_cli.data.arriving import arriving_videos

Here = Callable[..., Finished]


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return videos.write_video(tmp_path_factory.mktemp("clip") / "clip.mp4").path


def test_a_file_arrives_once_it_has_come_to_rest(tmp_path: Path, clip: Path) -> None:
    content = clip.read_bytes()
    (tmp_path / "below").mkdir()
    whole = threading.Event()

    def write() -> None:
        time.sleep(0.5)
        (tmp_path / "notes.txt").write_text("no video")
        (tmp_path / ".hidden.mp4").write_bytes(content)
        with open(tmp_path / "below" / "slow.mp4", "wb", buffering=0) as file:
            for part in range(4):
                file.write(content[len(content) * part // 4 : len(content) * (part + 1) // 4])
                time.sleep(0.5)
        whole.set()
        time.sleep(1.5)
        shutil.copy(clip, tmp_path / "next.mp4")

    shutil.copy(clip, tmp_path / "old.mp4")
    shutil.copy(clip, tmp_path / "since.mp4")
    found = arriving_videos([str(tmp_path)], known=[str(tmp_path / "old.mp4")], settled=1.0)
    writer = threading.Thread(target=write)
    writer.start()
    assert next(found) == str(tmp_path / "since.mp4")  # it came before the watch, and after the look
    assert next(found) == str(tmp_path / "below" / "slow.mp4") and whole.is_set()
    assert next(found) == str(tmp_path / "next.mp4")
    writer.join()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_the_command_goes_on_until_it_is_interrupted(zsar: Runner, tmp_path: Path, clip: Path) -> None:
    folder, output = tmp_path / "in", tmp_path / "out.jsonl"
    folder.mkdir()
    shutil.copy(clip, folder / "first.mp4")
    with zsar.start("classify", folder, *label_options(), "--watch", "-o", output) as process:
        try:
            assert process.stderr is not None
            while "watching" not in (line := process.stderr.readline()):
                assert line, "it ended"
            shutil.copy(clip, folder / "second.mp4")
            part = Path(f"{output}.part")
            end = time.monotonic() + 60
            while part.read_text().count("\n") < 2 and time.monotonic() < end:
                time.sleep(0.2)
            os.kill(process.pid, signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130 and "2 videos: 2 classified" in stderr
    assert [f'"{name}.mp4"' in line.replace(str(folder) + os.sep, "") for name, line in
            zip(("first", "second"), output.read_text().splitlines(), strict=True)] == [True, True]  # fmt: skip


def test_what_cannot_be_watched_is_refused(zsar_here: Here, clip: Path) -> None:
    run = zsar_here("classify", clip, *label_options(), "--watch", code=2)
    assert f"--watch: none of {clip} is a folder" in run.prose
    run = zsar_here("classify", clip.parent, *label_options(), "--watch", "--sort", "path", code=2)
    assert "--watch cannot go with --sort path" in run.prose
