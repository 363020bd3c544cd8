"""`zsar help`: the help page of a command, as --help shows it."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["show_help"]

Names = Annotated[
    list[str] | None,
    typer.Argument(help="Such as classify, or library add; none: all commands.", metavar="[COMMAND]..."),
]


def show_help(context: typer.Context, command: Names = None) -> None:
    """Show the help of a command.

    Example: zsar help classify

    Example: zsar help library add
    """
    context.find_root().command.main([*(command or ()), "--help"], prog_name="zsar")
