"""Window embeddings of a library as clips to train on: grids of one cell."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zsar_cli.data.dataset import Item
from zsar_cli.errors import InputError, UsageError
from zsar_cli.models.rest import ClipSettings
from zsar_cli.plain import build
from zsar_cli.store.library import Library
from zsar_cli.store.library_spec import StoredModel
from zsar_cli.training.arrays import allocate
from zsar_cli.video.content import content_digest
from zsar_cli.video.types import Geometry, Sampling

__all__ = ["StoredWindows", "choose_model", "clip_of", "take_windows"]


@dataclass(frozen=True)
class StoredWindows:
    """Windows of labelled videos.

    Args:
        items: N, the item of each window.
        contents: N, a digest of its video.
        failures: items that have none, and why.
    """

    items: list[Item]
    contents: list[str]
    failures: list[InputError]


def choose_model(library: Library, name: str | None) -> StoredModel:
    """The model of a library whose embeddings are trained on.

    Raises:
        UsageError: there is no such one, or several and none is named.
    """
    names = [model.name for model in library.spec.models]
    if name is None and len(names) > 1:
        raise UsageError(f"{library.folder} holds vectors of {', '.join(names)}; name one with --encoder")
    return library.spec.of([name or names[0]], library.folder).models[0]


def clip_of(model: StoredModel) -> ClipSettings:
    """The frames that the model saw, which are those of classifying."""
    sampling, geometry = build(Sampling, model.view["sampling"]), build(Geometry, model.view["geometry"])
    return ClipSettings(sampling, geometry, mirror=False)


def take_windows(library: Library, model: StoredModel, items: Sequence[Item], target: Path) -> StoredWindows:
    """The embeddings of all windows of some videos as one array on disk: float16 [N, 1, 1, 1, 1, D].

    Args:
        items: videos, known to the library by their paths or contents; of a part of one, the windows whose middle
            lies in it.
        target: the file, which is replaced; not written where there are no windows.

    Raises:
        OutputError: it cannot be written.
    """
    paths, contents = _numbers(library.videos.paths), _numbers(library.videos.ids)
    asked: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        number = paths.get(os.path.abspath(item.path))
        if number is None:  # a copy, of which the library keeps the first path
            number = contents.get(content_digest(item.path) or "")
        if number is not None and not library.videos.failed[number]:
            asked.setdefault(number, []).append(place)
    wanted = np.zeros(len(library.videos), bool)
    wanted[list(asked)] = True
    most = sum(int(library.videos.counts[number]) * len(places) for number, places in asked.items())
    rows: list[tuple[int, str]] = []
    array = allocate(target, np.float16, (most, 1, 1, 1, 1, model.width)) if most else None
    for block in library.blocks([model.fingerprint], wanted):
        ends = np.cumsum(block.counts)
        for number, end, count in zip(block.videos.tolist(), ends.tolist(), block.counts.tolist(), strict=True):
            spans, vectors = block.spans[end - count : end], block.vectors[0][end - count : end]
            for place in asked[number]:
                chosen = vectors[_inside(items[place], spans.mean(axis=1))]
                assert array is not None
                array[len(rows) : len(rows) + len(chosen), 0, 0, 0, 0] = chosen
                rows += [(place, library.videos.ids[number])] * len(chosen)
    found = {place for place, _ in rows}
    failures = [_missing(item, library) for place, item in enumerate(items) if place not in found]
    return StoredWindows([items[place] for place, _ in rows], [content for _, content in rows], failures)


def _numbers(names: Sequence[str]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


def _inside(item: Item, middles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which windows belong to an item."""
    if item.start is None or item.end is None:
        return np.ones(len(middles), bool)
    return (middles >= item.start) & (middles < item.end)


def _missing(item: Item, library: Library) -> InputError:
    return InputError(
        item.path, "find", f"the library {library.folder} has no window of it; 'zsar library add' puts videos in"
    )
