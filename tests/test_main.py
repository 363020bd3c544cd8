"""What the command line sets before anything heavy is loaded, and the library does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

COMMAND_LINE = """
import os, sys
from zsar_cli.__main__ import main
try:
    main()
except SystemExit:
    assert "torch" not in sys.modules
    print(os.environ.get("OMP_WAIT_POLICY"))
"""
LIBRARY = 'import os, zsar_cli; zsar_cli.load; print(os.environ.get("OMP_WAIT_POLICY"))'


@pytest.mark.parametrize(
    ("code", "given", "expected"),
    [(COMMAND_LINE, None, "PASSIVE"), (COMMAND_LINE, "ACTIVE", "ACTIVE"), (LIBRARY, None, "None")],
    ids=["command line", "as the user says", "library"],
)
def test_threads_of_the_command_line_sleep_while_they_wait(code: str, given: str | None, expected: str) -> None:
    variables = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    if given is not None:
        variables["OMP_WAIT_POLICY"] = given
    run = subprocess.run(
        [sys.executable, "-c", code, "--version"], env=variables, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == expected


ENDING = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000))  # runs last
from zsar_cli.__main__ import main
main()
"""


def test_the_command_line_ends_without_a_search_for_cycles() -> None:
    run = subprocess.run([sys.executable, "-c", ENDING, "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "True"
