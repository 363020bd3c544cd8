"""The whole setting of a training run: one value, read from a YAML file and flags, every mistake reported at once."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_type_hints

from zsar_cli.errors import ConfigError, UsageError
from zsar_cli.models.rest import LARGEST, ClipSettings
from zsar_cli.networks.backbones import BackboneConfig
from zsar_cli.networks.rest import RestConfig
from zsar_cli.plain import typed
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.finetune import FinetuneConfig
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling

__all__ = ["SECTIONS", "ClipConfig", "RunConfig", "is_setting", "read_run_config"]

VIEWS = {"both": ("whole", "centre"), "whole": ("whole",), "centre": ("centre",), "letterbox": ("letterbox",)}


@dataclass(frozen=True)
class ClipConfig:
    """How videos are looked at.

    Args:
        frames: per clip. classify_frames: per clip when classifying; None takes `frames`.
        stride: seconds between frames; None spreads them over the clip's share of the video.
        clips: per video while training, each a sample of its own.
        view: "centre" cuts the middle square out of each frame, "whole" squeezes the frame into the square, "both"
            trains on the two and classifies with "whole", "letterbox" pads the frame to a square with black.
        flip: train on mirror images as well, and classify with the mean of both; False where left and right matter.
    """

    frames: int = 8
    classify_frames: int | None = None
    stride: float | None = None
    clips: int = 1
    view: str = "both"
    flip: bool = True

    def __post_init__(self) -> None:
        for name in ("frames", "classify_frames", "clips"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= LARGEST:
                raise ConfigError(f"clip: {name} is {value}; it must lie in 1..{LARGEST}")
        if self.stride is not None and self.stride <= 0:
            raise ConfigError(f"clip: stride is {self.stride}; it must be above 0")
        if self.view not in VIEWS:
            raise ConfigError(f"clip: view is '{self.view}'; allowed: {', '.join(VIEWS)}")

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

    def settings(self, size: int) -> ClipSettings:
        """Of classifying."""
        sampling = replace(self.sampling, windows=1, frames=self.classify_frames or self.frames)
        return ClipSettings(sampling, self.geometries(size)[0], self.flip)


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides the weights, the data apart.

    Args:
        backbone, clip, train, finetune: see their classes.
        model: the shape of the Transformer; its `features` follow from the backbone.
        transfer: how the trained model scores; its scales are measured at the end, its temperature is that of `train`.
        epochs: passes over the data in place of `train.steps`; 0 takes the steps.
        specialist: beside other models the trained one decides among the labels it knows: those whose name has this
            cosine or more to a class of its own. None makes it a model like any other.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    clip: ClipConfig = field(default_factory=ClipConfig)
    model: RestConfig = field(default_factory=lambda: RestConfig(features=1))
    train: TrainConfig = field(default_factory=TrainConfig)
    transfer: TransferSettings = field(
        default_factory=lambda: TransferSettings(top_k=10, transfer_weight=0.5, conse_weight=0.0, text_weight=0.5)
    )
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    epochs: int = 0
    specialist: float | None = None

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise ConfigError(f"epochs is {self.epochs}; it must be 0 or more")
        if self.specialist is not None and not 0 < self.specialist <= 1:
            raise ConfigError(f"specialist is {self.specialist}; it must lie in 0..1, 0 excluded")
        if self.backbone.posture and self.clip.view in ("both", "whole"):
            raise ConfigError(
                f"clip: view is '{self.clip.view}', which squeezes bodies; posture takes 'letterbox' or 'centre'"
            )

    def shape(self) -> RestConfig:
        """Of the Transformer, on this backbone."""
        return replace(self.model, features=self.backbone.channels, posture=self.backbone.posture_channels)

    def schedule(self, clips: int) -> TrainConfig:
        """`train`, with epochs turned into steps for a data set of that many clips."""
        steps = math.ceil(self.epochs * clips / self.train.batch)
        return replace(self.train, steps=steps) if self.epochs else self.train

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `read_run_config` takes them."""
        own = {name: asdict(getattr(self, name)) for name in SECTIONS}
        return {name: {key: own[name][key] for key in SECTIONS[name]} for name in SECTIONS} | {
            name: getattr(self, name) for name in WHOLE
        }


def _keys(kind: type[Any], *without: str) -> dict[str, Any]:
    """Names and types of a class's settings."""
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind) if one.name not in without}


