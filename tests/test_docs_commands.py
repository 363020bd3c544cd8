"""docs/commands/ says what the command line does."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_pages_of_commands_are_those_that_the_script_writes() -> None:
    script = ROOT / "examples" / "maintenance" / "command_pages.py"
    pages = dict(runpy.run_path(str(script))["all_pages"]())
    there = {file.name: file.read_text(encoding="utf-8") for file in (ROOT / "docs" / "commands").glob("*.md")}
    assert there == pages, "run examples/maintenance/command_pages.py"
