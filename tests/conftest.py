"""What several test modules share."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import EXAMPLE_LABELS, Finished, Runner

# Every worker of the tests, and every process they start, computes on one thread: threads of many processes that wait
# for each other on few processors take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts jobs in the background with ctrl-C ignored, which all their children would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def zsar(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The program, with the embeddings of the example labels and of a few more in its cache."""
    folder: Path = tmp_path_factory.mktemp("cache")
    runner = Runner(folder / "cache")
    runner("explain", "--labels", EXAMPLE_LABELS, "--label", "canoe", "--label", "kayak")
    shutil.copytree(folder / "cache", folder / "labels-only")
    return runner


@pytest.fixture
def zsar_here(
    zsar: Runner, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """As `zsar`, inside this process: a fraction of the time where a process of its own is beside the point."""
    from zsar_cli.__main__ import main

    def run(
        *arguments: object, code: int, cwd: Path | None = None, variables: dict[str, str] | None = None
    ) -> Finished:
        before = signal.getsignal(signal.SIGTERM)
        with monkeypatch.context() as patch, pytest.raises(SystemExit) as end:
            patch.chdir(cwd or Path.cwd())
            patch.setattr(sys, "argv", ["zsar", *map(str, arguments)])
            for key in os.environ.keys() - zsar.environment().keys():
                patch.delenv(key)
            for key, value in zsar.environment(**(variables or {})).items():
                patch.setenv(key, value)
            try:
                main()
            finally:
                signal.signal(signal.SIGTERM, before)
        finished = Finished(int(end.value.code or 0), *capfd.readouterr())
        assert finished.code == code, finished
        return finished

    return run
