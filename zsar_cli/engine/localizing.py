"""Files in, records with segments out: when each label happens in each video."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from zsar_cli.engine.classifier import Classifier, Labelled, Views
from zsar_cli.errors import InputError
from zsar_cli.records import VideoRecord
from zsar_cli.transfer.scenes import scene_borders
from zsar_cli.transfer.segments import SegmentSettings, find_segments

__all__ = ["FEWEST", "localize_each"]

FEWEST = 5  # windows; the background of a label is not known from fewer


def localize_each(
    classifier: Classifier, videos: Iterable[Views | InputError], labelled: Labelled, how: SegmentSettings
) -> Iterator[VideoRecord]:
    """Records of embedded videos as of `Classifier.classify_each`, with segments.

    A video of fewer than `FEWEST` windows has none, and a note.

    Raises:
        UsageError: the models of an ensemble divide a video into different windows.
    """
    for video in videos:
        (record,) = classifier.records([video], labelled)
        if isinstance(video, InputError) or record.error is not None:
            yield record
        else:
            yield _localized(classifier, video, labelled, how, record)


def _localized(
    classifier: Classifier, video: Views, labelled: Labelled, how: SegmentSettings, record: VideoRecord
) -> VideoRecord:
    count = len(video[0].windows)
    if count < FEWEST:
        note = f"{count} window{'s' * (count != 1)}, too few to compare with each other; give a shorter --stride"
        facts = classifier.facts(video)
        facts = replace(facts, notes=(*facts.notes, note))
        return replace(record, facts=facts, segments=())
    similarity = classifier.window_similarity(video, labelled).double().cpu().numpy()
    scenes = scene_borders([part.windows.numpy() for part in video], how.change)
    found = find_segments(similarity, video[0].spans.numpy(), scenes, labelled.labels.names, how)
    return replace(record, segments=found)
