"""Help pages without noise: a flag shows no type, and a number is called one; and names of options."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from zsar_cli.cli.renamed import in_place_of

__all__ = ["Commands", "long_options"]


def long_options(command: Any) -> dict[str, Any]:
    """The parameters of a command by each of their names that begin with "--", without that."""
    return {name[2:]: one for one in command.params for name in one.opts if name.startswith("--")}


def _plain(parameters: list[Any]) -> list[Any]:
    """The parameters, with what help shows beside their names."""
    for parameter in parameters:
        if parameter.param_type_name == "argument":
            vars(parameter)["display_type_rich"] = lambda ctx: None  # else `<list[str]>` behind its name
        elif getattr(parameter, "is_flag", False):
            parameter.metavar = ""
        elif parameter.metavar is None:
            parameter.metavar = "NUMBER"  # what is none names itself
    return parameters


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer's own; an option of an earlier version is refused with the one in its place."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # click's NoSuchOption, wherever this typer has it from
            wrong: Any = error
            pointer = in_place_of(str(getattr(error, "option_name", "")).removeprefix("--"), long_options(self))
            if pointer:
                wrong.message, wrong.possibilities = f"{wrong.message}{pointer}", ()
            raise

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))


class Commands(typer.Typer):
    """Commands under one name, whose help pages are plain."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=_Group, no_args_is_help=True, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Any:
        """As typer's own."""
        return super().command(name, cls=_Command, **settings)
