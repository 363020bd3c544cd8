"""Runs the real program, `python -m zsar_cli`, in processes of its own, as a user would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE_LABELS = ROOT / "examples" / "labels.txt"
# Names from the example file, whose embeddings the test session computes once.
LABELS = ("chopping wood", "hammering a nail", "playing chess", "riding a bike", "swimming")
# What a developer's shell may hold and a test must not depend on.
_PRIVATE = ("HF_HUB_OFFLINE", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "COLUMNS", "PYTHONPATH")


@dataclass(frozen=True)
class Finished:
    """A run that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The JSON Lines on standard output."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def prose(self) -> str:
        """Standard error in one line, without the frame that typer draws round usage errors."""
        return " ".join(self.stderr.translate(dict.fromkeys(map(ord, "╭╮╰╯─│"), " ")).split())


class Runner:
    """Starts the program with an embedding cache of the tests' own.

    Args:
        cache: its folder.
        labels: a cache that knows labels, to begin with; None begins with nothing.
        variables: of every run's environment.
    """

    def __init__(self, cache: Path, labels: Path | None = None, variables: Mapping[str, str] | None = None) -> None:
        self.cache, self.labels, self.variables = cache, labels, dict(variables or {})
        if labels is not None:
            shutil.copytree(labels, cache)

    def environment(self, **variables: str) -> dict[str, str]:
        """The developer's environment without what would change a run."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("ZSAR_") and key not in _PRIVATE}
        own = {
            "ZSAR_CACHE_DIR": str(self.cache),
            "ZSAR_MODEL": "builtin",  # whatever else is on the machine
            "ZSAR_PROGRESS_EVERY": "0",  # how often a line comes depends on the load of the machine
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "utf-8",
        }
        return {**kept, **own, **self.variables, **variables}

    def start(
        self,
        *arguments: object,
        before: Sequence[str] = (),
        python: Sequence[str] = (),
        variables: dict[str, str] | None = None,
        **how: Any,
    ) -> subprocess.Popen[str]:
        """A running process.

        Args:
            before: a command that becomes the program.
            python: options of the interpreter.
            variables: of the environment.
            how: goes to Popen.
        """
        command = [*before, sys.executable, *python, "-m", "zsar_cli", *map(str, arguments)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = self.environment(**(variables or {}))
        return subprocess.Popen(
            command, env=environment, encoding="utf-8", errors="surrogateescape", **{**streams, **how}
        )

    def __call__(self, *arguments: object, code: int | None = 0, stdin: str | None = None, **how: Any) -> Finished:
        """Run to the end; an exit code other than `code` fails the test (None allows any)."""
        if stdin is not None:
            how["stdin"] = subprocess.PIPE
        with self.start(*arguments, **how) as process:
            try:
                stdout, stderr = process.communicate(stdin, timeout=240)
            finally:
                process.kill()
        finished = Finished(process.returncode, stdout or "", stderr or "")
        assert code is None or finished.code == code, finished
        return finished

    def with_fresh_cache(self, folder: Path) -> Runner:
        """A runner whose cache in `folder` knows the labels and no video."""
        return Runner(folder, self.labels, self.variables)


def label_options(names: Sequence[str] = LABELS) -> list[str]:
    """The names as options."""
    return [part for name in names for part in ("--label", name)]


def preload(folder: Path, code: str) -> dict[str, str]:
    """Variables that make every Python process, decode processes included, run `code` when it starts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(code, encoding="utf-8")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
