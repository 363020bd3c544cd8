"""The commands and what all of them share. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
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
from zsar_cli.cli.renamed import in_place_of
from zsar_cli.labels import meant

__all__ = ["app", "hint_for", "variables_of"]

PREFIX = "ZSAR_"
SWITCHES = ("", "0", "1", "f", "false", "n", "no", "off", "on", "t", "true", "y", "yes")  # values of a switch

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
    if context.invoked_subcommand == "help":  # which runs the command line again
        return
    known = {**dict.fromkeys(OTHER_VARIABLES, False), **dict(variables_of(context.command))}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known and not name.startswith("ZSAR_TEST_"):
            Messages().warning(f"{name} sets nothing{hint_for(name, os.environ[name], known)}")


def hint_for(name: str, value: str, known: Mapping[str, bool]) -> str:
    """Which of the known variables, some of which are of switches, may have been meant, by its name and its value."""
    options = {one.removeprefix(PREFIX).lower().replace("_", "-") for one in known}
    if pointer := in_place_of(name.removeprefix(PREFIX), options):
        return pointer
    likely = [one for one, switch in known.items() if not switch or value.lower() in SWITCHES]
    return meant(name.removeprefix(PREFIX), [one.removeprefix(PREFIX) for one in likely], before=PREFIX)


def variables_of(command: Any) -> Iterator[tuple[str, bool]]:
    """The variables that the options of a command and of those below it read, and whether they are of switches."""
    for parameter in command.params:
        names = getattr(parameter, "envvar", None)
        for name in [names] if isinstance(names, str) else names or ():
            yield name, parameter.is_flag
    for below in getattr(command, "commands", {}).values():
        yield from variables_of(below)


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
