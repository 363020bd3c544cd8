"""The whole setting of a training run: one value, read from a YAML file and flags, every mistake reported at once."""

from __future__ import annotations

import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Annotated, Any, Literal

from pydantic import Field

from zsar_cli.errors import ConfigError
from zsar_cli.labels import meant
from zsar_cli.models.rest import ClipSettings
from zsar_cli.networks.backbone_config import OF_CLIPS, BackboneConfig
from zsar_cli.networks.rest import RestConfig
from zsar_cli.settings import Positive, settings
from zsar_cli.training.config import RawConfig, TrainConfig
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling

__all__ = ["SECTIONS", "ClipConfig", "RunConfig", "is_setting", "read_run_config"]

VIEWS = {"both": ("whole", "centre"), "whole": ("whole",), "centre": ("centre",), "letterbox": ("letterbox",)}
Frames = Annotated[int, Field(ge=1, le=4096)]


@settings
@dataclass(frozen=True)
class ClipConfig:
    """How clips are sampled from videos.

    Args:
        frames: per clip. classify_frames: per clip when classifying; None takes `frames`.
        stride: seconds between frames; None spreads them over the clip's share of the video.
        clips: per video while training, each a sample of its own.
        view: "centre" cuts the middle square out of each frame, "whole" squeezes the frame into the square, "both"
            trains on the two and classifies with "whole", "letterbox" pads the frame to a square with black.
        flip: train on mirror images as well, and classify with the mean of both; False where left and right matter.
    """

    frames: Frames = 8
    classify_frames: Frames | None = None
    stride: Positive | None = None
    clips: Frames = 1
    view: Literal["both", "whole", "centre", "letterbox"] = "both"
    flip: bool = True

    @property
    def sampling(self) -> Sampling:
        """Of training."""
        return Sampling(windows=self.clips, frames=self.frames, frame_step=self.stride)

    def geometries(self, size: int) -> tuple[Geometry, ...]:
        """One for each way a frame becomes a square of `size` pixels; the first is that of classifying."""
        return tuple(
            Geometry(size, size if view == "centre" else None, letterbox=view == "letterbox")
            for view in VIEWS[self.view]
        )

    @classmethod
    def of(cls, classifying: ClipSettings) -> ClipConfig:
        """What trains on the clips that a finished model sees."""
        sampling, geometry = classifying.sampling, classifying.geometry
        view: Literal["whole", "centre", "letterbox"] = (
            "letterbox" if geometry.letterbox else "whole" if geometry.resize is None else "centre"
        )
        return cls(sampling.frames, stride=sampling.frame_step, view=view, flip=classifying.mirror)

    def settings(self, size: int) -> ClipSettings:
        """Of classifying."""
        sampling = replace(self.sampling, windows=1, frames=self.classify_frames or self.frames)
        return ClipSettings(sampling, self.geometries(size)[0], self.flip)


@settings
@dataclass(frozen=True)
class RunConfig:
    """Everything the weights depend on besides the data.

    Args:
        backbone, clip, train, raw: see their classes.
        model: the shape of the Transformer; its `features` follow from the backbone.
        transfer: how the trained model scores; its scales are measured, its temperature is that of `train`.
        specialist: beside other models the trained one decides among the labels it knows: those whose name has this
            cosine or more to a class of its own. None makes it a model like any other.
        source: what is trained on: "grids" of the frozen backbone, computed once; "raw" videos, decoded all the time;
            "embeddings" of a library.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    model: RestConfig = field(default_factory=lambda: RestConfig(features=1))
    train: TrainConfig = field(default_factory=TrainConfig)
    transfer: TransferSettings = field(
        default_factory=lambda: TransferSettings(top_k=10, transfer_weight=0.5, conse_weight=0.0, text_weight=0.5)
    )
    raw: RawConfig = field(default_factory=RawConfig)
    specialist: Annotated[Positive, Field(le=1)] | None = None
    source: Literal["grids", "raw", "embeddings"] = "grids"

    def __post_init__(self) -> None:
        if self.backbone.posture and self.clip.view in ("both", "whole"):
            raise ValueError(
                f"clip: view is '{self.clip.view}', which squeezes bodies; posture takes 'letterbox' or 'centre'"
            )
        if self.train.reverse and self.source == "grids" and self.backbone.name in OF_CLIPS:
            raise ValueError(
                f"train: reverse is {self.train.reverse}, which turns round the features of single frames; those of "
                f"{self.backbone.name} know the order of their frames, so it takes 0"
            )

    @property
    def shape(self) -> RestConfig:
        """Of the Transformer, on this backbone."""
        return replace(self.model, features=self.backbone.channels, posture=self.backbone.posture_channels)

    @property
    def scoring(self) -> TransferSettings:
        """`transfer`, with the temperature that is trained with."""
        return replace(self.transfer, temperature=self.train.temperature)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `read_run_config` takes them."""
        own = asdict(self)
        return {name: {key: own[name][key] for key in SECTIONS[name]} for name in SECTIONS} | {
            name: own[name] for name in WHOLE
        }


