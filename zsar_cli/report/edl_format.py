"""Segments of one video as an edit decision list (CMX3600), by OpenTimelineIO: the rough cut an editor starts from."""

from __future__ import annotations

from pathlib import Path

from zsar_cli.errors import MissingExtraError
from zsar_cli.records import Segment, VideoRecord
from zsar_cli.report.caption_formats import OneVideo
from zsar_cli.report.escaping import printable
from zsar_cli.report.writer import segments_of

try:
    from opentimelineio.opentime import RationalTime, TimeRange
    from opentimelineio.schema import Clip, Timeline, Track
    from otio_cmx3600_adapter.cmx_3600 import write_to_string
except ImportError:
    raise MissingExtraError("otio-cmx3600-adapter", "edl", "the format edl") from None

__all__ = ["EdlWriter"]

DROP_FRAME = (30000 / 1001, 60000 / 1001)  # their timecode skips numbers, to keep step with the clock
RATES = (24000 / 1001, 24.0, 25.0, 30.0, 48.0, 50.0, 60.0, *DROP_FRAME)  # frames per second that have timecode
OTHER = 25.0


class EdlWriter(OneVideo):
    """An event a segment, end to end; the source's timecode is 0 at its first frame, and counts frames of a video.

    The rate of the timecode stands in the title, for the format has no place for it.
    """

    def _record(self, record: VideoRecord) -> bytes:
        name = printable(Path(record.path).name)
        rate = _timecode_rate(record.facts.info.frame_rate if record.facts else None)
        head = f"TITLE: {name}, timecode at {rate:.5g} frames per second\n"
        head += f"FCM: {'' if rate in DROP_FRAME else 'NON-'}DROP FRAME\n\n"
        if not (segments := segments_of(record)):
            return head.encode()
        track = Track(children=[_event(segment, name, rate) for segment in segments])
        events: str = write_to_string(Timeline(tracks=[track]), rate=rate)
        return (head + events).encode()


def _timecode_rate(rate: float | None) -> float:
    """The nearest rate to the video's that has timecode; 25 where its own is not known or far from all of them."""
    nearest = min(RATES, key=lambda one: abs(one - (rate or OTHER)))
    return nearest if abs(nearest - (rate or OTHER)) < 0.01 * nearest else OTHER


def _event(segment: Segment, name: str, rate: float) -> Clip:
    first = round(segment.start * rate)
    frames = max(1, round(segment.end * rate) - first)
    notes = [f"COMMENT: {printable(segment.label)}"]
    return Clip(
        name=name,
        source_range=TimeRange(RationalTime(first, rate), RationalTime(frames, rate)),
        metadata={"cmx_3600": {"reel": "AX", "comments": notes}},  # AX: a file, known by its name alone
    )
