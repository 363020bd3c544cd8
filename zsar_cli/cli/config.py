"""`--config file.yaml`: defaults for a command's options. The command line and ZSAR_* variables win over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from zsar_cli import plain
from zsar_cli.cli.pages import long_options
from zsar_cli.cli.renamed import in_place_of
from zsar_cli.errors import ConfigError
from zsar_cli.labels import meant

__all__ = ["read_config", "read_yaml", "take_options"]


def read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Option callback: take the file's values as the command's defaults.

    Raises:
        typer.BadParameter: the file cannot be read, or holds what is no option of this command.
    """
    if path is not None:
        take_options(context, path, read_yaml(path))
    return path


def read_yaml(path: Path) -> dict[Any, Any]:
    """A file of "key: value" lines.

    Raises:
        typer.BadParameter: it cannot be read, or is something else.
    """
    try:
        content = plain.read_yaml(path, ConfigError)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{path}: expected lines such as 'top-k: 3', found a {type(content).__name__}")
    return content


def take_options(context: typer.Context, path: Path, content: dict[Any, Any]) -> None:
    """Make a file's values the command's defaults.

    Raises:
        typer.BadParameter: the content holds what is no option of this command.
    """
    context.default_map = {**(context.default_map or {}), **_checked(path, content, context)}


def _checked(path: Path, content: dict[Any, Any], context: typer.Context) -> dict[str, Any]:
    """The file's values by parameter name; all unknown keys are reported at once."""
    options = long_options(context.command)
    names = {name: parameter for name, parameter in options.items() if name not in ("config", "help")}
    unknown = [str(key) for key in content if str(key).replace("_", "-") not in names]
    if unknown:
        hints = "".join(in_place_of(key, names) or meant(key.replace("_", "-").lower(), names) for key in unknown)
        raise typer.BadParameter(
            f"{path}: no such option: {', '.join(unknown)}; '{context.info_name}' has {', '.join(sorted(names))}{hints}"
        )
    values: dict[str, Any] = {}
    for key, value in content.items():
        parameter = names[str(key).replace("_", "-")]
        if value is None:
            continue
        several = getattr(parameter, "multiple", False)
        items = value if isinstance(value, list) and several else [value]
        if any(isinstance(item, list | dict) for item in items):
            raise typer.BadParameter(f"{path}: {key}: a single value is expected, found {value}")
        # Text, as on the command line: else 2.5 would do for a whole number, and true for seconds.
        typed = [str(item) for item in items] if several else str(value)
        try:
            parameter.process_value(context, typed)
        except typer.BadParameter as error:
            raise typer.BadParameter(f"{path}: {key}: {value}: {error.message}") from None
        values[str(parameter.name)] = typed
    return values
