"""Examples of labels as models see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zsar_cli.data.examples import Example
from zsar_cli.engine.pipeline import Embedding, Pipeline
from zsar_cli.errors import InputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.base import VideoEncoder, visual_part
from zsar_cli.video.content import content_digest
from zsar_cli.video.types import Excerpt

__all__ = ["Examples", "embed_examples", "mean_of_windows"]

normalise = torch.nn.functional.normalize


@dataclass(frozen=True)
class Examples:
    """Examples of labels as each model of a classifier sees them.

    Args:
        described: what results depend on: of each example its label, its content, and start and end in seconds.
        means: for each model, by a label's readable form in lower case, the mean of its examples, a unit vector [D].
        notes: what the user should know, of damaged files.
    """

    described: tuple[Mapping[str, Any], ...]
    means: tuple[Mapping[str, Tensor], ...]
    notes: tuple[str, ...] = ()

    def of_model(self, number: int) -> Examples:
        """As one of the models sees them."""
        return replace(self, means=(self.means[number],))

    def rows(self, labels: LabelSet) -> Tensor:
        """The first model's means in the order of labels, [U, D]; zeros for a label without an example."""
        known = self.means[0]
        zeros = torch.zeros_like(next(iter(known.values())))
        return torch.stack([known.get(text.casefold(), zeros) for text in labels.texts])


def embed_examples(pipeline: Pipeline, given: Sequence[Example]) -> Examples:
    """See examples with each model of a pipeline. All of an example counts alike: the mean of its unit windows.

    Args:
        pipeline: of a classifier.
        given: one or more.

    Raises:
        UsageError: one cannot be read; names it as it was given.
    """
    found: list[dict[str, list[Tensor]]] = [{} for _ in pipeline.models]
    described, notes = [], []
    for example, views in zip(given, pipeline.embed(example.source for example in given), strict=True):
        if isinstance(views, InputError):
            raise UsageError(f"{example.given}: {views.reason}")
        if (partial := views[0].facts.partial) is not None:
            notes.append(f"{example.given}: only {partial.share:.0%} was read: {partial.reason}")
        for model, view, groups in zip(pipeline.models, views, found, strict=True):
            groups.setdefault(example.label.text.casefold(), []).append(mean_of_windows(model, view))
        described.append(_described(example))
    means = [
        {name: normalise(torch.stack(group).mean(dim=0), dim=0) for name, group in groups.items()} for groups in found
    ]
    return Examples(tuple(described), tuple(means), tuple(notes))


def mean_of_windows(model: VideoEncoder, view: Embedding) -> Tensor:
    """A video as one unit vector [D]: the mean of its windows, which all count alike."""
    return normalise(normalise(visual_part(model, view.windows), dim=1).mean(dim=0), dim=0)


def _described(example: Example) -> dict[str, Any]:
    within = example.source.within if isinstance(example.source, Excerpt) else None
    start, end = (None, None) if within is None else (within.start, within.end)
    return {"label": example.label.name, "content": content_digest(example.path), "start": start, "end": end}
