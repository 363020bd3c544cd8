"""Annotations of a video in an ELAN document (.eaf), the format of the Max Planck Institute's annotation tool."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from zsar_cli.errors import UsageError
from zsar_cli.plain import read_xml

__all__ = ["Annotation", "Document", "read_elan"]


class Annotation(NamedTuple):
    """The value of an annotation as a label, from `start` to `end` seconds of the video."""

    label: str
    start: float
    end: float


class Document(NamedTuple):
    """The path of the video that a document links, as the document has it, and annotations in the order of tiers."""

    path: str
    annotations: list[Annotation]

    @property
    def video(self) -> str:
        """The name of the video without its suffix."""
        return PurePath(re.split(r"[/\\]", self.path)[-1]).stem


def read_elan(path: Path, tier: str | None = None) -> Document:
    """The video and the annotations of a document.

    Args:
        tier: the name of the only one to take; None takes all.

    Raises:
        UsageError: the file is no such document, links no video, has no such tier, or an annotation has no value or
            no times of its own.
    """
    root = read_xml(path, UsageError)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise UsageError(f"{path}: is no document of ELAN: it begins with <{root.tag}>")
    video, offset = _media(path, root)
    tiers = {str(one.get("TIER_ID")): one for one in root.iterfind("TIER")}
    if tier is not None and tier not in tiers:
        raise UsageError(f"{path}: has no tier {tier!r}; it has {', '.join(map(repr, tiers)) or 'none'}")
    times = {str(slot.get("TIME_SLOT_ID")): slot.get("TIME_VALUE") for slot in root.iterfind("TIME_ORDER/TIME_SLOT")}
    taken = [tier] if tier is not None else list(tiers)
    found = [one for name in taken for one in _annotations(f"{path}: tier {name!r}", tiers[name], times, offset)]
    return Document(video, found)


def _media(path: Path, root: Element) -> tuple[str, float]:
    """The path of the first video, or else of the first file, and which of its milliseconds is 0 in the document."""
    media = root.findall("HEADER/MEDIA_DESCRIPTOR")
    videos = [one for one in media if str(one.get("MIME_TYPE")).startswith("video")]
    if not media:
        raise UsageError(f"{path}: links no media file, so its video is not known")
    master = (videos or media)[0]
    url, origin = master.get("MEDIA_URL") or "", master.get("TIME_ORIGIN") or "0"
    name = unquote(re.sub(r"^file://(/(?=[A-Za-z]:))?", "", url, count=1, flags=re.IGNORECASE))  # /C:/ is C:/
    if not Document(name, []).video or not re.fullmatch(r"-?\d+", origin):
        raise UsageError(f"{path}: its media file {url!r} with TIME_ORIGIN {origin!r} is none")
    return name, float(origin)


def _annotations(place: str, tier: Element, times: Mapping[str, str | None], offset: float) -> Iterator[Annotation]:
    if tier.find("ANNOTATION/REF_ANNOTATION") is not None:
        raise UsageError(f"{place} has no times of its own, but annotates another tier; name one that has by --tier")
    for one in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION"):
        label = (one.findtext("ANNOTATION_VALUE") or "").strip()
        texts = [times.get(str(one.get(f"TIME_SLOT_REF{side}"))) or "" for side in (1, 2)]
        what = f"{place}: the annotation {one.get('ANNOTATION_ID')!r} from {texts[0] or '?'} to {texts[1] or '?'} ms"
        if not all(text.isdecimal() for text in texts) or int(texts[0]) >= int(texts[1]):
            raise UsageError(f"{what} is not aligned: it needs a start and a later end")
        if not label:
            raise UsageError(f"{what} has no value, which would be its label")
        yield Annotation(label, *((int(text) + offset) / 1000 for text in texts))
