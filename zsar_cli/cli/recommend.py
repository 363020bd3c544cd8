"""`zsar models recommend`: which model is the best for this machine."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

from zsar_cli.cli import options
from zsar_cli.cli.console import show
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError

if TYPE_CHECKING:
    from zsar_cli.engine.machine import Machine
    from zsar_cli.weights.catalogue import Entry

__all__ = ["Licence", "recommend", "recommended"]

FORMATS = ("table", "json")
Licence = Annotated[
    str | None,
    option("--licence", "Only models whose licence has this in its name.", metavar="TEXT", show_default="any"),
]
Memory = Annotated[float | None, option("--memory", "Gigabytes.", show_default="this machine's", min=0)]
Cores = Annotated[int | None, option("--cores", "Processors.", show_default="this machine's", min=1)]
Gpu = Annotated[
    float | None, option("--gpu", "Gigabytes of a CUDA device, 0 for none.", show_default="this machine's", min=0)
]
Format = Annotated[str, option("--format", "table or json.", "-f", panel=options.OUTPUT, metavar="NAME")]


def recommend(
    licence: Licence = None, memory: Memory = None, cores: Cores = None, gpu: Gpu = None, format: Format = "table"
) -> None:
    """Say which model is the best that a machine can run, with its licence and size.

    By the figures of the catalogue. Weights may take a quarter of the memory; without a GPU a window may take two
    seconds on all processors. What is recommended is downloaded by `zsar models pull` alone.

    Example: zsar models recommend --licence apache
    """
    from zsar_cli.engine.choosing import cost_of

    if format not in FORMATS:
        raise UsageError(f"--format {format}: unknown; allowed: {', '.join(FORMATS)}")
    machine = _machine(memory, cores, gpu)
    entry = recommended(licence, machine)
    if format == "json":
        show(json.dumps({"machine": asdict(machine), "model": _facts(entry)}, indent=2, ensure_ascii=False))
        return
    assert entry.figure is not None
    known = "unknown" if machine.memory is None else f"{machine.memory:.0f} GB"
    device = "no GPU" if machine.gpu is None else f"a GPU of {machine.gpu:.0f} GB"
    show(
        f"{entry.name}: {cost_of(entry)}; {entry.figure.percent:g}% on {entry.figure.task}\n"
        f"for a machine with memory {known}, {machine.cores} processors, {device}\n"
        + ("it is here already" if entry.kind == "builtin" else f"zsar models pull {entry.name}")
    )


def recommended(licence: str | None = None, machine: Machine | None = None) -> Entry:
    """The best for a machine, this one where none is given. Raises UsageError: none has such a licence."""
    from zsar_cli.engine.choosing import recommend as best_for
    from zsar_cli.engine.machine import this_machine

    return best_for(machine or this_machine(), licence)


def _machine(memory: float | None, cores: int | None, gpu: float | None) -> Machine:
    from zsar_cli.engine.machine import this_machine

    machine = this_machine(gpu=gpu is None)
    given: dict[str, Any] = {"memory": memory, "cores": cores, "gpu": gpu}
    machine = replace(machine, **{name: value for name, value in given.items() if value is not None})
    return replace(machine, gpu=machine.gpu or None)


def _facts(entry: Entry) -> dict[str, Any]:
    assert entry.figure is not None
    names = ("name", "kind", "source", "licence", "megabytes", "seconds")
    return {**{name: getattr(entry, name) for name in names}, "figure": asdict(entry.figure)}
