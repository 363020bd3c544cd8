"""What `--help` shows: every text whole, the commands in the order in which one meets them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_runner import Finished
from typer.main import get_command

from zsar_cli.cli.app import app
from zsar_cli.training.config import TrainConfig

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
        "calibrate", "export-prototypes", "doctor", "help", "library", "data", "models", "cache",
    ]  # fmt: skip


def test_the_first_line_of_a_command_is_one_line(zsar_here: Here) -> None:
    page = zsar_here("--help", variables={"COLUMNS": "80"}).stdout
    _, list_of_commands = page.split(" Commands ")
    assert re.findall(r"^│ {5,}\S.*", list_of_commands, flags=re.MULTILINE) == []


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_help_has_an_example_and_no_type_of_python(shown: Callable[..., str], name: tuple[str, ...]) -> None:
    page = shown(*name)
    assert f"Example: zsar {' '.join(name)}" in page
    assert re.findall(r"<[a-z]", page) == []


def test_the_list_of_commands_shows_no_type_of_python(shown: Callable[..., str]) -> None:
    for page in (shown(), shown("library")):
        assert re.findall(r"<[a-z]", page) == []


@pytest.mark.parametrize("name", [(), ("classify",), ("library",), ("library", "add")], ids=" ".join)
def test_help_as_a_command_shows_that_page(
    zsar_here: Here, shown: Callable[..., str], name: tuple[str, ...]
) -> None:
    assert zsar_here("help", *name, variables={"COLUMNS": "600"}).stdout == shown(*name)


def test_help_of_what_is_no_command_is_wrong_usage(zsar_here: Here) -> None:
    assert "No such command 'clasify'" in zsar_here("help", "clasify", code=2).stderr


NUMBERS = ("NUMBER", "SECONDS", "SHARE", "STEPS", "COSINE", "DISTANCE")


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_help_shows_what_a_number_is_unless_it_is_given(shown: Callable[..., str], name: tuple[str, ...]) -> None:
    for line in shown(*name).splitlines():
        if re.search(rf"  ({'|'.join(NUMBERS)})( \[[^\]]*\])?  ", line):
            assert "[default: " in line, line


def test_help_of_train_shows_the_defaults_that_training_has(shown: Callable[..., str]) -> None:
    config = TrainConfig()
    page = shown("train")
    for option, value in {
        "--steps": config.steps, "--batch-size": config.batch, "--lr": config.learning_rate, "--seed": config.seed,
        "--validation": config.validation,
    }.items():  # fmt: skip
        (line,) = [line for line in page.splitlines() if f" {option} " in line and "[default" in line]
        assert f"[default: ({value:g})]" in line
