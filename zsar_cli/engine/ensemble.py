"""Several models asked together: each reads a video in its own way, their similarities are averaged.

A specialist, such as `rest-exercises`, is not averaged: it decides among the labels it knows (`scoring.decide_among`).
Specialists alone are averaged like any others.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from zsar_cli.engine.classifier import Classifier, Labelled, ZeroShotClassifier
from zsar_cli.engine.pipeline import Embedding
from zsar_cli.errors import InputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.base import Specialist
from zsar_cli.records import Run
from zsar_cli.transfer.scoring import decide_among

__all__ = ["Ensemble", "JointEmbedding", "JointLabelled"]


@dataclass(frozen=True)
class JointEmbedding(Embedding):
    """One video as each member sees it. The inherited fields are the first member's, but notes and damage are all's."""

    parts: tuple[Embedding, ...] = ()


@dataclass(frozen=True)
class JointLabelled(Labelled):
    """Labels made ready for each member.

    Args:
        known: for each specialist which labels it knows, bool [U]; None for the other members.
    """

    parts: tuple[Labelled, ...] = ()
    known: tuple[Tensor | None, ...] = ()


class Ensemble(Classifier):
    """The weighted mean of several classifiers' similarities, each in units of its own spread over labels.

    Every member samples, shapes and decodes a video as its model wants it, so a video is read once for each; an error
    of one member is the video's error, for a mean over fewer models would not compare with the other results.

    Args:
        members: two or more.
        weights: one for each that is averaged, 0 or more; None weighs all alike.

    Raises:
        UsageError: too few members, or weights that do not fit.
    """

    def __init__(self, members: Sequence[ZeroShotClassifier], weights: Sequence[float] | None = None) -> None:
        names = [member.model.name for member in members]
        if len(members) < 2:
            raise UsageError(f"an ensemble needs two or more models, not {len(members)}")
        if len(set(names)) < len(names):
            raise UsageError(
                f"--model {', '.join(names)}: each model can be given once; --weights makes one count more"
            )
        models = [member.model for member in members]
        special = [model if isinstance(model, Specialist) else None for model in models]
        self._specialists = tuple(special) if None in special else (None,) * len(members)
        averaged = self._specialists.count(None)
        given = [1.0] * averaged if weights is None else [float(weight) for weight in weights]
        if len(given) != averaged:
            apart = [name for name, alone in zip(names, self._specialists, strict=True) if alone is not None]
            but = f" ({', '.join(apart)} decides among the labels it knows and takes no weight)" if apart else ""
            need = f"{averaged} models need {averaged} weights" if averaged > 1 else "1 model needs 1 weight"
            raise UsageError(f"--weights: {need}, not {len(given)}{but}")
        if not all(math.isfinite(weight) and weight >= 0 for weight in given) or sum(given) == 0:
            raise UsageError(f"--weights {','.join(map(str, given))}: must be 0 or more, and not all 0")
        self._members = tuple(members)
        left = iter(given)
        self.weights = tuple(next(left) / sum(given) if alone is None else 0.0 for alone in self._specialists)

    @property
    def members(self) -> tuple[ZeroShotClassifier, ...]:
        """One for each model, in the order they were given."""
        return self._members

    @property
    def sharpness(self) -> float:
        """The members' weighted mean."""
        return sum(weight * member.sharpness for weight, member in zip(self.weights, self.members, strict=True))

    def prepare(self, labels: LabelSet) -> JointLabelled:
        """Labels made ready for each member."""
        known = tuple(None if alone is None else alone.knows(labels.labels) for alone in self._specialists)
        return JointLabelled(labels, parts=tuple(member.prepare(labels) for member in self.members), known=known)

    def embed(self, inputs: Iterable[str | InputError]) -> Iterator[Embedding | InputError]:
        """Every member's embeddings of each video, or the first error among them, in the order of `inputs`."""
        paths = list(inputs)
        with contextlib.ExitStack() as stack:
            streams = [member.embed(paths) for member in self.members]
            for stream in streams:
                stack.callback(getattr(stream, "close", lambda: None))
            for items in zip(*streams, strict=True):
                yield _joined(items)

    def similarity(self, video: Embedding, labelled: Labelled) -> Tensor:
        """Weighted mean of the members' similarities, then as the specialists decide, [U]."""
        assert isinstance(video, JointEmbedding) and isinstance(labelled, JointLabelled)
        parts = [
            member.similarity(seen, ready)
            for member, seen, ready in zip(self.members, video.parts, labelled.parts, strict=True)
        ]
        mean = torch.stack([weight * part for weight, part in zip(self.weights, parts, strict=True)]).sum(dim=0)
        for part, known in zip(parts, labelled.known, strict=True):
            if known is not None:
                mean = decide_among(mean, part, known, self.sharpness)
        return mean

    def run(self, labels: LabelSet, bank: str | None = None) -> Run:
        """All models by name and fingerprint, joined by " + ", and each one's settings with its weight, or with the
        labels it decides among."""
        runs = [member.run(labels, bank) for member in self.members]
        members = []
        for run, weight, alone in zip(runs, self.weights, self._specialists, strict=True):
            part: dict[str, Any] = {"weight": weight}
            if alone is not None:
                known = alone.knows(labels.labels)
                part = {"decides_among": [name for name, one in zip(labels.names, known, strict=True) if one]}
            members.append({"model": run.model, "fingerprint": run.fingerprint, **part, **run.settings})
        return replace(
            runs[0],
            model=_each(run.model for run in runs),
            fingerprint=_each(run.fingerprint for run in runs),
            settings={"members": members, "sharpness": self.sharpness},
            device=_each(dict.fromkeys(run.device for run in runs)),
            precision=_each(dict.fromkeys(run.precision for run in runs)),
        )


def _joined(items: Sequence[Embedding | InputError]) -> Embedding | InputError:
    parts = []
    for item in items:
        if isinstance(item, InputError):
            return item
        parts.append(item)
    damaged = [part.partial for part in parts if part.partial is not None]
    shown: dict[str, Any] = {field.name: getattr(parts[0], field.name) for field in fields(Embedding)}
    shown["partial"] = min(damaged, key=lambda partial: partial.share, default=None)
    shown["notes"] = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return JointEmbedding(**shown, parts=tuple(parts))


def _each(values: Iterable[str]) -> str:
    return " + ".join(values)