def _keys(kind: type[Any], *without: str) -> tuple[str, ...]:
    """Names of a class's settings."""
    return tuple(one.name for one in fields(kind) if one.name not in without)


# A key without a section belongs to the first that knows it.
SECTIONS: Mapping[str, tuple[str, ...]] = types.MappingProxyType(
    {
        "train": _keys(TrainConfig),
        "model": _keys(RestConfig, "features", "posture", "text_features"),
        "clip": _keys(ClipConfig),
        "backbone": _keys(BackboneConfig),
        "raw": _keys(RawConfig),
        "transfer": _keys(TransferSettings, "temperature", "logit_scale", *(
            f"{name}_scale" for name in ("transfer", "conse", "text"))),
    }
)  # fmt: skip

# What belongs to no section.
WHOLE = ("specialist", "source")


def is_setting(name: str, value: Any) -> bool:
    """Whether `read_run_config` has a place for "name: value"."""
    name = name.replace("-", "_")
    return (name in SECTIONS and isinstance(value, Mapping)) or name in WHOLE or _section_of(name) is not None


def _section_of(key: str) -> str | None:
    return next((section for section, keys in SECTIONS.items() if key in keys), None)


def read_run_config(
    content: Mapping[Any, Any], source: str, flags: Mapping[str, Any] | None = None, options: Collection[str] = ()
) -> RunConfig:
    """Settings from a mapping of sections, of single keys, or of both.

    Args:
        content: for example {"train": {"steps": 200}, "frames": 16}.
        source: its name in messages.
        flags: "section.key" -> value; they win, and None is no value.
        options: other names that `source` may have held, for the hint at what a wrong key may mean.

    Raises:
        ConfigError: names every key that is unknown and every value that is not allowed, one a line.
    """
    wrong: list[str] = []
    given = dict(_placed(content, options, wrong))
    stronger = {key: value for key, value in (flags or {}).items() if value is not None}
    for level in (given, stronger):
        if "train.steps" in level and level.get("train.epochs"):
            wrong.append("steps and epochs are two ways to say the same; give one")
    if "train.steps" in stronger:
        given.pop("train.epochs", None)
    given |= stronger
    made: dict[str, Any] = {name: given[name] for name in WHOLE if name in given}
    default = RunConfig()
    try:
        replace(default, **made)
    except ConfigError as error:
        wrong += str(error).splitlines()
    for section, keys in SECTIONS.items():
        values = {key: given[f"{section}.{key}"] for key in keys if f"{section}.{key}" in given}
        try:
            made[section] = replace(getattr(default, section), **values)
        except ConfigError as error:
            wrong += [f"{section}: {line}" for line in str(error).splitlines()]
    try:
        if not wrong:
            return RunConfig(**made)
    except ConfigError as error:
        wrong.append(str(error))
    raise ConfigError(f"{source}:" + "".join(f"\n  {line}" for line in wrong))


def _placed(content: Mapping[Any, Any], options: Collection[str], wrong: list[str]) -> Iterator[tuple[str, Any]]:
    """("section.key" or a key of `WHOLE`, value) for all that has a place."""
    for name, value in content.items():
        name = str(name).replace("-", "_")
        if name in SECTIONS and isinstance(value, Mapping):
            for key, inner in value.items():
                key = str(key).replace("-", "_")
                if key in SECTIONS[name]:
                    yield f"{name}.{key}", inner
                else:
                    hint = meant(key, SECTIONS[name])
                    wrong.append(f"{name}: no such key: {key}; it has {', '.join(SECTIONS[name])}{hint}")
        elif name in WHOLE:
            yield name, value
        elif (section := _section_of(name)) is not None:
            yield f"{section}.{name}", value
        else:
            wrong.append(_no_such_key(name, options))


def _no_such_key(name: str, options: Collection[str]) -> str:
    keys = [key for section in SECTIONS.values() for key in section]
    hint = meant(name.lower(), [*(one.replace("-", "_") for one in options), *SECTIONS, *WHOLE, *keys])
    others = ", ".join(WHOLE) + ", and all options" if options else " and ".join(WHOLE)
    return f"no such key: {name}; there are the sections {', '.join(SECTIONS)} and their keys, {others}{hint}"
