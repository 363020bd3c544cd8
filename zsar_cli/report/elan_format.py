"""Segments of one video as an ELAN document (.eaf), by pympi: to look through and correct, a tier for each label."""

from __future__ import annotations

from pathlib import Path

from zsar_cli.errors import MissingExtraError
from zsar_cli.records import VideoRecord
from zsar_cli.report.caption_formats import OneVideo
from zsar_cli.report.escaping import printable
from zsar_cli.report.writer import segments_of

try:
    from pympi.Elan import Eaf, to_string
except ImportError:
    raise MissingExtraError("pympi-ling", "elan", "the format elan") from None

__all__ = ["ElanWriter"]

# What ELAN knows by name; it tries its players on all others.
MEDIA = {".mp4": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg", ".mpeg": "video/mpeg"}
NO_DATE = "1970-01-01T00:00:00+00:00"  # must be there, and the same results are the same bytes


class ElanWriter(OneVideo):
    """Times in milliseconds. Annotations of a tier cannot overlap, so each label has its own; values are labels too."""

    def _record(self, record: VideoRecord) -> bytes:
        document = Eaf(author=f"zsar {self.run.zsar}")
        document.adocument["DATE"] = NO_DATE
        document.remove_tier("default")
        path = Path(record.path).absolute()
        document.add_linked_file(f"file://{_slashed(path)}", mimetype=MEDIA.get(path.suffix.lower(), "unknown"))
        for segment in segments_of(record):
            label = printable(segment.label)
            if label not in document.tiers:
                document.add_tier(label)
            start, end = round(segment.start * 1000), round(segment.end * 1000)
            document.add_annotation(label, start, max(end, start + 1), label)
        text: str = to_string(document)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _slashed(path: Path) -> str:
    """The path as ELAN writes it behind file://: /a b.mp4, or /C:/a b.mp4; nothing is escaped but what would be one."""
    text = printable(path.as_posix()).replace("%", "%25")
    return text if text.startswith("/") else f"/{text}"
