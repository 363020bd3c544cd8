"""The kinds of sources a run can train on: what each opens, looks at once, and writes into the bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.data.dataset import Dataset, Item
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.rest import ClipSettings, EncoderName, RestParts, read_parts
from zsar_cli.networks.backbone_config import BackboneConfig
from zsar_cli.networks.backbones import Backbone, open_backbone
from zsar_cli.store.cache import digest
from zsar_cli.store.features import FeatureCache
from zsar_cli.store.library import Library
from zsar_cli.training.features import Extracted, extract, pack
from zsar_cli.training.grids import ClipFeatures, Grids
from zsar_cli.training.raw import RawClips, Video, look_at
from zsar_cli.training.settings import ClipConfig, RunConfig
from zsar_cli.training.sources import Source
from zsar_cli.training.start import Begun, Networks
from zsar_cli.training.state import Compute
from zsar_cli.training.stored import choose_model, clip_of, take_windows
from zsar_cli.training.team import Team
from zsar_cli.weights.bundle import find_bundle
from zsar_cli.weights.catalogue import BUNDLES, ENTRIES

__all__ = ["Clips", "Kind", "Place", "open_kind"]


@dataclass(frozen=True)
class Place:
    """Where things lie: see `run.Job`; `features` is the folder for them in that of the run."""

    features: Path
    cache: Path
    library: Path | None = None
    encoder: str | None = None
    start: Path | None = None


@dataclass(frozen=True)
class Clips:
    """What is trained on.

    Args:
        source: the clips.
        videos: how many videos they are of. skipped: the others.
        digest: of the videos, by content, and their labels.
    """

    source: Source
    videos: int
    skipped: list[InputError]
    digest: str


class Kind(ABC):
    """A kind of source.

    Attributes:
        networks: what is trained on it.
        clip: the frames the finished model sees.
        facts: what the weights depend on besides the settings.
        sees: the backbone before the Transformer, or the model in its place.
        changed: whether the weights of the backbone are its own.
        shared: whether each process looks at a share of the videos.
    """

    networks: Networks
    clip: ClipSettings
    facts: dict[str, Any]
    sees: Backbone | EncoderName
    changed = False
    shared = True

    @abstractmethod
    def prepare(self, data: Dataset, team: Team, done: Callable[[], None]) -> Clips:
        """Look at all videos; `done` is called after each that this process looks at."""

    def close(self) -> None:
        """End what works for it."""
        return


def open_kind(config: RunConfig, place: Place, decoding: EmbedSettings, compute: Compute, labels: LabelSet) -> Kind:
    """The kind that the settings ask for.

    Raises:
        ZsarError: its backbone, library or beginning cannot be used.
    """
    if (config.source == "embeddings") != (place.library is not None):
        raise UsageError("--source embeddings and --library LIB go together: the library holds the embeddings")
    if place.encoder is not None and place.library is None:
        raise UsageError(f"--encoder {place.encoder}: says which embeddings of --library; give that, or leave it out")
    if config.source == "embeddings":
        if place.start is not None:
            raise UsageError("--start begins with a model on a backbone; --source embeddings has none")
        return _Embeddings(config, place)
    kind = _Raw if config.source == "raw" else _Grids
    return kind(config, place, decoding, compute, labels)


class _OnBackbone(Kind):
    """What the two kinds with a backbone have in common."""

    def __init__(
        self, config: RunConfig, place: Place, decoding: EmbedSettings, compute: Compute, labels: LabelSet
    ) -> None:
        self.place, self.decoding = place, decoding
        raw = config.source == "raw"
        # In float32 where it learns: half precision is for activations, small steps of weights would be lost in it.
        precision = torch.float32 if raw else compute.precision
        shape, begun = config.shape, None
        if place.start is None:
            backbone = open_backbone(config.backbone, compute.device, precision)
            self.facts = {"backbone_fingerprint": backbone.fingerprint}
        else:
            parts = _start(place.start, config, compute.device, precision)
            assert isinstance(parts.grid, Backbone)  # `_start` takes no others
            backbone, shape, begun = parts.grid, parts.model.config, _begun(parts, labels)
            self.changed = backbone.fingerprint.endswith("-tuned")
            config = replace(config, backbone=backbone.config, clip=_clip(config, backbone.config, parts.clip))
            self.facts = {"start": parts.fingerprint}
        for count in (config.clip.frames, config.clip.classify_frames or config.clip.frames):
            backbone.check_frames(count)
        self.config, self.sees = config, backbone
        self.clip = config.clip.settings(config.backbone.side)
        self.networks = Networks(shape, backbone if raw else None, config.raw, begun)


class _Grids(_OnBackbone):
    """Grids of a frozen backbone, computed once."""

    def prepare(self, data: Dataset, team: Team, done: Callable[[], None]) -> Clips:
        assert isinstance(self.sees, Backbone)
        cache = FeatureCache(self.place.cache)
        places = range(len(data.items))[team.rank :: team.count]
        items = [data.items[place] for place in places]
        videos, failures = extract(items, self.sees, self.config.clip, self.decoding, cache, done)
        self.place.features.mkdir(parents=True, exist_ok=True)
        if videos:
            pack(videos, cache, self._file(team.rank))
        place_of = {item.name: place for item, place in zip(items, places, strict=True)}
        mine = [(place_of[video.item.name], row, video) for row, video in enumerate(videos)]
        found = _in_order(team, mine)
        skipped = [failure for part in team.collect(failures) for failure in part]
        if not found:
            return _none(skipped)
        ranks = sorted({rank for _, rank, _, _ in found})
        index = torch.tensor([[ranks.index(rank), row] for _, rank, row, _ in found])
        grids = Grids.mapped([self._file(rank) for rank in ranks], index)
        usable: list[Extracted | Video] = [video for _, _, _, video in found]
        return _clips(ClipFeatures(grids, _targets([video.item for video in usable], data)), usable, skipped)

    def _file(self, rank: int) -> Path:
        return self.place.features / f"{rank}.npy"


class _Raw(_OnBackbone):
    """Videos themselves."""

    _source: RawClips | None = None

    def prepare(self, data: Dataset, team: Team, done: Callable[[], None]) -> Clips:
        places = range(len(data.items))[team.rank :: team.count]
        looked, failures = look_at([data.items[place] for place in places], self.decoding, done)
        mine = [(place, 0, video) for place, video in zip(places, looked, strict=True) if video is not None]
        usable: list[Extracted | Video] = [video for _, _, _, video in _in_order(team, mine)]
        skipped = [failure for part in team.collect(failures) for failure in part]
        if not usable:
            return _none(skipped)
        videos = [video for video in usable if isinstance(video, Video)]
        self._source = RawClips(
            videos, _targets([video.item for video in usable], data), self.config.backbone.side, self.config.clip,
            self.config.raw, self.decoding,
        )  # fmt: skip
        return _clips(self._source, usable, skipped)

    def close(self) -> None:
        if self._source is not None:
            self._source.close()


class _Embeddings(Kind):
    """Embeddings of another model, from a library."""

    shared = False

    def __init__(self, config: RunConfig, place: Place) -> None:
        assert place.library is not None
        self.place, self.library = place, Library(place.library)
        self.model = choose_model(self.library, place.encoder)
        self.clip = clip_of(self.model)
        self.sees = EncoderName(self.model.name, self.model.fingerprint)
        self.facts = {"encoder_fingerprint": self.model.fingerprint}
        self.networks = Networks(replace(config.model, features=self.model.width, posture=0))

    def prepare(self, data: Dataset, team: Team, done: Callable[[], None]) -> Clips:
        file = self.place.features / "0.npy"
        found = None
        if team.first:
            file.parent.mkdir(parents=True, exist_ok=True)
            found = take_windows(self.library, self.model, data.items, file)
        (stored, *_) = team.collect(found)
        assert stored is not None
        for _ in data.items:
            done()
        if not stored.items:
            return _none(stored.failures)
        source = ClipFeatures(Grids.mapped([file]), _targets(stored.items, data))
        named = digest([(item.name, item.label, content) for item, content in
                        zip(stored.items, stored.contents, strict=True)])[:16]  # fmt: skip
        return Clips(source, len({item.name for item in stored.items}), stored.failures, named)


def _start(folder: Path, config: RunConfig, device: torch.device, precision: torch.dtype) -> RestParts:
    """The model to begin with, by its folder or its name in the catalogue.

    Raises:
        UsageError: it is no bundle, has no backbone, or the settings ask for other networks.
    """
    named = [name for name, entry in ENTRIES.items() if entry.kind == "rest"]
    bundle = find_bundle(BUNDLES / folder if str(folder) in named else folder)
    if bundle is None:
        known = ", ".join(named)
        raise UsageError(f"--start {folder}: holds no trained model; give a folder that zsar train wrote, or {known}")
    parts = read_parts(bundle, device, precision)
    if not isinstance(parts.grid, Backbone):
        raise UsageError(f"--start {folder}: was trained on embeddings, without a backbone")
    default = RunConfig()
    shape = replace(config.model, features=parts.model.config.features, posture=parts.model.config.posture)
    brought = {"backbone": (config.backbone, parts.grid.config), "model": (shape, parts.model.config)}
    for name, (asked, own) in brought.items():
        if getattr(config, name) != getattr(default, name) and asked != own:
            raise UsageError(f"--start {folder}: brings its {name}; leave other settings of it out")
    parts.model.requires_grad_(True)
    return parts


def _clip(config: RunConfig, backbone: BackboneConfig, started: ClipSettings) -> ClipConfig:
    """Clips as they are asked for, or else as the model that is begun with sees them."""
    default = RunConfig().clip
    if config.clip != default or default.settings(backbone.side) == started:
        return config.clip
    return ClipConfig.of(started)


def _begun(parts: RestParts, labels: LabelSet) -> Begun:
    """Where the classes are known, their prototypes."""
    row_of = {name: row for row, name in enumerate(parts.seen.labels)}
    prototypes = torch.zeros(len(labels), parts.model.config.space)
    for place, name in enumerate(labels.names):
        if name in row_of:
            prototypes[place] = F.normalize(parts.seen.visual[row_of[name]], dim=0)
    return Begun(parts.model, prototypes, parts.transfer.logit_scale)


def _in_order(team: Team, mine: list[tuple[int, int, Any]]) -> list[tuple[int, int, int, Any]]:
    """Place in the data set, process, row there and video, from all processes, as they lie in the data set."""
    parts = team.collect(mine)
    every = [(place, rank, row, video) for rank, part in enumerate(parts) for place, row, video in part]
    return sorted(every, key=lambda one: one[0])


def _targets(items: list[Item], data: Dataset) -> Tensor:
    number = {name: index for index, name in enumerate(data.classes.names)}
    return torch.tensor([number[item.label] for item in items])


def _clips(source: Source, videos: list[Extracted | Video], skipped: list[InputError]) -> Clips:
    named = digest([(video.item.name, video.item.label, video.content) for video in videos])[:16]
    return Clips(source, len(videos), skipped, named)


def _none(skipped: list[InputError]) -> Clips:
    """No video could be used."""
    return Clips(ClipFeatures(torch.zeros(0, 1, 1, 1, 1, 1), torch.zeros(0, dtype=torch.int64)), 0, skipped, "")
