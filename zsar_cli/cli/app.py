"""The commands and what all of them share. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from zsar_cli._version import __version__
from zsar_cli.cli import (
    cache,
    calibrate,
    classify,
    cut,
    data,
    doctor,
    evaluate,
    evaluate_localization,
    explain,
    library,
    localize,
    models,
    prototypes,
    report,
    search,
    train,
)
from zsar_cli.cli.console import PROGRESS_EVERY, Messages
from zsar_cli.cli.guard import guarded
from zsar_cli.cli.help import show_help
from zsar_cli.cli.pages import Commands

__all__ = ["app"]

VARIABLES = "Every option --some-name can also be set by the variable ZSAR_SOME_NAME; the command line wins over it."
OTHER_VARIABLES = ("ZSAR_DEBUG", "ZSAR_MODELS_DIR", PROGRESS_EVERY)
EPILOG = (
    "Every option --some-name can also be set by ZSAR_SOME_NAME or as 'some-name: value' in a --config file; "
    "the command line wins over the variable, the variable over the file."
)

app = Commands(
    name="zsar",
    help="Zero-shot video classification on your own machine: your videos, your action names.",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zsar {__version__}")
        raise typer.Exit()


@app.callback()
def _all(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    known = {*OTHER_VARIABLES, *_variables(context.command)}
    for name in sorted(os.environ):
        if name.startswith("ZSAR_") and name not in known and not name.startswith("ZSAR_TEST_"):
            near = difflib.get_close_matches(name, known, n=1)
            Messages().warning(f"{name} sets nothing" + (f"; did you mean {near[0]}?" if near else ""))


def _variables(command: Any) -> Iterator[str]:
    """The variables that the options of a command and of those below it read."""
    for parameter in command.params:
        names = getattr(parameter, "envvar", None)
        yield from [names] if isinstance(names, str) else names or ()
    for below in getattr(command, "commands", {}).values():
        yield from _variables(below)


# In the order of the list that --help shows.
app.command("classify", epilog=EPILOG)(guarded(classify.classify))
app.command("localize", epilog=EPILOG)(guarded(localize.localize))
app.command("search", epilog=EPILOG)(guarded(search.search))
app.command("cut", epilog=EPILOG)(guarded(cut.cut))
app.command("report", epilog=EPILOG)(guarded(report.report))
app.command("explain", epilog=EPILOG)(guarded(explain.explain))
app.command("train", epilog=EPILOG)(guarded(train.train))
app.command("evaluate", epilog=EPILOG)(guarded(evaluate.evaluate))
app.command("evaluate-localization", epilog=EPILOG)(guarded(evaluate_localization.evaluate_localization))
app.command("calibrate", epilog=EPILOG)(guarded(calibrate.calibrate))
app.command("export-prototypes", epilog=EPILOG)(guarded(prototypes.export_prototypes))
app.command("doctor", epilog=VARIABLES)(guarded(doctor.doctor))
app.command("help")(guarded(show_help))
app.add_typer(library.app, name="library")
app.add_typer(data.app, name="data")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")
