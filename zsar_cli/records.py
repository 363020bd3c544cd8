"""What a job finds, as plain values: the schema `zsar.result/1` that every output format is written from.

docs/formats.md explains each key. No record holds a time of day or a duration of the work: the same inputs give
the same bytes. Keys are always there; what is not known is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from zsar_cli._version import __version__

if TYPE_CHECKING:
    from zsar_cli.errors import InputError
    from zsar_cli.video.types import Partial, Sampling, VideoInfo

__all__ = ["SCHEMA", "Decoder", "Failure", "Prediction", "Run", "Sampled", "Summary", "VideoRecord"]

SCHEMA = "zsar.result/1"
_DIGITS = 6  # of scores, shares and seconds: finer than any of them is known


@dataclass(frozen=True)
class Prediction:
    """One label and how well it fits; higher is better. The scale depends on the run's settings.

    Raises:
        ValueError: the score is not finite. A video without a usable score is a `Failure`.
    """

    label: str
    score: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.score):
            raise ValueError(f"the score of {self.label!r} is {self.score}; record a Failure instead")

    def to_dict(self) -> dict[str, Any]:
        """The schema's `predictions[]`."""
        return {"label": self.label, "score": _rounded(float(self.score))}


@dataclass(frozen=True)
class Failure:
    """Why a video has no predictions: the fields of an `InputError`."""

    stage: str
    reason: str
    decoder: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The schema's `error`."""
        return asdict(self)


@dataclass(frozen=True)
class Decoder:
    """What read the frames, for example "pyav" of version "18.1.0 (FFmpeg 8.0)"."""

    name: str
    version: str

    def to_dict(self) -> dict[str, Any]:
        """The schema's `decoder`."""
        return asdict(self)


@dataclass(frozen=True)
class Sampled:
    """Which frames were looked at.

    Args:
        clips: number of clips.
        frames: frames per clip.
        stride: seconds between the frames of a clip; None where they are spread over the segment.
        mode: "exact" instants or the nearest "key frames".
        times: seconds at which each frame is first shown, clips * frames of them.
    """

    clips: int
    frames: int
    stride: float | None
    mode: Literal["exact", "key frames"]
    times: tuple[float, ...]

    @classmethod
    def of(cls, sampling: Sampling, times: Sequence[float]) -> Sampled:
        """From what was asked for and the times of the frames that came."""
        mode: Literal["exact", "key frames"] = "exact" if sampling.exact else "key frames"
        seconds = tuple(float(time) for time in times)
        return cls(sampling.clips, sampling.frames, sampling.stride, mode, seconds)

    def to_dict(self) -> dict[str, Any]:
        """The schema's `sampling`."""
        return {**asdict(self), "times": [_rounded(time) for time in self.times]}


@dataclass(frozen=True)
class VideoRecord:
    """All that is known of one video.

    Args:
        path: as the user named it.
        predictions: best first; empty where `error` is set.
        error: set where the video could not be used.
        video: of the whole file.
        decoder: what read it.
        sampling: which frames were looked at.
        partial: set where the file is damaged and only part of it was read.
        notes: what else the user should know.

    Raises:
        ValueError: the predictions are not best first, or stand beside an error.
    """

    path: str
    predictions: tuple[Prediction, ...] = ()
    error: Failure | None = None
    video: VideoInfo | None = None
    decoder: Decoder | None = None
    sampling: Sampled | None = None
    partial: Partial | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        scores = [prediction.score for prediction in self.predictions]
        if scores != sorted(scores, reverse=True):
            raise ValueError(f"{self.path}: predictions must come best first")
        if self.error and self.predictions:
            raise ValueError(f"{self.path}: a failed video has no predictions")

    @classmethod
    def failed(cls, error: InputError) -> VideoRecord:
        """The record of an input that could not be used."""
        return cls(error.path, error=Failure(error.stage, error.reason, error.decoder))

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """The schema's `results[]`, with at most `top_k` predictions."""
        return {
            "path": self.path,
            "predictions": [prediction.to_dict() for prediction in self.predictions[:top_k]],
            "error": self.error and self.error.to_dict(),
            "video": self.video and _values(asdict(self.video)),
            "decoder": self.decoder and self.decoder.to_dict(),
            "sampling": self.sampling and self.sampling.to_dict(),
            "partial": self.partial and _values(asdict(self.partial)),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Run:
    """What every result of a job depends on.

    Args:
        model: name, as the user gave it or as it is registered.
        fingerprint: of the model's weights and settings.
        labels_digest: `LabelSet.digest`.
        labels_count: how many labels there were.
        settings: how scores are made (transfer, blending, temperature ..): names to JSON values.
        bank: description of the prototype bank, None where the model's own or none was used.
        device: for example "cpu" or "cuda:0".
        precision: for example "float32" or "bfloat16".
        versions: of the packages that decide numbers: {"torch": "2.13.0", ..}.
        notes: on the run as a whole, for example on how the label file was read.
        zsar: version of this package.
    """

    model: str
    fingerprint: str
    labels_digest: str
    labels_count: int
    settings: Mapping[str, Any]
    bank: str | None
    device: str
    precision: str
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    zsar: str = field(default=__version__)

    def to_dict(self) -> dict[str, Any]:
        """The schema's `run`."""
        return {
            "zsar": self.zsar,
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "labels": {"digest": self.labels_digest, "count": self.labels_count},
            "settings": dict(sorted(self.settings.items())),
            "bank": self.bank,
            "device": self.device,
            "precision": self.precision,
            "versions": dict(sorted(self.versions.items())),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class Summary:
    """How many videos came out how: done with predictions (partial ones among them) or failed."""

    done: int = 0
    failed: int = 0
    partial: int = 0

    def plus(self, record: VideoRecord) -> Summary:
        """The counts with one more record."""
        failed = record.error is not None
        partial = record.partial is not None and not failed
        return Summary(self.done + (not failed), self.failed + failed, self.partial + partial)

    @property
    def total(self) -> int:
        """All records."""
        return self.done + self.failed

    def to_dict(self) -> dict[str, int]:
        """The schema's `summary`."""
        return {"total": self.total, "done": self.done, "failed": self.failed, "partial": self.partial}


def _rounded(value: float) -> float:
    return round(value, _DIGITS) + 0.0  # -0.0 + 0.0 is 0.0


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    return {key: _rounded(value) if isinstance(value, float) else value for key, value in fields.items()}
