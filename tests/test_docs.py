"""The documents say what the code does, and nothing that it does is missing in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import PAGES, README, ROOT, anchors, examples, links, name_of
from typer.main import get_command

import zsar_cli
from zsar_cli import errors
from zsar_cli.cli import guard
from zsar_cli.cli.app import OTHER_VARIABLES, app
from zsar_cli.text.minilm import MINILM
from zsar_cli.transfer.bank import FORMAT
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

# Lines of other programs.
OF_OTHERS = r"^.*(benchmarks|pip install|torchrun|SBATCH|mkdocs|python -m build|maintenance).*$"


def all_parameters() -> Iterator[tuple[str, object]]:
    commands = [("zsar", get_command(app))]
    while commands:
        name, command = commands.pop()
        commands.extend((f"{name} {key}", one) for key, one in getattr(command, "commands", {}).items())
        yield from ((name, parameter) for parameter in command.params)


def options_of_all_commands() -> set[str]:
    found = {"--help", "-h"}
    return found | {name for _, one in all_parameters() for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("--some-name", "").replace("\\\n", " ")
    text = re.sub(OF_OTHERS, "", text, flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w\-|])--[a-z][a-z-]+", text))
    assert named - options_of_all_commands() == set()


def documented() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


def test_every_option_is_documented() -> None:
    text = documented()
    for command, one in all_parameters():
        for name in one.opts if one.param_type_name == "option" else ():
            assert re.search(rf"`{name}[ `]|zsar {name}", text), f"{command} {name}: nowhere in docs/"


def constants(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_variable_of_the_environment_is_documented() -> None:
    own = {one.envvar for _, one in all_parameters() if getattr(one, "envvar", None)}
    read = set()
    for file in (ROOT / "zsar_cli").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        read |= set(re.findall(r"environ(?:\.\w+\(|\[)\s*\"(\w+)\"", text))
        read |= {name for name in constants(ast.parse(text)) if re.fullmatch(r"(ZSAR|HF|RAY|OMP)_[A-Z_]*[A-Z]", name)}
    assert {"ZSAR_DEBUG", "HF_HUB_OFFLINE", "OMP_WAIT_POLICY", "WORLD_SIZE"} <= read
    text = documented()
    wanted = read | own | set(OTHER_VARIABLES) | {"NO_COLOR", "HF_HOME", "HF_ENDPOINT"}
    assert sorted(name for name in wanted if f"`{name}`" not in text) == []


def test_every_exit_code_is_documented_and_none_more() -> None:
    classes = [getattr(errors, name) for name in errors.__all__]
    codes = {0, guard.SOME_FAILED, guard.INTERRUPTED, guard.TERMINATED, *(one.exit_code for one in classes)}
    page = (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", page, flags=re.MULTILINE)} == codes


def test_every_message_of_the_troubleshooting_page_is_one_of_the_program() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in (ROOT / "zsar_cli").rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    for cell in re.findall(r"^\| (`.+?) \|", page, flags=re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", cell):
            # What stands in braces in the code is filled in by the run.
            shown = re.escape(message).replace(r"\ en\ ", r"\ \{.+?\}\ ")
            stage = re.fullmatch(r"(\w+) failed", message)
            assert re.search(shown, code) or (stage and f'"{stage[1]}"' in code), message


@pytest.mark.parametrize("name", ["main", "test"])
def test_the_readme_has_its_two_lines(name: str) -> None:
    text = README.read_text(encoding="utf-8")
    block = re.search(rf"<!-- line: {name} -->\n```sh\n(.+)\n```", text)
    assert block is not None, "one line, in a code block behind its marker"
    assert "-c constraints.txt" in block[1]


def test_the_readme_can_be_read_in_one_go() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 160


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, todo = set(), [README]
    while todo:
        page = todo.pop()
        if page not in reached:
            reached.add(page)
            todo += [(page.parent / path).resolve() for path, _ in links(page) if path.endswith(".md")]
    assert set(PAGES) - reached == set()


def test_the_picture_of_the_readme_asks_no_other_site() -> None:
    picture = (ROOT / "docs" / "images" / "terminal.svg").read_text(encoding="utf-8")
    assert "riding&#160;a&#160;bike" in picture
    assert re.findall(r"url\(\"?http|href=|@import|@font-face", picture) == []


def test_examples_name_commands_that_exist() -> None:
    names = set(get_command(app).commands)
    for page in PAGES:
        for one in examples(page):
            for word in re.findall(r"(?:^|[|&;]\s*|\bbin/)zsar ([a-z][\w-]*)", one.code, flags=re.MULTILINE):
                assert word in names, f"{name_of(page)}: zsar {word}"


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
