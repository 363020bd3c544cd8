"""`zsar train`: the cross-modal Transformer on a folder of videos."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.config import read_yaml, take_options
from zsar_cli.cli.console import Messages, Progressing
from zsar_cli.cli.datasets import DatasetPath, FolderNames
from zsar_cli.cli.engine import cache_folder
from zsar_cli.cli.guard import SOME_FAILED, TERMINATED
from zsar_cli.cli.options import option
from zsar_cli.cli.pages import long_options
from zsar_cli.cli.renamed import in_place_of
from zsar_cli.errors import UsageError

if TYPE_CHECKING:
    from zsar_cli.training.run import TrainingRun
    from zsar_cli.training.settings import RunConfig
    from zsar_cli.training.team import Team

__all__ = ["train"]

DATA, TRAINING = "Data", "Training"
SETTINGS = "zsar.settings"  # where the callback of --config leaves what is no option


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Option callback: what is an option of this command becomes its default, the rest is kept for `train`."""
    if path is not None:
        from zsar_cli.training.settings import is_setting

        content, names = read_yaml(path), long_options(context.command)
        for key in content:
            if pointer := in_place_of(str(key), names):
                raise typer.BadParameter(f"{path}: no such key: {key}{pointer}")
        own = {
            key: value
            for key, value in content.items()
            if str(key).replace("_", "-") in names and not is_setting(str(key), value)
        }
        take_options(context, path, own)
        context.meta[SETTINGS] = {key: value for key, value in content.items() if key not in own}
    return path


Output = Annotated[
    Path, option("--output", "New folder for the run; the model is its folder 'model'.", "-o",
                 panel=options.OUTPUT, metavar="DIR")
]  # fmt: skip
Config = Annotated[
    Path | None,
    option("--config", "YAML file: these options; sections train, model, clip, backbone, raw, transfer.",
           callback=_read_config, is_eager=True, metavar="FILE"),
]  # fmt: skip
Unseen = Annotated[
    Path | None, option("--unseen", "Label file of classes to hold out: they are used for nothing at all.",
                        panel=DATA, metavar="FILE"),
]  # fmt: skip
Frames = Annotated[int | None, option("--frames", "Frames per clip.", show_default="8", panel=DATA, min=1, max=4096)]
View = Annotated[
    str | None,
    option("--view", "centre, whole, both or letterbox: how a frame becomes a square.", show_default="both",
           panel=DATA, metavar="NAME"),
]  # fmt: skip
NoFlip = Annotated[bool, option("--no-flip", "Do not train on mirror images: left and right matter.", panel=DATA)]
BackboneName = Annotated[
    str | None,
    option("--backbone", "efficientnet-lite0|1|2, resnet18|50|101, r3d_18, r2plus1d_18|34, videomae-small|base|large, "
           "timesformer-base or vivit-base.", show_default="efficientnet-lite2", panel=TRAINING, metavar="NAME"),
]  # fmt: skip
BackboneWeights = Annotated[
    str | None,
    option("--backbone-weights", "For all but the efficientnets: a folder, the id of a pulled hub model, or random.",
           show_default="packaged", panel=TRAINING, metavar="NAME"),
]  # fmt: skip
Size = Annotated[
    int | None, option("--size", "Side of the square frames in pixels.", show_default="the backbone's own",
                       panel=TRAINING, min=32),
]  # fmt: skip
Posture = Annotated[
    bool, option("--posture", "Also use the posture of the main person; needs --view letterbox or centre.",
                 panel=TRAINING),
]  # fmt: skip
Steps = Annotated[
    int | None, option("--steps", "Optimiser steps.", show_default="60", panel=TRAINING, min=1)
]
Epochs = Annotated[
    int | None,
    option("--epochs", "Passes over the data, in place of --steps.", show_default="none", panel=TRAINING, min=1),
]
Batch = Annotated[
    int | None, option("--batch-size", "Clips per step.", show_default="64", panel=TRAINING, min=1)
]
Rate = Annotated[float | None, option("--lr", "Peak learning rate.", show_default="0.0003", panel=TRAINING)]
Seed = Annotated[int | None, option("--seed", "Of everything random.", show_default="0", panel=TRAINING, min=0)]
Validation = Annotated[
    float | None,
    option("--validation", "Share of the classes held out to select the step; 0 trains on all.",
           show_default="0", panel=TRAINING, metavar="SHARE"),
]  # fmt: skip
SourceName = Annotated[
    str | None,
    option("--source", "What is trained on: grids (of a frozen backbone, computed once), raw (videos, decoded while "
           "training; the backbone learns too) or embeddings (of a library).", show_default="grids", panel=DATA,
           metavar="NAME"),
]  # fmt: skip
LibraryPath = Annotated[
    Path | None, option("--library", "With --source embeddings: the library of them.", panel=DATA, metavar="LIB")
]  # fmt: skip
Encoder = Annotated[
    str | None, option("--encoder", "Which model's embeddings, where the library holds several.", panel=DATA,
                       metavar="MODEL"),
]  # fmt: skip
Start = Annotated[
    Path | None, option("--start", "A trained model to begin with: a folder that zsar train wrote, or rest-exercises.",
                        panel=TRAINING, metavar="MODEL"),
]  # fmt: skip
BackboneRate = Annotated[
    float | None,
    option("--backbone-rate", "With --source raw: the backbone's learning rate, as a factor on --lr; 0 freezes it.",
           show_default="0.1", panel=TRAINING),
]  # fmt: skip
Specialist = Annotated[
    float | None,
    option("--specialist", "Beside other models it decides among the labels it knows, those whose name has this cosine "
           "or more to one of its classes; 0.75 suits MiniLM.", show_default="off", panel=TRAINING, metavar="COSINE"),
]  # fmt: skip
Every = Annotated[int, option("--checkpoint-every", "Steps between checkpoints.", panel=TRAINING, min=1)]
Resume = Annotated[bool, option("--resume", "Continue the run in the output folder, if any.", panel=options.OUTPUT)]
Overwrite = Annotated[bool, option("--overwrite", "Remove the run in the output folder.", panel=options.OUTPUT)]
TensorBoard = Annotated[bool, option("--tensorboard", "Also write event files for TensorBoard.", panel=options.OUTPUT)]


