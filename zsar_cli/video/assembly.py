"""From single frames, as a decoder gives them, to windows in order. What no window needs any more is let go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from zsar_cli.video.types import DecodedVideo, VideoFacts, Window, WindowBatch

__all__ = ["Pick", "by_frame", "joined", "together", "windows_of"]

Pick = tuple[int, NDArray[np.uint8]]  # an instant, as an index into [N * T], and the frame uint8 [S, S, 3] for it


def by_frame(chosen: NDArray[np.int64], fetch: Callable[[int], NDArray[np.uint8]]) -> Iterator[Pick]:
    """Every instant with its frame, each frame fetched once, in the order of frames.

    Args:
        chosen: int64 [N, T], which frame stands for which instant.
        fetch: the shaped frame of a number.
    """
    flat = chosen.ravel()
    order = np.argsort(flat, kind="stable")
    last: int | None = None
    for instant in order.tolist():
        if flat[instant] != last:
            last = int(flat[instant])
            image = fetch(last)
        yield instant, image


def windows_of(
    picks: Iterable[Pick], spans: NDArray[np.float64], frames: int, first: int = 0
) -> Iterator[WindowBatch]:
    """Windows from `first` on, each as soon as it and all before it are complete; ends early where picks do.

    Args:
        picks: of the instants of these windows, each once, in an order that goes forward in the video.
        spans: float64 [N, 2], seconds.
        frames: T.
        first: windows before this one are there already.
    """
    waiting: dict[int, dict[int, NDArray[np.uint8]]] = {}
    for instant, image in picks:
        window, place = divmod(instant, frames)
        waiting.setdefault(window, {})[place] = image
        while len(waiting.get(first, ())) == frames:
            parts = waiting.pop(first)
            images, shown = _distinct([parts[place] for place in range(frames)])
            yield WindowBatch((Window(*map(float, spans[first])),), images, shown[None])
            first += 1


def together(batches: Sequence[WindowBatch]) -> WindowBatch:
    """Windows of several batches, one or more, in one; frames that they share are there once."""
    images, places = _distinct([image for batch in batches for image in batch.frames])
    before = np.cumsum([0, *(len(batch.frames) for batch in batches)])
    shown = [places[batch.shown + start] for batch, start in zip(batches, before.tolist(), strict=False)]
    windows = tuple(window for batch in batches for window in batch.windows)
    return WindowBatch(windows, images, np.concatenate(shown))


def joined(facts: VideoFacts, batches: Sequence[WindowBatch]) -> DecodedVideo:
    """All windows of a video in one value."""
    whole = together(batches)
    return DecodedVideo(facts, whole.windows, whole.pixels)


def _distinct(images: Sequence[NDArray[np.uint8]]) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64]]:
    """Each picture once, known by its place in memory, and for each of `images` which of them it is."""
    known: dict[int, int] = {}
    places = [known.setdefault(id(image), len(known)) for image in images]
    firsts = np.unique(places, return_index=True)[1]
    return [images[first] for first in firsts.tolist()], np.array(places, dtype=np.int64)
