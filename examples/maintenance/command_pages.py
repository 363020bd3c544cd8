"""Write docs/commands/, a page for each command, from the command line itself.

    python examples/maintenance/command_pages.py

Run it after any change of a command, an option or its help; tests/test_docs_commands.py compares the pages with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from zsar_cli.cli.app import app

FOLDER = Path(__file__).parents[2] / "docs" / "commands"
NOTE = "<!-- Written by examples/maintenance/command_pages.py from the command line: change the help there. -->"


def main() -> None:
    """Write all pages, and remove those of commands that are gone."""
    FOLDER.mkdir(exist_ok=True)
    pages = dict(all_pages())
    for old in FOLDER.glob("*.md"):
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def all_pages() -> Iterator[tuple[str, str]]:
    """File name and text of each page: the list of commands, and a page a command, a group's commands on one."""
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    rows = [f"| [`zsar {name}`]({name}.md) | {cell(summary(one))} |" for name, one in commands.items()]
    lines = [NOTE, "", "# Commands", "", "| command | what it does |", "|---|---|", *rows]
    yield "index.md", "\n".join([*lines, "", *shared()])
    for name, command in commands.items():
        yield f"{name}.md", "\n".join([NOTE, "", f"# zsar {name}", "", *body(command, name, 2)])


def shared() -> list[str]:
    """What holds for all commands."""
    return [
        "`zsar COMMAND --help` and `zsar help COMMAND` show the same on a terminal.",
        "Each option that names a variable is also set by it, or as `some-name: value` in a `--config` file. The",
        "command line wins over the variable, the variable over the file, the file over the default.",
        "",
        "`zsar --install-completion` sets up completion of commands and options for your shell (bash, zsh, fish or",
        "PowerShell); `zsar --show-completion` prints what it would install.",
        "",
        "`zsar --version` or `zsar -V` shows the version.",
        "",
    ]


def body(command: Any, name: str, level: int) -> list[str]:
    """The lines of a command's page under its heading."""
    paragraphs = (command.help or "").split("\n\n")
    lines = [line for text in paragraphs if not text.startswith("Example: ") for line in (escaped(text), "")]
    for key, below in getattr(command, "commands", {}).items():
        lines += ["#" * level + f" zsar {name} {key}", "", *body(below, f"{name} {key}", level + 1)]
    if getattr(command, "commands", None):
        return lines
    lines += ["```text", f"zsar {name} {usage(command)}".rstrip(), "```", ""]
    examples = [text.removeprefix("Example: ") for text in paragraphs if text.startswith("Example: ")]
    lines += ["For example:", "", "```text", *examples, "```", ""]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    if arguments:
        rows = [f"| `{one.metavar}` | {cell(one.help or '')} |" for one in arguments]
        lines += ["| argument | |", "|---|---|", *rows, ""]
    return lines + options(command)


def options(command: Any) -> list[str]:
    """A table of options for each panel of the help page."""
    panels: dict[str, list[Any]] = defaultdict(list)
    for one in command.params:
        if one.param_type_name == "option" and not one.hidden:
            panels[one.rich_help_panel or "Options"].append(one)
    lines = []
    for panel, members in panels.items():
        lines += [f"**{panel}**", ""]
        lines += ["| option | meaning | default | variable |", "|---|---|---|---|"]
        lines += [
            f"| {names(one)} | {cell(one.help or '')} | {cell(default(one))} | {variable(one)} |" for one in members
        ]
        lines.append("")
    return lines


def usage(command: Any) -> str:
    """Arguments in their order, those that may be left out in brackets."""
    words = ["[OPTIONS]"] if any(one.param_type_name == "option" for one in command.params) else []
    for one in command.params:
        if one.param_type_name == "argument":
            word = one.metavar.strip("[]. ") + ("..." if one.nargs == -1 else "")
            words.append(word if one.required else f"[{word}]")
    return " ".join(words)


def names(option: Any) -> str:
    """All names of an option, with the word for its value."""
    value = "" if option.is_flag else f" {option.metavar or 'NUMBER'}"
    return ", ".join(f"`{name}{value}`".replace("|", "\\|") for name in (*option.opts, *option.secondary_opts))


def default(option: Any) -> str:
    """What holds without the option; nothing for a flag."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag or option.default is None:
        return ""
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)


def variable(option: Any) -> str:
    return f"`{option.envvar}`" if option.envvar else ""


def summary(command: Any) -> str:
    return (command.help or "").split("\n\n")[0]


def escaped(text: str) -> str:
    """Text in which Markdown and HTML see no marks of theirs."""
    for mark in "\\*_<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text


def cell(text: str) -> str:
    return escaped(text).replace("|", "\\|")


if __name__ == "__main__":
    main()
