"""Options that several commands share, each written once."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar, get_type_hints

import typer

from zsar_cli.cli.config import read_config

__all__ = [
    "ComputeOptions",
    "Config",
    "DecisionOptions",
    "LabelNames",
    "Labels",
    "Like",
    "ModelOptions",
    "OutputFile",
    "Overwrite",
    "Quiet",
    "Verbose",
    "VideoOptions",
    "grouped",
    "option",
]

MODEL, VIDEO, DECISION, OUTPUT = "Model", "Reading video", "Decision", "Output"


def option(name: str, help: str, *short: str, panel: str | None = None, **more: Any) -> Any:
    """An option --name that ZSAR_NAME sets as well."""
    variable = "ZSAR_" + name.removeprefix("--").replace("-", "_").upper()
    return typer.Option(name, *short, help=help, envvar=variable, show_envvar=False, rich_help_panel=panel, **more)


Labels = Annotated[
    Path | None,
    option("--labels", "Label file: .txt (one name a line), .csv, .yaml, .json, or - for stdin.", "-l", metavar="FILE"),
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
Like = Annotated[
    list[str] | None,
    option(
        "--like",
        "An example of a label, a video of yours or a part of it, beside the words: 'high five=a.mp4@12-15'; may be "
        "given several times (in ZSAR_LIKE: one a line).",
        metavar="LABEL=PATH[@START-END]",
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
        "A name of 'zsar models list', a folder, a .tflite file or a hub id; auto takes the best that is on this "
        "machine. Given several times, their scores are blended (in ZSAR_MODEL: one a line).",
        panel=MODEL,
        metavar="NAME",
        show_default="auto",
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
Runtime = Annotated[
    str,
    option(
        "--runtime",
        "What computes the built-in model on a CPU: auto (openvino where it is installed), torch or openvino.",
        panel=MODEL,
        metavar="NAME",
    ),
]
BatchSize = Annotated[
    int | None,
    option("--batch-size", "Windows encoded at a time.", show_default="1 on a CPU, else 8", panel=MODEL, min=1),
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
TextEncoderName = Annotated[
    str | None,
    option(
        "--text-encoder",
        "What relates labels to the classes of a classifier: a sentence encoder of 'zsar models list', a folder or a "
        "hub id, such as one that knows other languages than English.",
        panel=MODEL,
        metavar="NAME",
        show_default="the packaged one, English",
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
    int | None, option("--frames", "Frames per window.", show_default="the model's own", panel=VIDEO, min=1, max=4096)
]
Windows = Annotated[
    int | None,
    option(
        "--windows",
        "Windows to divide each video into; their scores are averaged.",
        show_default="the model's own",
        panel=VIDEO,
        min=1,
        max=4096,
    ),
]
WindowLength = Annotated[
    float | None,
    option(
        "--window",
        "Seconds a window lasts, in place of --windows.",
        show_default="none",
        panel=VIDEO,
        metavar="SECONDS",
    ),
]
Stride = Annotated[
    float | None,
    option(
        "--stride",
        "Seconds from window to window; with --window.",
        show_default="the length of a window",
        panel=VIDEO,
        metavar="SECONDS",
    ),
]
FrameStep = Annotated[
    float | None,
    option(
        "--frame-step",
        "Seconds between frames of a window.",
        show_default="spread over the whole window",
        panel=VIDEO,
        metavar="SECONDS",
    ),
]
Fast = Annotated[
    bool, option("--fast", "Read only key frames: many times faster, the times are not exact.", panel=VIDEO)
]
FrameRate = Annotated[float, option("--frame-rate", "Frames per second of a folder of images.", panel=VIDEO)]
Workers = Annotated[
    int | None,
    option("--workers", "Decode processes.", show_default="one for each processor", panel=VIDEO, min=1, max=256),
]
Timeout = Annotated[
    float,
    option(
        "--timeout",
        "Seconds a decoder may take for the next windows of a file before it is stopped.",
        panel=VIDEO,
        metavar="SECONDS",
    ),
]
Hash = Annotated[
    str,
    option(
        "--hash",
        "How the cache tells files apart: sampled (size, both ends, 64 blocks between) or full (every byte).",
        panel=VIDEO,
        metavar="HOW",
    ),
]

Reject = Annotated[
    str | None,
    option(
        "--reject",
        "Answer 'unknown' where it is none of the labels: auto (19 of 20 videos that show one of them keep their "
        "answer) or a number from 0 to 1, which 'unknown' of the results is compared with.",
        show_default="never; doubtful answers are marked",
        panel=DECISION,
        metavar="auto|NUMBER",
    ),
]
CalibrationFile = Annotated[
    str,
    option(
        "--calibration",
        "Where probabilities come from: auto (measured for the built-in model, MoViNet and both), none, or a file of "
        "'zsar calibrate'.",
        panel=DECISION,
        metavar="auto|none|FILE",
    ),
]

OutputFile = Annotated[
    Path | None,
    option("--output", "Write to this file rather than to the terminal.", "-o", panel=OUTPUT, metavar="FILE"),
]
Overwrite = Annotated[bool, option("--overwrite", "Replace the output file if it exists.", panel=OUTPUT)]
Quiet = Annotated[bool, option("--quiet", "Print errors only.", "-q", panel=OUTPUT)]
Verbose = Annotated[bool, option("--verbose", "Say what is done while it is done.", "-v", panel=OUTPUT)]


@dataclass(frozen=True)
class ModelOptions:
    """Which models, with which bank and cache."""

    model: ModelNames = None
    weights: Weights = None
    seen_labels: SeenLabels = None
    prototypes: Prototypes = None
    bank: BankMode = "extend"
    text_encoder: TextEncoderName = None
    cache_dir: CacheDir = None
    no_cache: NoCache = False


@dataclass(frozen=True)
class ComputeOptions:
    """Where and how models compute."""

    device: Device = "auto"
    precision: Precision = "auto"
    runtime: Runtime = "auto"
    batch_size: BatchSize = None


@dataclass(frozen=True)
class VideoOptions:
    """Which frames of a video are read, and how."""

    windows: Windows = None
    frames: Frames = None
    window: WindowLength = None
    stride: Stride = None
    frame_step: FrameStep = None
    fast: Fast = False
    frame_rate: FrameRate = 25.0
    decoder: DecoderName = "pyav"
    workers: Workers = None
    timeout: Timeout = 120.0
    hash: Hash = "sampled"


@dataclass(frozen=True)
class DecisionOptions:
    """What becomes of doubtful answers."""

    reject: Reject = None
    calibration: CalibrationFile = "auto"


P = ParamSpec("P")
R = TypeVar("R")


def grouped(command: Callable[P, R]) -> Callable[..., R]:
    """A command whose parameters of these dataclasses are options, one for each field, on the command line."""
    # Not `get_type_hints`: in Python 3.10 that wraps what has the default None, and typer finds no option any more.
    given = inspect.signature(command, eval_str=True).parameters
    groups = {
        name: one.annotation
        for name, one in given.items()
        if isinstance(one.annotation, type) and is_dataclass(one.annotation)
    }
    parameters = []
    for name, parameter in given.items():
        if name not in groups:
            parameters.append(parameter)
            continue
        kinds = get_type_hints(groups[name], include_extras=True)
        parameters += [
            inspect.Parameter(field.name, parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name])
            for field in fields(groups[name])
        ]

    def run(**values: Any) -> R:
        made = {name: kind(**{f.name: values.pop(f.name) for f in fields(kind)}) for name, kind in groups.items()}
        return command(**values, **made)  # type: ignore[arg-type, call-arg]

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
