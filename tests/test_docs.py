"""The documents say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

import zsar_cli
from zsar_cli.cli.app import app
from zsar_cli.text.minilm import MINILM
from zsar_cli.transfer.bank import FORMAT
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def options_of_all_commands() -> set[str]:
    found = {"--version", "--help"}
    commands = [get_command(app)]
    while commands:
        command = commands.pop()
        commands.extend(getattr(command, "commands", {}).values())
        found |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found


def test_every_option_the_readme_names_exists() -> None:
    text = README.replace("--some-name", "")
    text = re.sub(r"^.*(benchmarks|pip install|torchrun).*$", "", text, flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named
    assert named - options_of_all_commands() == set()


@pytest.mark.parametrize("name", ["main", "test"])
def test_the_readme_has_its_two_lines(name: str) -> None:
    block = re.search(rf"<!-- line: {name} -->\n```sh\n(.+)\n```", README)
    assert block is not None, "one line, in a code block behind its marker"
    assert "-c constraints.txt" in block[1]


def test_every_file_the_readme_links_to_is_there() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_weights_page_has_the_sums_and_sizes_that_are_checked() -> None:
    page = (ROOT / "weights.md").read_text(encoding="utf-8")
    for file in (EFFICIENTNET_LITE2, MINILM):
        row = next(line for line in page.splitlines() if f"`{file.package}`" in line)
        assert file.sha256 in row
        assert f"{file.path.stat().st_size:,}" in row
        assert file.licence in row
    assert FORMAT in page


def test_the_newest_changelog_entry_is_this_version_or_unreleased() -> None:
    heads = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert len(heads) == 1 or heads[1] == zsar_cli.__version__
