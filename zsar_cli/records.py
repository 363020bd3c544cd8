"""What a job finds, as plain values: the schema `zsar.result/2` that every output format is written from.

docs/formats.md explains each key. No record holds a time of day or a duration of the work: the same inputs give
the same bytes. Keys are always there; what is not known is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zsar_cli._version import __version__

if TYPE_CHECKING:
    from zsar_cli.errors import InputError
    from zsar_cli.video.types import Partial, VideoFacts

__all__ = ["SCHEMA", "UNKNOWN", "Decision", "Failure", "Prediction", "Run", "Segment", "Summary", "VideoRecord"]

SCHEMA = "zsar.result/2"
UNKNOWN = "unknown"  # the answer that it is none of the labels
_DIGITS = 6  # of scores, shares and seconds: finer than any of them is known


@dataclass(frozen=True)
class Prediction:
    """One label and how well it fits; higher is better.

    Args:
        label: its name.
        score: its share among the labels of the run; all scores of a video sum to 1.
        similarity: to the video, in units of the typical spread over labels: does not depend on which other labels
            were asked for, and so compares videos of one run with each other.
        probability: that the label is right, 0..1; None where the models were not calibrated.

    Raises:
        ValueError: a number is not finite. A video without usable scores is a `Failure`.
    """

    label: str
    score: float
    similarity: float
    probability: float | None = None

    def __post_init__(self) -> None:
        if math.isfinite(self.score + self.similarity + (self.probability or 0.0)):  # at once: a library has millions
            return
        for name, value in (("score", self.score), ("similarity", self.similarity), ("probability", self.probability)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"the {name} of {self.label!r} is {value}; record a Failure instead")

    def to_dict(self) -> dict[str, Any]:
        """The schema's `predictions[]`."""
        return {
            "label": self.label,
            "score": _rounded(float(self.score)),
            "similarity": _rounded(float(self.similarity)),
            "probability": None if self.probability is None else _rounded(self.probability),
        }


@dataclass(frozen=True)
class Decision:
    """What to make of the predictions of a video.

    Args:
        answer: the best label, or `UNKNOWN` where that is asked for and none of the labels is likely.
        unknown: 0..1, the higher, the more likely it is none of the labels.
        doubtful: whether the answer is rather wrong than right.
        reasons: why it is doubtful, sentences for people.
    """

    answer: str
    unknown: float
    doubtful: bool
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Segment:
    """When a label happens.

    Args:
        label: its name.
        start, end: seconds from the first frame; start < end.
        score: mean over the segment of how far the label stands above its background, in units of its spread there.
        similarity: mean over the segment, as of a `Prediction`: compares segments of different videos.
        peak: seconds, where it stands highest.

    Raises:
        ValueError: a number is not finite, or the segment has no length.
    """

    label: str
    start: float
    end: float
    score: float
    similarity: float
    peak: float

    def __post_init__(self) -> None:
        numbers = (self.start, self.end, self.score, self.similarity, self.peak)
        if not all(map(math.isfinite, numbers)) or self.start >= self.end:
            raise ValueError(f"{self} is no segment")

    def to_dict(self) -> dict[str, Any]:
        """The schema's `segments[]`."""
        return {key: _rounded(value) if isinstance(value, float) else value for key, value in vars(self).items()}


@dataclass(frozen=True)
class Failure:
    """Why a video has no predictions: the fields of an `InputError`."""

    stage: str
    reason: str
    decoder: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The schema's `error`."""
        return dict(vars(self))


@dataclass(frozen=True)
class VideoRecord:
    """All that is known of one video.

    Args:
        path: as the user named it.
        predictions: best first; empty where `error` is set.
        decision: what to make of them; None where there are none.
        error: set where the video could not be used.
        facts: what is known of the file.
        windows: N, how many windows were looked at.
        segments: when labels happen, in the order of their starts; None where that was not asked.

    Raises:
        ValueError: the predictions are not best first, segments not in order, or either stands beside an error.
    """

    path: str
    predictions: tuple[Prediction, ...] = ()
    error: Failure | None = None
    facts: VideoFacts | None = None
    windows: int | None = None
    segments: tuple[Segment, ...] | None = None
    decision: Decision | None = None

    def __post_init__(self) -> None:
        scores = [prediction.score for prediction in self.predictions]
        if scores != sorted(scores, reverse=True):
            raise ValueError(f"{self.path}: predictions must come best first")
        starts = [segment.start for segment in self.segments or ()]
        if starts != sorted(starts):
            raise ValueError(f"{self.path}: segments must come in the order of their starts")
        if self.error and (self.predictions or self.segments):
            raise ValueError(f"{self.path}: a failed video has no predictions and no segments")

    @classmethod
    def failed(cls, error: InputError) -> VideoRecord:
        """The record of an input that could not be used."""
        return cls(error.path, error=Failure(error.stage, error.reason, error.decoder))

    def to_dict(self, top_k: int | None = None) -> dict[str, Any]:
        """The schema's `results[]`, with at most `top_k` predictions."""
        facts, decision = self.facts, self.decision
        return {
            "path": self.path,
            "answer": decision and decision.answer,
            "unknown": decision and _rounded(decision.unknown),
            "doubtful": decision and decision.doubtful,
            "reasons": list(decision.reasons) if decision else [],
            "predictions": [prediction.to_dict() for prediction in self.predictions[:top_k]],
            "segments": None if self.segments is None else [segment.to_dict() for segment in self.segments],
            "error": self.error and self.error.to_dict(),
            "content": facts and facts.content,
            "video": facts and _values(vars(facts.info)),
            "decoder": facts and {"name": facts.decoder, "version": facts.decoder_version},
            "sampling": facts and _sampling(facts),
            "windows": self.windows,
            "partial": facts and facts.partial and _values(vars(facts.partial)),
            "notes": list(self.notes),
        }

    @property
    def goes_on(self) -> bool:
        """Whether the video is being read still: more records of it follow, the last with what is known of the file."""
        return self.facts is None and self.error is None

    @property
    def partial(self) -> Partial | None:
        """Set where the file is damaged and only part of it was read."""
        return self.facts.partial if self.facts is not None else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What else the user should know."""
        return self.facts.notes if self.facts is not None else ()


def _sampling(facts: VideoFacts) -> dict[str, Any]:
    """The schema's `sampling`."""
    values = dict(vars(facts.sampling))
    if facts.sampling.window is not None:
        values["windows"] = None  # their number follows from the length of the video
    return {
        **{key: values[key] for key in ("windows", "frames", "window", "stride", "frame_step")},
        "mode": "exact" if facts.sampling.exact else "key frames",
        "times": [_rounded(time) for time in facts.times],
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
        bank: kind and digest of the bank that composed the labels; None where there is none.
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


def _values(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _rounded(value) if isinstance(value, float) else value for key, value in fields.items()}