@dataclass(frozen=True)
class TrainingOptions:
    """What is trained on, and how."""

    source: SourceName = None
    library: LibraryPath = None
    encoder: Encoder = None
    frames: Frames = None
    view: View = None
    no_flip: NoFlip = False
    backbone: BackboneName = None
    backbone_weights: BackboneWeights = None
    posture: Posture = False
    size: Size = None
    steps: Steps = None
    epochs: Epochs = None
    batch_size: Batch = None
    lr: Rate = None
    seed: Seed = None
    validation: Validation = None
    start: Start = None
    backbone_rate: BackboneRate = None
    specialist: Specialist = None
    checkpoint_every: Every = 20

    def config(self, context: typer.Context, file: Path | None) -> RunConfig:
        """All settings: these options, which go before the file.

        Raises:
            ConfigError: some are not allowed; each is named.
            UsageError: an option is of another source.
        """
        from zsar_cli.training.settings import read_run_config

        flags = {
            "clip.frames": self.frames, "clip.flip": False if self.no_flip else None, "clip.view": self.view,
            "backbone.name": self.backbone, "backbone.weights": self.backbone_weights, "backbone.size": self.size,
            "backbone.posture": self.posture or None,
            "train.steps": self.steps, "train.epochs": self.epochs, "train.batch": self.batch_size,
            "train.learning_rate": self.lr, "train.seed": self.seed, "train.validation": self.validation,
            "raw.backbone_rate": self.backbone_rate, "specialist": self.specialist, "source": self.source,
        }  # fmt: skip
        given = context.meta.get(SETTINGS, {})
        config = read_run_config(given, str(file or "the options"), flags, long_options(context.command))
        if self.backbone_rate is not None and config.source != "raw":
            raise UsageError("--backbone-rate is for --source raw, which trains the backbone; others leave it as it is")
        return config


