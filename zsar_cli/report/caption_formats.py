"""Segments of one video as captions and tracks: WebVTT and SRT for players, labels for Audacity."""

from __future__ import annotations

from collections.abc import Sequence

from zsar_cli.errors import UsageError
from zsar_cli.records import Segment, VideoRecord
from zsar_cli.report.escaping import printable
from zsar_cli.report.writer import Writer, segments_of

__all__ = ["AudacityWriter", "OneVideo", "SrtWriter", "WebVttWriter"]


class OneVideo(Writer):
    """Such a file says nothing of which video it belongs to."""

    @classmethod
    def check_paths(cls, paths: Sequence[str]) -> None:
        """Raises UsageError where there are several."""
        if len(paths) > 1:
            raise UsageError(
                f"this format holds one video, and {len(paths)} were given; name one, give -o a folder that exists "
                "for a file of each, or choose json, jsonl or csv"
            )

    def _record(self, record: VideoRecord) -> bytes:
        return "".join(self._one(number, one) for number, one in enumerate(segments_of(record), start=1)).encode()

    def _one(self, number: int, segment: Segment) -> str:
        raise NotImplementedError


class WebVttWriter(OneVideo):
    """https://www.w3.org/TR/webvtt1: times in milliseconds."""

    def _head(self) -> bytes:
        return b"WEBVTT\n\n"

    def _one(self, number: int, segment: Segment) -> str:
        text = printable(segment.label).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return f"{_clock(segment.start, '.')} --> {_clock(segment.end, '.')}\n{text}\n\n"


class SrtWriter(OneVideo):
    """SubRip: numbered captions, times in milliseconds."""

    def _one(self, number: int, segment: Segment) -> str:
        times = f"{_clock(segment.start, ',')} --> {_clock(segment.end, ',')}"
        return f"{number}\n{times}\n{printable(segment.label)}\n\n"


class AudacityWriter(OneVideo):
    """A line a segment: start, end, label, with tabs between them; times in microseconds."""

    def _one(self, number: int, segment: Segment) -> str:
        return f"{segment.start:.6f}\t{segment.end:.6f}\t{printable(segment.label)}\n"


def _clock(seconds: float, point: str) -> str:
    """For example 01:02:07.500."""
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{thousandths:03}"
