"""What several test modules share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_runner import EXAMPLE_LABELS, Runner


@pytest.fixture(scope="session")
def zsar(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The program, with the embeddings of the example labels and of a few more in its cache."""
    folder: Path = tmp_path_factory.mktemp("cache")
    runner = Runner(folder / "cache")
    runner("explain", "--labels", EXAMPLE_LABELS, "--label", "canoe", "--label", "archer")
    shutil.copytree(folder / "cache", folder / "labels-only")
    return runner
