"""A training run from a data set to a bundle: what `zsar train` does, apart from its output."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli._version import __version__
from zsar_cli.data.dataset import Dataset, read_dataset
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, MissingExtraError, UsageError
from zsar_cli.labels import LabelSet, some_of
from zsar_cli.models.device import resolve_device, resolve_precision
from zsar_cli.models.rest import round_weights, seen_classes, write_rest
from zsar_cli.networks.rest import class_means
from zsar_cli.report.plots import draw_curves
from zsar_cli.store.cache import digest
from zsar_cli.text.encoder import label_texts
from zsar_cli.text.minilm import minilm
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.folder import RunFolder
from zsar_cli.training.kinds import Clips, Kind, Place, open_kind
from zsar_cli.training.loop import TrainResult, split_classes, train
from zsar_cli.training.scoring import SAMPLE, with_spreads
from zsar_cli.training.settings import RunConfig
from zsar_cli.training.sources import evenly
from zsar_cli.training.start import MOST, embed
from zsar_cli.training.state import Compute, TrainState
from zsar_cli.training.team import Team

__all__ = ["Job", "Stopped", "TrainingRun"]

Record = Mapping[str, float]
PACKAGES = ("torch", "tokenizers", "av", "numpy")


class Stopped(Exception):
    """Training was asked to stop."""


@dataclass(frozen=True)
class Job:
    """What to train on, where the result goes, and how.

    Args:
        dataset, names: see `dataset.read_dataset`.
        output: folder of the run.
        cache: the user's cache folder, for features.
        config: all that decides the weights.
        unseen: label file of classes that are never used for anything.
        library, encoder: where the embeddings are, and of which of its models, where those are trained on.
        start: a trained model to begin with: a bundle, a run, or the name of one in the catalogue.
        decoding: decoder, workers and timeout.
        device, precision: of the networks.
        checkpoint_every: steps between two checkpoints.
        resume, overwrite: see `RunFolder`.
        tensorboard: also write its event files.
        command: for the provenance of the model.
    """

    dataset: Path
    output: Path
    cache: Path
    config: RunConfig = field(default_factory=RunConfig)
    names: Path | None = None
    unseen: Path | None = None
    library: Path | None = None
    encoder: str | None = None
    start: Path | None = None
    decoding: EmbedSettings = field(default_factory=EmbedSettings)
    device: str = "auto"
    precision: str = "auto"
    checkpoint_every: int = 20
    resume: bool = False
    overwrite: bool = False
    tensorboard: bool = False
    command: str = ""


class TrainingRun:
    """One run, in three calls: `extract`, `fit`, `finish`; then `close`.

    Args:
        job: what to do. All that can be refused is refused here, before any work.
        team: the processes that make the same calls; the first one writes the files.

    Raises:
        ZsarError: the data set, the unseen classes, the output folder, the device or the backbone cannot be used.
    """

    def __init__(self, job: Job, team: Team | None = None) -> None:
        self.job, self.team = job, team or Team()
        self.first = self.team.first
        self.folder = RunFolder(job.output, job.resume, job.overwrite)
        self.data = _without(read_dataset(job.dataset, job.names), job.unseen)
        if len(self.data.classes) < 3:
            raise UsageError(f"{job.dataset}: {len(self.data.classes)} classes to train on; give 3 or more")
        device = resolve_device(job.device)
        self._compute = Compute(device, resolve_precision(job.precision, device))
        self._log = _event_writer(self.folder) if job.tensorboard and self.first else None
        place = Place(self.folder.features, job.cache, job.library, job.encoder, job.start)
        self.kind: Kind = open_kind(job.config, place, job.decoding, self._compute, self.labels)
        self._tokens = minilm()
        self._clips: Clips | None = None
        self._result: TrainResult | None = None

    @property
    def labels(self) -> LabelSet:
        """The classes to train on."""
        return self.data.classes

    @property
    def shares(self) -> int:
        """How many of the videos this process looks at in `extract`."""
        return len(self.data.items[self.team.rank :: self.team.count]) if self.kind.shared else len(self.data.items)

    def extract(self, done: Callable[[], None] = lambda: None) -> list[InputError]:
        """Look at all videos, and compute what is computed once; returns the videos that cannot be used.

        Args:
            done: called after each video of this process.

        Raises:
            UsageError: a class is left without a video; it is named with the reason of its first one.
        """
        self.team.wait()  # before the first process writes, the others look whether they may
        if self.first:
            self.folder.begin(self._settings())
        self.team.wait()
        self._clips = clips = self.kind.prepare(self.data, self.team, done)
        if self.first:
            self.folder.write_skipped(clips.skipped)
        filled = {self.labels.names[target] for target in set(clips.source.targets.tolist())}
        for name in self.labels.names:
            if name not in filled:
                paths = {item.path for item in self.data.items if item.label == name}
                failures = [str(failure) for failure in clips.skipped if failure.path in paths]
                raise UsageError(f"the class '{name}' has no usable video ({some_of(failures, 1)}); mend or remove it")
        return clips.skipped

    def fit(
        self, done: Callable[[Record], None] = lambda record: None, stop: Callable[[], bool] = lambda: False
    ) -> TrainResult:
        """Train; call after `extract`.

        Args:
            done: called after each step with its record.
            stop: asked after each step, in every process; one that says yes stops all.

        Raises:
            Stopped: the state is saved; `resume` continues from it.
        """
        texts = self._tokens.tokens([label_texts(label) for label in self.labels])
        saved = self.folder.load(self._digest())
        self.team.wait()
        if self.first:
            self.folder.keep_metrics(int(saved["step"]) if saved else 0)

        def report(record: Record, state: TrainState) -> None:
            stopping = self.team.any(stop())
            if self.first:
                self._record(record, state, stopping)
                done(record)
            if stopping:
                raise Stopped

        self._result = train(
            self.clips.source, texts, self.kind.networks, self.schedule, self.job.config.scoring, report, saved,
            self.team, self._compute,
        )  # fmt: skip
        return self._result

    def _record(self, record: Record, state: TrainState, stopping: bool) -> None:
        """Keep what a step gave, and the state after it now and then, after the best step, or to stop."""
        self.folder.add_metrics(record)
        if self._log is not None:
            self._log(record)
        last = state.step == self.steps
        if stopping or last or record.get("best") or state.step % self.job.checkpoint_every == 0:
            self.folder.save(state.state_dict(), self._digest())

    @property
    def clips(self) -> Clips:
        """What is trained on; call after `extract`."""
        assert self._clips is not None
        return self._clips

    @property
    def steps(self) -> int:
        """Of training; call after `extract`."""
        return self.schedule.steps

    @property
    def schedule(self) -> TrainConfig:
        """The `TrainConfig` with its steps; call after `extract`."""
        return self.job.config.train.for_clips(len(self.clips.source.targets), self.team.count)

    def finish(self) -> tuple[str, list[str]]:
        """Write the bundle and the curves; call after `fit`, in the first process alone.

        Returns:
            the bundle's fingerprint, and what the user should know.
        """
        assert self._result is not None
        learner, config = self._result.state.averaged, self.job.config
        round_weights(learner.model)
        visual = self._prototypes()
        rows = evenly(self.clips.source.targets, SAMPLE)
        v = embed(learner, self.clips.source, rows, Team(), self._compute)
        learner.cpu()
        seen = seen_classes(learner.model, visual, self.labels.labels, self._tokens)
        transfer = with_spreads(config.scoring, v, seen, float(learner.head.visual_scale.detach()))
        if learner.tuned and learner.backbone is not None:
            learner.backbone.fingerprint += "-tuned"
        fingerprint = write_rest(
            self.folder.model, name=self.job.output.name, model=learner.model,
            backbone=learner.backbone or self.kind.sees, seen=seen, clip=self.kind.clip,
            transfer=transfer, specialist=config.specialist, provenance=self._provenance(),
            changed=learner.tuned or self.kind.changed, overwrite=True,
        )  # fmt: skip
        notes = []
        try:
            draw_curves(_curves(self.folder.metrics()), self.folder.root / "curves.png")
        except MissingExtraError as error:
            notes.append(f"no curves.png: {error}")
        self.folder.remove_scratch()
        return fingerprint, notes

    def close(self) -> None:
        """End what works for it, and let others have the folder."""
        self.kind.close()
        if self.first:
            self.folder.close()

    def _prototypes(self) -> Tensor:
        """Of all classes: the learned ones, and the means of those that validated, which have none."""
        assert self._result is not None
        learner, source = self._result.state.averaged, self.clips.source
        trained, held = split_classes(len(self.labels), self.schedule)
        prototypes = torch.zeros(len(self.labels), learner.model.config.space)
        if len(held):
            rows = torch.isin(source.targets, held).nonzero()[:, 0]
            rows = rows[evenly(torch.searchsorted(held, source.targets[rows]), MOST)]
            v = embed(learner, source, rows, Team(), self._compute)
            prototypes = class_means(v, source.targets[rows], len(self.labels))
        prototypes[trained] = learner.head.prototypes.detach().cpu()
        return prototypes

    def _settings(self) -> dict[str, Any]:
        """What must not change between the beginning and the end of a run."""
        job = self.job
        data = digest([(item.name, item.label) for item in self.data.items], self.labels.digest)[:16]
        return {
            **job.config.to_dict(), **self.kind.facts, "precision": str(self._compute.precision),
            "data": {"files": data, "decoder": job.decoding.decoder}, "processes": self.team.count,
        }  # fmt: skip

    def _digest(self) -> str:
        """Of the usable videos, by content, and their labels."""
        return self.clips.digest

    def _provenance(self) -> dict[str, Any]:
        assert self._result is not None
        clips = self.clips
        return {
            "data": {
                "name": self.job.dataset.name, "digest": clips.digest, "videos": clips.videos,
                "skipped": len(clips.skipped), "classes": len(self.labels),
            },
            "command": self.job.command,
            "seed": self.job.config.train.seed,
            "step": self._result.step,
            "processes": self.team.count,
            "config": self.job.config.to_dict(),
            "versions": {
                "zsar": __version__, "python": platform.python_version(),
                **{package: version(package) for package in PACKAGES},
            },
        }  # fmt: skip


def _without(data: Dataset, unseen: Path | None) -> Dataset:
    """The data set without the classes of a label file.

    Raises:
        UsageError: one of them is no class of the data set, or none would be left.
    """
    if unseen is None:
        return data
    out = set(data.only(LabelSet.read(unseen)).classes.names)
    left = [label for label in data.classes if label.name not in out]
    if not left:
        raise UsageError(f"--unseen {unseen}: holds every class of the data set; none is left to train on")
    return data.only(LabelSet.from_names(left))


def _curves(records: list[dict[str, float]]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each measure."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name != "step":
                curves.setdefault(name, []).append((int(record["step"]), value))
    return curves


def _event_writer(folder: RunFolder) -> Callable[[Mapping[str, float]], None]:
    """A function that writes a record for TensorBoard. Raises MissingExtraError where that is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard", "tensorboard", "--tensorboard") from None
    writer: Any = None

    def write(record: Mapping[str, float]) -> None:
        nonlocal writer
        if writer is None:
            writer = SummaryWriter(folder.root / "tensorboard")
        for name, value in record.items():
            if name != "step":
                writer.add_scalar(name, value, int(record["step"]))
        writer.flush()

    return write
