"""Files in, records with segments out: when each label happens in each video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat

import torch

from zsar_cli.engine.classifier import Classifier, Labelled, Views
from zsar_cli.engine.shots import Cuts
from zsar_cli.errors import InputError
from zsar_cli.records import VideoRecord
from zsar_cli.transfer.scenes import scene_borders
from zsar_cli.transfer.segments import SegmentSettings, cells, find_segments
from zsar_cli.transfer.shots import at_cuts
from zsar_cli.transfer.stream import SegmentStream
from zsar_cli.video.types import VideoFacts

__all__ = ["FEWEST", "localize_each", "localize_stream"]

FEWEST = 5  # windows; the background of a label is not known from fewer


def localize_each(
    classifier: Classifier,
    videos: Iterable[Views | InputError],
    labelled: Labelled,
    how: SegmentSettings,
    cuts: Iterable[Cuts] = (),
) -> Iterator[VideoRecord]:
    """Records of embedded videos as of `Classifier.classify_each`, with segments.

    A video of fewer than `FEWEST` windows has none, and a note.

    Args:
        cuts: with `how.shots`, of each video.

    Raises:
        UsageError: the models of an ensemble divide a video into different windows.
    """
    for video, shots in zip(videos, cuts if how.shots else repeat(None), strict=how.shots):
        (record,) = classifier.records([video], labelled)
        if isinstance(video, InputError) or record.error is not None:
            yield record
        else:
            yield _localized(classifier, video, labelled, how, record, shots)


def localize_stream(
    classifier: Classifier, inputs: Iterable[str | InputError], labelled: Labelled, how: SegmentSettings
) -> Iterator[VideoRecord]:
    """Records of videos, one after the other, with segments as they close (see `transfer.stream`).

    The last record of a video has what is known of the file, or why it could not be read to its end; those before it
    have segments alone (`VideoRecord.goes_on`). None has predictions: these are of whole videos.

    Raises:
        UsageError: see `Pipeline.stream`.
    """
    for item in inputs:
        if isinstance(item, InputError):
            yield VideoRecord.failed(item)
            continue
        try:
            yield from _streamed(classifier, item, labelled, how)
        except InputError as error:
            yield VideoRecord.failed(error)


def _streamed(classifier: Classifier, path: str, labelled: Labelled, how: SegmentSettings) -> Iterator[VideoRecord]:
    stream, facts = SegmentStream(labelled.labels.names, how), None
    for part in classifier.pipeline.stream(path):
        if isinstance(part, VideoFacts):
            facts = part
            continue
        spans, vectors = part
        similarity = classifier.score([vectors], labelled).double()
        if not torch.isfinite(similarity).all():
            raise InputError(path, "model", "its similarities are not finite numbers")
        rows = zip(vectors.double().numpy(), similarity.cpu().numpy(), spans.tolist(), strict=True)
        found = [one for vector, row, (start, end) in rows for one in stream.add(vector, row, start, end)]
        if found:
            yield VideoRecord(path, segments=tuple(sorted(found, key=lambda one: (one.start, one.end))))
    if facts is not None:  # None where the classifier was closed meanwhile
        enough = stream.count >= FEWEST
        record = VideoRecord(path, facts=facts, windows=stream.count, segments=stream.end() if enough else ())
        yield record if enough else _too_few(record, facts)


def _localized(
    classifier: Classifier, video: Views, labelled: Labelled, how: SegmentSettings, record: VideoRecord,
    cuts: Cuts | None,
) -> VideoRecord:
    count = len(video[0].windows)
    if count < FEWEST:
        return _too_few(replace(record, segments=()), classifier.facts(video))
    similarity = classifier.window_similarity(video, labelled).double().cpu().numpy()
    scenes = scene_borders([part.windows.numpy() for part in video], how.change)
    spans = video[0].spans.numpy()
    borders = cells(spans)
    if isinstance(cuts, InputError):
        record = _noted(record, classifier.facts(video), f"its cuts are not known: {cuts.reason}")
    elif cuts is not None:
        scenes, borders = at_cuts(scenes, borders, cuts, near=float(spans[0, 1] - spans[0, 0]) / 2)
    found = find_segments(similarity, borders, scenes, labelled.labels.names, how)
    return replace(record, segments=found)


def _too_few(record: VideoRecord, facts: VideoFacts) -> VideoRecord:
    count = record.windows
    few = f"{count} window{'s' * (count != 1)}, too few to compare with each other"
    needed = f"{FEWEST} are needed, of a shorter --window and --stride (a library has those that it was made with)"
    return _noted(record, facts, f"{few}: {needed}")


def _noted(record: VideoRecord, facts: VideoFacts, note: str) -> VideoRecord:
    return replace(record, facts=replace(facts, notes=(*facts.notes, note)))