# A key without a section belongs to the first that knows it.
SECTIONS: Mapping[str, Mapping[str, Any]] = types.MappingProxyType(
    {
        "train": _keys(TrainConfig),
        "model": _keys(RestConfig, "features", "posture", "text_features"),
        "clip": _keys(ClipConfig),
        "backbone": _keys(BackboneConfig),
        "finetune": _keys(FinetuneConfig),
        "transfer": _keys(TransferSettings, "temperature", "logit_scale", *(
            f"{name}_scale" for name in ("transfer", "conse", "text"))),
    }
)  # fmt: skip

# What belongs to no section.
WHOLE: Mapping[str, Any] = types.MappingProxyType({"epochs": int, "specialist": float | None})


def is_setting(name: str, value: Any) -> bool:
    """Whether `read_run_config` has a place for "name: value"."""
    name = name.replace("-", "_")
    return (name in SECTIONS and isinstance(value, Mapping)) or name in WHOLE or _section_of(name) is not None


def _section_of(key: str) -> str | None:
    return next((section for section, keys in SECTIONS.items() if key in keys), None)


def read_run_config(content: Mapping[Any, Any], source: str, flags: Mapping[str, Any] | None = None) -> RunConfig:
    """Settings from a mapping of sections, of single keys, or of both.

    Args:
        content: for example {"train": {"steps": 200}, "frames": 16}.
        source: its name in messages.
        flags: "section.key" -> value; they win, and None is no value.

    Raises:
        ConfigError: names every key that is unknown and every value that is not allowed, one a line.
    """
    wrong: list[str] = []
    given = dict(_placed(content, wrong))
    stronger = {key: value for key, value in (flags or {}).items() if value is not None}
    for level in (given, stronger):
        if "train.steps" in level and level.get("epochs"):
            wrong.append("steps and epochs are two ways to say the same; give one")
    if "train.steps" in stronger:
        given.pop("epochs", None)
    given |= stronger
    default = RunConfig()
    made: dict[str, Any] = {}
    for section, keys in SECTIONS.items():
        values = {key: given[f"{section}.{key}"] for key in keys if f"{section}.{key}" in given}
        made[section] = _section(getattr(default, section), section, values, wrong)
    for name in given.keys() & WHOLE.keys():
        try:
            made[name] = typed(given[name], WHOLE[name])
        except TypeError as error:
            wrong.append(f"{name} is {given[name]!r}; it must be {error}")
    if wrong:
        raise ConfigError(f"{source}:" + "".join(f"\n  {line}" for line in wrong))
    try:
        return RunConfig(**made)
    except ConfigError as error:
        raise ConfigError(f"{source}:\n  {error}") from None


def _placed(content: Mapping[Any, Any], wrong: list[str]) -> Iterator[tuple[str, Any]]:
    """("section.key" or a key of `WHOLE`, value) for all that has a place."""
    for name, value in content.items():
        name = str(name).replace("-", "_")
        if name in SECTIONS and isinstance(value, Mapping):
            for key, inner in value.items():
                key = str(key).replace("-", "_")
                if key in SECTIONS[name]:
                    yield f"{name}.{key}", inner
                else:
                    wrong.append(f"{name}: no such key: {key}; it has {', '.join(SECTIONS[name])}")
            continue
        section = _section_of(name)
        if name in WHOLE or section is not None:
            yield (name if name in WHOLE else f"{section}.{name}"), value
        else:
            wrong.append(f"no such key: {name}; the sections are {', '.join(SECTIONS)}")


def _section(default: Any, section: str, values: Mapping[str, Any], wrong: list[str]) -> Any:
    """The default with the given values; the mistakes go to `wrong`."""
    typed_values: dict[str, Any] = {}
    for key, value in values.items():
        try:
            typed_values[key] = typed(value, SECTIONS[section][key])
        except TypeError as error:
            wrong.append(f"{section}: {key} is {value!r}; it must be {error}")
    while True:
        try:
            return replace(default, **typed_values)
        except UsageError as error:
            wrong.append(str(error))
            # Messages name the setting. Without it the others are tried, so that no mistake hides another.
            named = [key for key in typed_values if _names(str(error), key, typed_values[key])]
            if not named:
                return default
            del typed_values[named[0]]


def _names(message: str, key: str, value: Any) -> bool:
    """Whether an error's message tells of this key with this value."""
    return re.search(rf"\b{key} (is )?'?{re.escape(str(value))}\b", message) is not None
