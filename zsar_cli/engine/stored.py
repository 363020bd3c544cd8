"""Videos of a library as if they had been read: no file of theirs is opened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.engine.classifier import Classifier, Labelled, Views
from zsar_cli.engine.pipeline import Embedding
from zsar_cli.errors import InputError
from zsar_cli.records import VideoRecord
from zsar_cli.store.ahead import one_ahead
from zsar_cli.store.arrow import Half
from zsar_cli.store.library import Block, Library
from zsar_cli.video.types import VideoFacts

__all__ = ["classify_stored", "stored_videos", "to_tensor"]

AT_ONCE = 2_000_000  # similarities of windows to labels that are computed in one go


def to_tensor(rows: Half) -> Tensor:
    """float16 [N, D] -> float32."""
    return torch.from_numpy(rows.astype(np.float32))


def stored_videos(library: Library, classifier: Classifier) -> Iterator[Views | InputError]:
    """Each video as the classifier's models see it, or why it failed, those of a shard together.

    Args:
        classifier: of models that the library holds vectors of.
    """
    columns = [model.fingerprint for model in classifier.pipeline.models]
    for block in library.blocks(columns):
        yield from _views(block, _about(library, block.videos))
    failed = np.flatnonzero(library.videos.failed)
    for facts in _about(library, failed):
        assert isinstance(facts, InputError)
        yield facts


def classify_stored(
    library: Library, classifier: Classifier, labelled: Labelled, top_k: int | None = None
) -> Iterator[VideoRecord]:
    """Records of all videos, as of `Classifier.classify_each`."""
    most = max(1, AT_ONCE // (len(labelled.labels) + len(classifier.background.labels)))
    together = _together(stored_videos(library, classifier), most)
    # Those of the next videos are made while the caller writes these.
    for records in one_ahead(classifier.records(videos, labelled, top_k) for videos in together):
        yield from records


def _together(videos: Iterable[Views | InputError], most: int) -> Iterator[list[Views | InputError]]:
    """Videos of at most so many windows; a longer one alone."""
    waiting: list[Views | InputError] = []
    count = 0
    for video in videos:
        length = 0 if isinstance(video, InputError) else len(video[0].windows)
        if waiting and count + length > most:
            yield waiting
            waiting, count = [], 0
        waiting.append(video)
        count += length
    if waiting:
        yield waiting


def _about(library: Library, numbers: NDArray[np.int64]) -> list[VideoFacts | InputError]:
    """What is known of videos."""
    videos = library.videos
    return [
        _known(videos.paths[number], videos.ids[number], one)
        for number, one in zip(numbers.tolist(), library.details(numbers), strict=True)
    ]


def _known(path: str, content: str, about: dict[str, Any]) -> VideoFacts | InputError:
    if (error := about["error"]) is not None:
        return InputError(path, error["stage"], error["reason"], error["decoder"])
    return VideoFacts.from_dict({**about["facts"], "path": path, "content": content})


def _views(block: Block, about: Sequence[VideoFacts | InputError]) -> Iterator[Views]:
    counts = block.counts.tolist()
    spans = torch.split(torch.from_numpy(block.spans), counts)
    windows = [torch.split(to_tensor(rows), counts) for rows in block.vectors]
    for number, facts in enumerate(about):
        assert isinstance(facts, VideoFacts)
        yield tuple(Embedding(facts, spans[number], rows[number]) for rows in windows)
