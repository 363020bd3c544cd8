"""A training run from a data set to a bundle: what `zsar train` does, apart from its output."""

from __future__ import annotations

import copy
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli._version import __version__
from zsar_cli.data.dataset import Dataset, read_dataset
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, MissingExtraError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.device import resolve_device, resolve_precision
from zsar_cli.models.rest import round_weights, seen_classes, write_rest
from zsar_cli.networks.backbones import Backbone, open_backbone
from zsar_cli.networks.rest import class_means
from zsar_cli.report.plots import draw_curves
from zsar_cli.store.cache import digest
from zsar_cli.store.features import FeatureCache
from zsar_cli.text.encoder import label_texts
from zsar_cli.text.minilm import minilm
from zsar_cli.training.arrays import mapped
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.features import Extracted, extract, pack, store_frames
from zsar_cli.training.finetune import MARGIN, STORED, Finetune, plain_view
from zsar_cli.training.folder import RunFolder
from zsar_cli.training.scoring import embed_clips, with_spreads
from zsar_cli.training.settings import RunConfig
from zsar_cli.training.state import TrainState
from zsar_cli.training.team import Team
from zsar_cli.training.train import ClipFeatures, TrainResult, split_classes, train_on_features
from zsar_cli.transfer.bank import PrototypeBank

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
        decoding: decoder, workers and timeout.
        device, precision: of the backbone.
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
    decoding: EmbedSettings = field(default_factory=EmbedSettings)
    device: str = "auto"
    precision: str = "auto"
    checkpoint_every: int = 20
    resume: bool = False
    overwrite: bool = False
    tensorboard: bool = False
    command: str = ""


