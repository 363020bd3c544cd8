"""What `--help` shows: every text whole, the commands in the order in which one meets them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_runner import Finished
from typer.main import get_command

from zsar_cli.cli.app import app

Here = Callable[..., Finished]


def commands(command: Any, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its name, those of groups among them."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for key, one in below.items():
        yield from commands(one, (*name, key))


ALL = dict(commands(get_command(app)))


@pytest.fixture
def shown(zsar_here: Here) -> Callable[..., str]:
    """The help of a command, on a screen so wide that nothing is folded."""
    return lambda *name: zsar_here(*name, "--help", variables={"COLUMNS": "600"}).stdout


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_help_shows_every_text_whole(shown: Callable[..., str], name: tuple[str, ...]) -> None:
    page = shown(*name)
    arguments = re.findall(r"[{\[]([^{}\[\]]+)[}\]]", page.partition("Usage: ")[2].splitlines()[0])
    assert [one for one in arguments if not one.isupper()] == []
    lines = [" ".join(line.split()) for line in page.splitlines()]
    for parameter in ALL[name].params:
        if parameter.help and not parameter.hidden:
            assert parameter.help in page, parameter.name
    for paragraph in (ALL[name].help or "").split("\n\n"):
        assert " ".join(paragraph.split()) in lines  # no line ends where the source code has one


@pytest.mark.parametrize("name", ["classify", "localize"])
def test_help_says_what_decides_the_format(shown: Callable[..., str], name: str) -> None:
    (line,) = [line for line in shown(name).splitlines() if "--format" in line]
    assert "[default: (by the output file's suffix, else table)]" in line


def test_commands_come_in_the_order_of_their_use(shown: Callable[..., str]) -> None:
    _, list_of_commands = shown().split(" Commands ")
    names = re.findall(r"^│ ([a-z-]+) ", list_of_commands, flags=re.MULTILINE)
    assert names == [
        "classify", "localize", "search", "cut", "report", "explain", "train", "evaluate", "evaluate-localization",
        "calibrate", "export-prototypes", "doctor", "library", "data", "models", "cache",
    ]  # fmt: skip


def test_the_first_line_of_a_command_is_one_line(zsar_here: Here) -> None:
    page = zsar_here("--help", variables={"COLUMNS": "80"}).stdout
    _, list_of_commands = page.split(" Commands ")
    assert re.findall(r"^│ {5,}\S.*", list_of_commands, flags=re.MULTILINE) == []
