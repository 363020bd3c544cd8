"""Options that several commands share, each written once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from zsar_cli.cli.config import read_config

__all__ = [
    "BankMode",
    "BatchSize",
    "CacheDir",
    "Clips",
    "Config",
    "DecoderName",
    "Device",
    "Fast",
    "FrameRate",
    "Frames",
    "LabelNames",
    "Labels",
    "Lexicon",
    "ModelNames",
    "NoCache",
    "OutputFile",
    "Overwrite",
    "Precision",
    "Prototypes",
    "Quiet",
    "SeenLabels",
    "Stride",
    "Timeout",
    "Verbose",
    "Weights",
    "Workers",
    "option",
]

MODEL, VIDEO, OUTPUT = "Model", "Reading video", "Output"


def option(name: str, help: str, *short: str, panel: str | None = None, **more: Any) -> Any:
    """An option --name that ZSAR_NAME sets as well."""
    variable = "ZSAR_" + name.removeprefix("--").replace("-", "_").upper()
    return typer.Option(name, *short, help=help, envvar=variable, show_envvar=False, rich_help_panel=panel, **more)


Labels = Annotated[
    Path | None, option("--labels", "Label file: .txt (one name a line), .csv, .yaml or .json.", "-l", metavar="FILE")
]


def _one_a_line(context: typer.Context, parameter: typer.CallbackParam, names: list[str] | None) -> list[str] | None:
    """Option callback: the names of a variable are lines; typer parts them at any space."""
    source = context.get_parameter_source(parameter.name or "")
    if source is None or source.name != "ENVIRONMENT":
        return names
    return [line for line in os.environ[str(parameter.envvar)].splitlines() if line.strip()]


LabelNames = Annotated[
    list[str] | None,
    option(
        "--label",
        "A label by itself; may be given several times (in ZSAR_LABEL: one a line).",
        metavar="NAME",
        callback=_one_a_line,
    ),
]
Config = Annotated[
    Path | None,
    option(
        "--config", "YAML file with defaults for these options.", callback=read_config, is_eager=True, metavar="FILE"
    ),
]

ModelNames = Annotated[
    list[str] | None,
    option(
        "--model",
        "A name of 'zsar models list', a folder, a .tflite file or a hub id. Given several times, their scores are "
        "blended (in ZSAR_MODEL: one a line).",
        panel=MODEL,
        metavar="NAME",
        show_default="builtin",
        callback=_one_a_line,
    ),
]
Weights = Annotated[
    str | None,
    option(
        "--weights",
        "How much each of several models counts, for example 1,2; a trained model beside others takes none.",
        panel=MODEL,
        metavar="LIST",
        show_default="all alike",
    ),
]
SeenLabels = Annotated[
    Path | None,
    option(
        "--seen-labels",
        "Label file that names a classifier's outputs in their order, where its own files do not.",
        panel=MODEL,
        metavar="FILE",
    ),
]
Device = Annotated[str, option("--device", "auto, cpu, cuda, cuda:N or mps.", panel=MODEL, metavar="NAME")]
Precision = Annotated[str, option("--precision", "auto, fp32, bf16 or fp16.", panel=MODEL, metavar="NAME")]
BatchSize = Annotated[
    int | None,
    option("--batch-size", "Clips encoded at a time.", show_default="1 on a CPU, else 8", panel=MODEL, min=1),
]
Prototypes = Annotated[
    Path | None,
    option("--prototypes", "Prototype file (zsar export-prototypes) to compose from.", panel=MODEL, metavar="FILE"),
]
BankMode = Annotated[
    str,
    option(
        "--bank",
        "Use --prototypes beside the model's own bank (extend) or alone (replace).",
        panel=MODEL,
        metavar="MODE",
    ),
]
Lexicon = Annotated[
    str | None,
    option(
        "--lexicon",
        "YAML file whose entries extend the action lexicon, or none to do without it.",
        panel=MODEL,
        metavar="FILE|none",
        show_default="the packaged one",
    ),
]
CacheDir = Annotated[
    Path | None,
    option(
        "--cache-dir",
        "Folder of the embedding cache.",
        show_default="the user's cache folder",
        panel=MODEL,
        metavar="DIR",
    ),
]
NoCache = Annotated[bool, option("--no-cache", "Neither read nor write the embedding cache.", panel=MODEL)]

DecoderName = Annotated[str, option("--decoder", "pyav (exact) or decord.", panel=VIDEO, metavar="NAME")]
Frames = Annotated[
    int | None, option("--frames", "Frames per clip.", show_default="the model's own", panel=VIDEO, min=1, max=4096)
]
Clips = Annotated[
    int | None,
    option(
        "--clips",
        "Clips spread over each video; their scores are averaged.",
        show_default="the model's own",
        panel=VIDEO,
        min=1,
        max=4096,
    ),
]
Stride = Annotated[
    float | None,
    option("--stride", "Seconds between frames of a clip.", show_default="spread over the whole clip", panel=VIDEO),
]
Fast = Annotated[
    bool, option("--fast", "Read only key frames: many times faster, the times are not exact.", panel=VIDEO)
]
FrameRate = Annotated[float, option("--frame-rate", "Frames per second of a folder of images.", panel=VIDEO)]
Workers = Annotated[
    int | None,
    option(
        "--workers", "Decode processes.", show_default="processors less one, at most 8", panel=VIDEO, min=1, max=256
    ),
]
Timeout = Annotated[float, option("--timeout", "Seconds one file may take before its decoder is stopped.", panel=VIDEO)]

OutputFile = Annotated[
    Path | None,
    option("--output", "Write to this file rather than to the terminal.", "-o", panel=OUTPUT, metavar="FILE"),
]
Overwrite = Annotated[bool, option("--overwrite", "Replace the output file if it exists.", panel=OUTPUT)]
Quiet = Annotated[bool, option("--quiet", "Print errors only.", "-q", panel=OUTPUT)]
Verbose = Annotated[bool, option("--verbose", "Say what is done while it is done.", "-v", panel=OUTPUT)]
