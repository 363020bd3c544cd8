"""Several models asked together: each sees a video in its own way, their similarities are averaged.

A specialist, such as `rest-exercises`, is not averaged: it decides among the labels it knows (`scoring.decide_among`).
Specialists alone are averaged like any others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from zsar_cli.engine.checks import check_distinct, check_weights
from zsar_cli.engine.classifier import Classifier, Labelled, Views, ZeroShotClassifier
from zsar_cli.engine.examples import Examples
from zsar_cli.engine.pipeline import Pipeline
from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.base import Specialist
from zsar_cli.records import Run
from zsar_cli.transfer.scoring import decide_among
from zsar_cli.video.types import VideoFacts

__all__ = ["Ensemble", "JointLabelled"]


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

    A file is read once, by one process, in each view that a member wants of it; an error of one member is the video's
    error, for a mean over fewer models would not compare with the other results.

    Args:
        members: two or more; the first one's settings and cache are used to read videos for all.
        weights: one for each that is averaged, 0 or more; None weighs all alike.

    Raises:
        UsageError: too few members, or weights that do not fit.
    """

    def __init__(self, members: Sequence[ZeroShotClassifier], weights: Sequence[float] | None = None) -> None:
        names = [member.model.name for member in members]
        if len(members) < 2:
            raise UsageError(f"an ensemble needs two or more models, not {len(members)}")
        check_distinct(names)
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
        check_weights(given)
        super().__init__(Pipeline(models, members[0].pipeline.settings, members[0].pipeline.cache))
        self._members = tuple(members)
        shares = iter(weight / sum(given) for weight in given)
        self._weights = tuple(next(shares) if alone is None else 0.0 for alone in self._specialists)

    @property
    def members(self) -> tuple[ZeroShotClassifier, ...]:
        """One for each model, in the order they were given."""
        return self._members

    @property
    def weights(self) -> tuple[float, ...]:
        """Of specialists, which are not averaged, 0."""
        return self._weights

    @property
    def sharpness(self) -> float:
        """The members' weighted mean."""
        return sum(weight * member.sharpness for weight, member in zip(self.weights, self.members, strict=True))

    def prepare(self, labels: LabelSet, examples: Examples | None = None) -> JointLabelled:
        """Labels made ready for each member."""
        known = tuple(None if alone is None else alone.knows(labels.labels) for alone in self._specialists)
        parts = (
            member.prepare(labels, None if examples is None else examples.of_model(number))
            for number, member in enumerate(self.members)
        )
        return JointLabelled(labels, parts=tuple(parts), known=known, by_example=examples is not None)

    @cached_property
    def background(self) -> JointLabelled:
        """See `Classifier.background`; specialists know nothing of it."""
        parts = tuple(member.background for member in self.members)
        return JointLabelled(parts[0].labels, parts=parts, known=(None,) * len(parts))

    def score(self, rows: Sequence[Tensor], labelled: Labelled) -> Tensor:
        """Weighted mean of the members' similarities, window by window, then as the specialists decide, [N, U]."""
        assert isinstance(labelled, JointLabelled)
        parts = [
            member.score([own], ready) for member, own, ready in zip(self.members, rows, labelled.parts, strict=True)
        ]
        return self._joint(parts, labelled)

    def similarities(self, videos: Sequence[Views], labelled: Labelled) -> Tensor:
        """Weighted mean of the members' similarities, then as the specialists decide, [V, U]."""
        assert isinstance(labelled, JointLabelled)
        parts = [
            member.similarities([(video[number],) for video in videos], ready)
            for number, (member, ready) in enumerate(zip(self.members, labelled.parts, strict=True))
        ]
        return self._joint(parts, labelled)

    def _joint(self, parts: Sequence[Tensor], labelled: JointLabelled) -> Tensor:
        """The members' similarities, [N, U] each, as one."""
        mean = torch.stack([weight * part for weight, part in zip(self.weights, parts, strict=True)]).sum(dim=0)
        for part, known in zip(parts, labelled.known, strict=True):
            if known is not None:
                mean = decide_among(mean, part, known, self.sharpness)
        return mean

    def facts(self, video: Views) -> VideoFacts:
        """As the first member sees the file; damage is the smallest share any of them read. A note that not all share
        names its model."""
        all_facts = [part.facts for part in video]
        damaged = [facts.partial for facts in all_facts if facts.partial is not None]
        shared = set.intersection(*(set(facts.notes) for facts in all_facts))
        notes = [
            note if note in shared else f"{member.model.name}: {note}"
            for member, facts in zip(self.members, all_facts, strict=True)
            for note in facts.notes
        ]
        return replace(
            all_facts[0],
            partial=min(damaged, key=lambda partial: partial.share, default=None),
            notes=tuple(dict.fromkeys(notes)),
        )

    def describe(self, labels: LabelSet, examples: Examples | None = None) -> Run:
        """All models by name and fingerprint, joined by " + ", and each one's settings with its bank and its weight,
        or with the labels it decides among."""
        runs = [member.describe(labels) for member in self.members]
        members = []
        for run, weight, alone in zip(runs, self.weights, self._specialists, strict=True):
            part: dict[str, Any] = {"weight": weight}
            if alone is not None:
                known = alone.knows(labels.labels)
                part = {"decides_among": [name for name, one in zip(labels.names, known, strict=True) if one]}
            about = {"model": run.model, "fingerprint": run.fingerprint, "bank": run.bank}
            own = {key: value for key, value in run.settings.items() if key not in self.deciding.described}
            members.append({**about, **part, **own})
        return replace(
            runs[0],
            model=_each(run.model for run in runs),
            fingerprint=_each(run.fingerprint for run in runs),
            settings={
                "members": members,
                "sharpness": self.sharpness,
                **self.deciding.described,
                **({} if examples is None else {"like": examples.described}),
            },
            bank=_each(run.bank or "none" for run in runs),
            device=_each(dict.fromkeys(run.device for run in runs)),
            precision=_each(dict.fromkeys(run.precision for run in runs)),
            versions={name: version for run in runs for name, version in run.versions.items()},
        )


def _each(values: Iterable[str]) -> str:
    return " + ".join(values)