@options.grouped
def train(
    context: typer.Context,
    dataset: DatasetPath,
    output: Output,
    config: Config = None,
    names: FolderNames = None,
    unseen: Unseen = None,
    *,
    training: TrainingOptions,
    decoder: options.DecoderName = "pyav",
    workers: options.Workers = None,
    timeout: options.Timeout = 120.0,
    cache_dir: options.CacheDir = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    resume: Resume = False,
    overwrite: Overwrite = False,
    tensorboard: TensorBoard = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Train the paper's model on your own videos.

    It is a cross-modal Transformer; the result works with every --model option.

    Example: zsar train videos/ -o runs/first

    Example: zsar classify new/ --labels labels.txt --model runs/first
    """
    from zsar_cli.engine.pipeline import EmbedSettings
    from zsar_cli.training.run import Job, TrainingRun

    run_config = training.config(context, config)
    team, device = _team(device)
    try:
        job = Job(
            dataset=dataset, output=output, cache=cache_folder(cache_dir), config=run_config, names=names,
            unseen=unseen, library=training.library, encoder=training.encoder, start=training.start,
            decoding=EmbedSettings(decoder=decoder, workers=workers, timeout=timeout), device=device,
            precision=precision, checkpoint_every=training.checkpoint_every, resume=resume, overwrite=overwrite,
            tensorboard=tensorboard, command=shlex.join(["zsar", *sys.argv[1:]]),
        )  # fmt: skip
        return _watched(TrainingRun(job, team), Messages(quiet or not team.first, verbose))
    finally:
        team.close()


def _team(device: str) -> tuple[Team, str]:
    """The processes that torchrun started, and the device of this one: each has a GPU of its own."""
    from zsar_cli.models.device import resolve_device
    from zsar_cli.training.team import Team

    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(), device
    if resolve_device(device).type == "cuda" and device in ("auto", "cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    return Team.of_torchrun(resolve_device(device)), device


class _Deferred:
    """While it is entered, ctrl-C and SIGTERM are only noted; a second one ends at once."""

    def __init__(self, messages: Messages) -> None:
        self._messages, self.number = messages, 0
        # What the shell set to be ignored, as in a background job, stays ignored.
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._before = {number: one for number, one in handlers.items() if one is not signal.SIG_IGN}

    def __enter__(self) -> _Deferred:
        for number in self._before:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *about: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        self.__exit__()
        self._messages.info("stopping after this step; a second signal ends at once")


def _told(bar: Progressing, record: Mapping[str, float]) -> None:
    """A step is done; lines of progress say how well."""
    if not bar.done:
        bar.go_on(int(record["step"]) - 1)
    loss = f"loss {record['loss']:.3f}" if "loss" in record else "left out"
    bar.note = f"{loss}, learning rate {record['learning_rate']:.2g}"
    bar.advance()


def _watched(run: TrainingRun, messages: Messages) -> int:
    """Run it; name --resume when interrupted."""
    try:
        return _run(run, messages)
    except (KeyboardInterrupt, SystemExit):
        if run.first:
            messages.warning(f"{run.folder.root}: stopped; the same command with --resume continues")
        raise
    finally:
        run.close()


def _run(run: TrainingRun, messages: Messages) -> int:
    """Run it, showing how far it is."""
    from zsar_cli.training.run import Stopped

    if run.job.resume and not run.folder.resumes:
        messages.warning(f"{run.folder.root}: there is nothing to resume; the run begins at step 1")
    items = len(run.data.items)
    about = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in run.kind.facts.items())
    messages.info(f"{items} videos of {len(run.labels)} classes; {about}")
    with messages.progress(run.shares, what="videos") as bar:
        skipped = run.extract(bar.advance)
    for failure in skipped if run.first else ():
        messages.error(str(failure))
    with messages.progress(run.steps, what="steps") as bar, _Deferred(messages) as asked:
        try:
            result = run.fit(partial(_told, bar), lambda: asked.number > 0)
        except Stopped:
            raise KeyboardInterrupt if asked.number == signal.SIGINT else SystemExit(TERMINATED) from None
    if not run.first:
        return 0
    fingerprint, notes = run.finish()
    for note in notes:
        messages.warning(note)
    if skipped:
        messages.warning(f"{len(skipped)} of {items} videos were skipped; see {run.folder.root / 'skipped.tsv'}")
    messages.info(f"{run.folder.model}: {fingerprint}, step {result.step}; use it with --model {run.folder.model}")
    # torchrun takes any code but 0 for a crash of the whole run; the warning and skipped.tsv must do there.
    return SOME_FAILED if skipped and run.team.count == 1 else 0