class TrainingRun:
    """One run, in three calls: `extract`, `fit`, `finish`.

    Args:
        job: what to do. All that can be refused is refused here, before any work.

        team: the processes that make the same calls; the first one writes the files.

    Raises:
        ZsarError: the data set, the unseen classes, the output folder, the device or the backbone cannot be used.
    """

    def __init__(self, job: Job, team: Team | None = None) -> None:
        self.job, self.team = job, team
        self.first = team is None or team.first
        self.folder = RunFolder(job.output, job.resume, job.overwrite)
        self.data = _without(read_dataset(job.dataset, job.names), job.unseen)
        if len(self.data.classes) < 3:
            raise UsageError(f"{job.dataset}: {len(self.data.classes)} classes to train on; give 3 or more")
        device = resolve_device(job.device)
        if device.type == "cuda" and team is not None and job.device in ("auto", "cuda"):
            device = torch.device("cuda", team.rank % torch.cuda.device_count())
        if team is not None and job.config.finetune.steps:
            raise UsageError("--finetune runs in one process; train with torchrun without it")
        self._precision = precision = resolve_precision(job.precision, device)
        self._log = _event_writer(self.folder) if job.tensorboard and self.first else None
        self.backbone: Backbone = open_backbone(job.config.backbone, device, precision)
        self._cache, self._tokens = FeatureCache(job.cache), minilm()
        self._videos: list[Extracted] = []
        self._skipped: list[InputError] = []
        self._features: ClipFeatures | None = None
        self._result: TrainResult | None = None

    @property
    def labels(self) -> LabelSet:
        """The classes to train on."""
        return self.data.classes

    def extract(self, done: Callable[[], None] = lambda: None) -> list[InputError]:
        """Features of all videos; returns the videos that cannot be used.

        Args:
            done: called after each video.

        Raises:
            UsageError: a class is left without a video; it is named with the reason of its first one.
        """
        job, items = self.job, self.data.items
        self._wait()  # before the first process writes, the others look whether they may
        if self.first:
            self.folder.begin(self._settings())
        if self.team is not None:
            mine = items[self.team.rank :: self.team.count]
            extract(mine, self.backbone, job.config.clip, job.decoding, self._cache)
            self._wait()
        self._videos, self._skipped = extract(items, self.backbone, job.config.clip, job.decoding, self._cache, done)
        if self.first:
            self.folder.write_skipped(self._skipped)
        filled = {video.item.label for video in self._videos}
        for name in self.labels.names:
            if name not in filled:
                paths = {item.path for item in self.data.items if item.label == name}
                first = next(failure for failure in self._skipped if failure.path in paths)
                raise UsageError(f"the class '{name}' has no usable video ({first}); fix it or remove the class")
        return self._skipped

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
        job, data = self.job, self._digest()
        names = self.labels.names
        targets = torch.tensor([names.index(video.item.label) for video in self._videos])
        self._features = ClipFeatures(self._packed(), targets)
        texts = self._tokens.tokens([label_texts(label) for label in self.labels])
        config = self.schedule
        saved = self.folder.load(data) or {"trained": None, "tuned": None}
        self._wait()
        if self.first:
            steps = [saved[stage]["step"] for stage in ("trained", "tuned") if saved[stage]]
            self.folder.keep_metrics(sum(map(int, steps)))
        trained = saved["trained"]

        def report(record: Record, state: TrainState) -> None:
            nonlocal trained
            trained = state.state_dict()
            self._record(record, {"trained": trained, "tuned": None}, done, stop)

        result = train_on_features(
            self._features, texts, job.config.shape, config, job.config.scoring, report, trained, self.team
        )
        if job.config.finetune.steps:
            result = self._finetune(result, {"trained": trained, "tuned": saved["tuned"]}, done, stop)
        self._result = result
        return result

    def _record(
        self, record: Record, state: Mapping[str, Any], done: Callable[[Record], None], stop: Callable[[], bool]
    ) -> None:
        """Keep what a step gave, and now and then, or to stop, the state after it."""
        stopping = stop() if self.team is None else self.team.any(stop())
        if self.first:
            self.folder.add_metrics(record)
            if self._log is not None:
                self._log(record)
            last = record["step"] in (self.schedule.steps, self.steps)
            if stopping or last or record["step"] % self.job.checkpoint_every == 0:
                self.folder.save(state, self._digest())
            done(record)
        if stopping:
            raise Stopped

    def _finetune(
        self, result: TrainResult, saved: dict[str, Any], done: Callable[[Record], None], stop: Callable[[], bool]
    ) -> TrainResult:
        """The trained model tuned together with its backbone, on the classes that trained."""
        config = self.job.config
        # In float32: half precision is for activations, small steps of weights would be lost in it.
        self.backbone = open_backbone(config.backbone, next(self.backbone.parameters()).device, torch.float32)
        model, head = copy.deepcopy(result.model), copy.deepcopy(result.head)
        assert self._features is not None
        frames, targets = self._frames(), self._features.targets
        classes, _ = split_classes(len(self.labels), self.schedule)
        rows = torch.isin(targets, classes).nonzero()[:, 0]
        tuning = Finetune(
            self.backbone, model, head, frames if len(rows) == len(targets) else frames[rows],
            torch.searchsorted(classes, targets[rows]),
            self._tokens.tokens([label_texts(self.labels.labels[index]) for index in classes.tolist()]),
            config.finetune, self.schedule, config.clip.flip,
            None if self._precision == torch.float32 else self._precision,
        )  # fmt: skip

        def report(record: Record) -> None:
            counted = {**record, "step": self.schedule.steps + int(record["step"])}
            self._record(counted, {"trained": saved["trained"], "tuned": tuning.state_dict()}, done, stop)

        tuning.run(report, saved["tuned"])
        self.backbone.requires_grad_(False).fingerprint += "-tuned"
        self._features = ClipFeatures(self._plain_features(frames), targets)
        return TrainResult(model, head, result.history, self.steps)

    def _frames(self) -> Tensor:
        """Decoded frames, somewhat larger and twice as many as the backbone sees at a time."""
        config, file = self.job.config, self.folder.root / "frames.npy"
        if self.job.resume and file.is_file():
            return torch.from_numpy(mapped(file))
        side = round(config.backbone.side * MARGIN)
        geometry = config.clip.geometries(side)[0]
        sampling = replace(config.clip.sampling, windows=1, frames=STORED * config.clip.frames)
        return store_frames(self._videos, sampling, geometry, self.job.decoding, file)

    @torch.inference_mode()
    def _plain_features(self, frames: Tensor) -> Tensor:
        """Features of the tuned backbone for what it sees when classifying: float16 [N, 1 or 2, T, G, G, C]."""
        config, device = self.job.config, next(self.backbone.parameters()).device
        grids = []
        for part in torch.split(frames, 8):
            views = plain_view(part, config.backbone.side).to(device)
            both = [views, views.flip(3)] if config.clip.flip else [views]
            grids.append(torch.stack([self.backbone(view) for view in both], dim=1).half().cpu())
        return torch.cat(grids)

    @property
    def steps(self) -> int:
        """Of training and fine-tuning together; call after `extract`."""
        return self.schedule.steps + self.job.config.finetune.steps

    @property
    def schedule(self) -> TrainConfig:
        """The `TrainConfig` with its steps; call after `extract`."""
        return self.job.config.train.for_clips(-(-len(self._videos) // (self.team.count if self.team else 1)))

    def finish(self) -> tuple[str, list[str]]:
        """Write the bundle and the curves; call after `fit`, in the first process alone.

        Returns:
            the bundle's fingerprint, and what the user should know.
        """
        assert self._result is not None and self._features is not None
        model, head, config = self._result.model, self._result.head, self.job.config
        round_weights(model)
        v = embed_clips(model, self._features.grids)
        seen = self._bank(v)
        transfer = with_spreads(config.scoring, v, seen, float(head.visual_scale.detach()))
        fingerprint = write_rest(
            self.folder.model, name=self.job.output.name, model=model, backbone=self.backbone, seen=seen,
            clip=config.clip.settings(config.backbone.side), transfer=transfer,
            specialist=config.specialist, provenance=self._provenance(), changed=config.finetune.steps > 0,
            overwrite=True,
        )  # fmt: skip
        notes = []
        try:
            draw_curves(_curves(self.folder.metrics()), self.folder.root / "curves.png")
        except MissingExtraError as error:
            notes.append(f"no curves.png: {error}")
        self._features = None
        self.folder.remove_scratch()
        return fingerprint, notes

    def _packed(self) -> Tensor:
        """The features, which the first process puts together."""
        file = self.folder.root / "features.npy"
        if self.first:
            grids = pack(self._videos, self._cache, file)
        self._wait()
        return grids if self.first else torch.from_numpy(mapped(file))

    def _wait(self) -> None:
        if self.team is not None:
            self.team.wait()

    def _bank(self, v: Tensor) -> PrototypeBank:
        """All classes: the learned prototypes, and the means of those that validated, which have none."""
        assert self._result is not None and self._features is not None
        prototypes = class_means(v, self._features.targets, len(self.labels))
        trained, _ = split_classes(len(self.labels), self.schedule)
        prototypes[trained] = self._result.head.prototypes.detach()
        return seen_classes(self._result.model, prototypes, self.labels.labels, self._tokens)

    def _settings(self) -> dict[str, Any]:
        """What must not change between the beginning and the end of a run."""
        job = self.job
        data = digest([(item.name, item.label) for item in self.data.items], self.labels.digest)[:16]
        network = {
            "backbone_fingerprint": self.backbone.fingerprint,
            "precision": str(next(self.backbone.parameters()).dtype),
        }
        processes = self.team.count if self.team else 1
        return {
            **job.config.to_dict(), **network, "data": {"files": data, "decoder": job.decoding.decoder},
            "processes": processes,
        }  # fmt: skip

    def _digest(self) -> str:
        """Of the usable videos, by content, and their labels."""
        return digest([(video.item.name, video.item.label, video.content) for video in self._videos])[:16]

    def _provenance(self) -> dict[str, Any]:
        assert self._result is not None
        return {
            "data": {
                "name": self.job.dataset.name, "digest": self._digest(), "videos": len(self._videos),
                "skipped": len(self._skipped), "classes": len(self.labels),
            },
            "command": self.job.command,
            "seed": self.job.config.train.seed,
            "step": self._result.step,
            "processes": self.team.count if self.team else 1,
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
