"""What several test modules share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import EXAMPLE_LABELS, LABELS, Finished, Runner
from filelock import FileLock

# Every worker of the tests, and every process they start, computes on one thread: threads of many processes that wait
# for each other on few processors take several times as long.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell starts jobs in the background with ctrl-C ignored, which all their children would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def label_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the embeddings of the example labels and of a few more, made once for all workers of the tests."""
    base = tmp_path_factory.getbasetemp()
    cache = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "labels"
    done = cache.with_suffix(".done")
    with FileLock(cache.with_suffix(".lock")):
        if not done.exists():
            Runner(cache)("explain", "--labels", EXAMPLE_LABELS, "--label", "canoe", "--label", "kayak")
            done.touch()
    return cache


@pytest.fixture(scope="session")
def zsar_builtin(label_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The program with its built-in model."""
    return Runner(tmp_path_factory.mktemp("builtin") / "cache", label_cache)


@pytest.fixture(scope="session")
def zsar_tiny(label_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The program with a model that is there at once, for tests of all that is around a model.

    It has five classes. Where LiteRT is not installed it is the built-in model after all.
    """
    import numpy as np  # not sooner: it reads OMP_NUM_THREADS

    folder = tmp_path_factory.mktemp("tiny")
    try:
        from tflite_files import write_linear
    except pytest.skip.Exception:
        return Runner(folder / "cache", label_cache)
    matrix = np.random.default_rng(0).normal(size=(len(LABELS), 16 * 16 * 3)) / 16
    (folder / "classes.txt").write_text("\n".join(LABELS), encoding="utf-8")
    model = write_linear(folder / "tiny.tflite", matrix)
    variables = {"ZSAR_MODEL": str(model), "ZSAR_SEEN_LABELS": str(folder / "classes.txt"), "ZSAR_FRAMES": "16"}
    return Runner(folder / "cache", label_cache, variables)


@pytest.fixture(scope="session")
def zsar(zsar_builtin: Runner) -> Runner:
    """The program; test modules for which any model does put `zsar_tiny` in its place."""
    return zsar_builtin


@pytest.fixture
def zsar_here(
    zsar: Runner, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Finished]:
    """As `zsar`, inside this process: a fraction of the time where a process of its own is beside the point."""
    from zsar_cli.__main__ import main

    def run(
        *arguments: object, code: int = 0, cwd: Path | None = None, variables: dict[str, str] | None = None
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
