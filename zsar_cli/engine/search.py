"""Moments of a library by words or by example, best first."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.engine.classifier import Classifier
from zsar_cli.engine.examples import mean_of_windows
from zsar_cli.engine.stored import to_tensor
from zsar_cli.errors import InputError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.base import visual_part
from zsar_cli.store.entries import Videos
from zsar_cli.store.library import Library
from zsar_cli.video.kinds import IMAGE_SUFFIXES
from zsar_cli.video.types import Excerpt

__all__ = ["Hit", "Query", "SearchSettings", "search"]

normalise = torch.nn.functional.normalize
DIGITS = 6  # of z, behind which two windows are equally good
CANDIDATES = 50  # windows that are looked at for each moment that is asked for
TOUCHING = 0.001  # seconds between two windows that touch


@dataclass(frozen=True)
class Query:
    """What is looked for: words, an example, or both, in which they count alike.

    Args:
        words: what happens.
        like: a video or a part of one.
        unlike: words of what does not happen.

    Raises:
        UsageError: neither words nor an example.
    """

    words: str | None = None
    like: str | Excerpt | None = None
    unlike: str | None = None

    def __post_init__(self) -> None:
        if not (self.words or "").strip() and self.like is None:
            raise UsageError("nothing to search for: give words, or an example with --like PATH@START-END")


@dataclass(frozen=True)
class SearchSettings:
    """How moments are made of windows.

    Args:
        top: moments.
        under: only videos at or below one of these; none for all.
        dedupe: leave out moments that look like a better one.
        alike: cosine from which on two moments look alike.
        lasting: a moment lasts over neighbouring windows that have this share of its best z.
    """

    top: int = 20
    under: tuple[str, ...] = ()
    dedupe: bool = False
    alike: float = 0.98
    lasting: float = 0.5


@dataclass(frozen=True)
class Hit:
    """A moment.

    Args:
        path: of its video.
        start, end: seconds.
        similarity: of its best window, as of a `Prediction`.
        z: how far that is above all windows of the library, in their standard deviations; compares queries.
    """

    path: str
    start: float
    end: float
    similarity: float
    z: float


def search(
    library: Library, classifier: Classifier, query: Query, settings: SearchSettings | None = None
) -> list[Hit]:
    """The best moments, best first.

    Every window of the library is compared with the query, one product of matrices for some thousands of them.

    Args:
        library: holds vectors of the classifier's models.
        settings: None takes the defaults.

    Raises:
        UsageError: the example cannot be read, or nothing lies under the folders.
    """
    settings = settings or SearchSettings()
    videos = library.videos
    wanted = _under(videos, settings.under)
    score = _scorer(classifier, query)
    columns = [model.fingerprint for model in classifier.pipeline.models]
    # Room for all is made at once: small arrays between large ones that come and go would keep memory in pieces.
    count = int(videos.counts.sum())
    windows = _Windows(np.zeros(count, np.int64), np.zeros((count, 2)), np.zeros(count))
    if not count:
        return []
    stop = 0
    for block in library.blocks(columns):
        start, stop = stop, stop + len(block.spans)
        windows.video[start:stop] = np.repeat(block.videos, block.counts)
        windows.spans[start:stop] = block.spans
        windows.similarity[start:stop] = score(list(map(to_tensor, block.vectors)))
    moments = _moments(windows, wanted, settings)
    if settings.dedupe:
        moments = _distinct(library, columns[0], windows, moments, settings)
    return [
        Hit(videos.paths[windows.video[one.peak]], one.start, one.end, float(windows.similarity[one.peak]), one.z)
        for one in moments[: settings.top]
    ]


class _Windows(NamedTuple):
    """All that were looked at, n of them, those of a video together and in the order of time.

    Args:
        video: number of its video, [n].
        spans: seconds, [n, 2].
        similarity: to the query, [n].
    """

    video: NDArray[np.int64]
    spans: NDArray[np.float64]
    similarity: NDArray[np.float64]


class _Moment(NamedTuple):
    """Neighbouring windows; `peak` is the number of the best."""

    peak: int
    start: float
    end: float
    z: float


def _under(videos: Videos, folders: Sequence[str]) -> NDArray[np.bool_]:
    """Which videos are one of these files or lie in one of these folders."""
    if not folders:
        return np.ones(len(videos), bool)
    wanted = videos.under(folders)
    if not wanted.any():
        raise UsageError(f"--under {', '.join(folders)}: nothing in the library lies there")
    return wanted


def _scorer(classifier: Classifier, query: Query) -> Callable[[Sequence[Tensor]], NDArray[np.float64]]:
    """From windows as each model sees them, [n, D], to their similarity to a query, [n]."""
    names = list(dict.fromkeys(name for name in (query.words, query.unlike) if name is not None))
    labelled = classifier.prepare(LabelSet.from_names(names)) if names else None
    example = _example(classifier, query.like) if query.like is not None else None

    def score(rows: Sequence[Tensor]) -> NDArray[np.float64]:
        sought: list[Tensor] = [] if example is None else [example(rows)]
        against = torch.zeros(())
        if labelled is not None:
            similarity = dict(zip(names, classifier.score(rows, labelled).T, strict=True))
            sought += [similarity[query.words]] if query.words is not None else []
            against = similarity[query.unlike] if query.unlike is not None else against
        result: NDArray[np.float64] = (torch.stack(sought).mean(dim=0) - against).double().numpy()
        return result

    return score


def _example(classifier: Classifier, like: str | Excerpt) -> Callable[[Sequence[Tensor]], Tensor]:
    """From windows as each model sees them to their similarity to an example, [n], in the units of a classifier."""
    with _as_video(like) as source:
        (views,) = classifier.embed([source])
    if isinstance(views, InputError):
        raise UsageError(f"--like {like if isinstance(like, str) else like.path}: {views.reason}")
    means = [mean_of_windows(member.model, view) for member, view in zip(classifier.members, views, strict=True)]

    def score(rows: Sequence[Tensor]) -> Tensor:
        parts = []
        for member, weight, own, mean in zip(classifier.members, classifier.weights, rows, means, strict=True):
            spread = member.transfer.text_scale if member.bank is None else member.transfer.transfer_scale
            parts.append(weight / spread * (normalise(visual_part(member.model, own), dim=1) @ mean))
        return torch.stack(parts).sum(dim=0)

    return score


@contextmanager
def _as_video(like: str | Excerpt) -> Iterator[str | Excerpt]:
    """A still image as the one frame of a video, which is a folder of images."""
    if not isinstance(like, str) or os.path.isdir(like) or Path(like).suffix.lower() not in IMAGE_SUFFIXES:
        yield like
        return
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(like, folder)
        yield folder


def _moments(windows: _Windows, wanted: NDArray[np.bool_], settings: SearchSettings) -> list[_Moment]:
    """Best first: each the best window that is left, with its neighbours in time that are nearly as good.

    Args:
        wanted: bool [V], whose moments are asked for; z is over the windows of all videos.
    """
    similarity = windows.similarity
    z = (similarity - similarity.mean()) / max(float(similarity.std()), 1e-12)
    # Only the best windows are looked at one by one; each moment takes up some.
    above = (z > 0) | (similarity == similarity.max())  # what is no better than the rest is not found
    candidates = np.flatnonzero(wanted[windows.video] & above)
    count = min(len(candidates), CANDIDATES * settings.top)
    if not count:
        return []
    # Of equal ones, as they are shown, the first in the library come first, however many are asked for.
    shown = np.round(z[candidates], DIGITS)
    least = np.partition(shown, len(shown) - count)[len(shown) - count]
    best, shown = candidates[shown >= least], shown[shown >= least]
    best = best[np.argsort(-shown, kind="stable")]
    taken: set[int] = set()
    found = []
    for peak in best.tolist():
        if peak in taken:
            continue
        around = (_neighbours(windows, z, peak, step, settings) for step in (1, -1))
        numbers = [peak, *(number for side in around for number in takewhile(lambda one: one not in taken, side))]
        taken.update(numbers)
        spans = windows.spans[numbers]
        found.append(_Moment(peak, float(spans[:, 0].min()), float(spans[:, 1].max()), float(z[peak])))
    return found


def _neighbours(
    windows: _Windows, z: NDArray[np.float64], peak: int, step: int, settings: SearchSettings
) -> Iterator[int]:
    """Windows of the same video after or before the peak, as long as they touch and are nearly as good."""
    before, number = peak, peak + step
    while 0 <= number < len(z) and windows.video[number] == windows.video[peak]:
        first, second = sorted((before, number))
        touches = windows.spans[second, 0] <= windows.spans[first, 1] + TOUCHING
        if not touches or z[number] < settings.lasting * z[peak]:
            return
        yield number
        before, number = number, number + step


def _distinct(
    library: Library, column: str, windows: _Windows, moments: Sequence[_Moment], settings: SearchSettings
) -> list[_Moment]:
    """Moments whose best windows look different from those of all better ones."""
    wanted = np.zeros(len(library.videos), bool)
    wanted[windows.video[[one.peak for one in moments]]] = True
    places = {(int(windows.video[one.peak]), *windows.spans[one.peak].tolist()): one for one in moments}
    rows: dict[_Moment, Tensor] = {}
    for block in library.blocks([column], wanted):
        for number, (video, span) in enumerate(zip(np.repeat(block.videos, block.counts), block.spans, strict=True)):
            if (one := places.get((int(video), *span.tolist()))) is not None:
                rows[one] = normalise(to_tensor(block.vectors[0][number : number + 1]), dim=1)[0]
    kept: list[_Moment] = []
    for one in moments:
        if len(kept) == settings.top:
            break
        if all(float(rows[one] @ rows[other]) < settings.alike for other in kept):
            kept.append(one)
    return kept
