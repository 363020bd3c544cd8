"""Examples in the place of words: LABEL=PATH@START-END, a video of the user's own or a part of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from zsar_cli.errors import LabelError, UsageError
from zsar_cli.labels import Label
from zsar_cli.video.types import Excerpt, Window

__all__ = ["Example", "parse_example", "parse_source"]

_TIME = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", re.ASCII)


@dataclass(frozen=True)
class Example:
    """A video, or a part of one, that shows what a label means.

    Args:
        label: whose.
        source: the path, or the part of a file.
        given: as the user wrote it, for messages.
    """

    label: Label
    source: str | Excerpt
    given: str

    @property
    def path(self) -> str:
        """Of the file."""
        return self.source if isinstance(self.source, str) else self.source.path


def parse_example(text: str) -> Example:
    """LABEL=PATH or LABEL=PATH@START-END; the label ends at the first '='.

    Raises:
        UsageError: there is no '=', the label is none, or as `parse_source`.
    """
    name, equals, source = text.partition("=")
    if not equals:
        raise UsageError(f"{text}: write LABEL=PATH or LABEL=PATH@START-END, such as 'high five=a.mp4@12-15'")
    try:
        return Example(Label(name), parse_source(source), text)
    except LabelError as error:
        raise UsageError(f"{text}: {error}") from None


def parse_source(text: str) -> str | Excerpt:
    """PATH or PATH@START-END, times in seconds, m:ss or h:mm:ss. What exists under the whole name is that.

    Raises:
        UsageError: there is no such file or folder, or the times are none or have no length.
    """
    if os.path.exists(text):
        return text
    path, _, part = text.rpartition("@")
    if not os.path.exists(path):
        raise UsageError(f"{text}: no such file or folder")
    try:
        start, end = map(_seconds, part.split("-"))
        return Excerpt(path, Window(start, end))
    except ValueError:
        raise UsageError(
            f"{text}: '{part}' is no part of a video; write its start and a later end, such as 12-15.5 or 1:02-1:10"
        ) from None


def _seconds(text: str) -> float:
    """Raises ValueError for what is no time."""
    if (found := _TIME.fullmatch(text)) is None:
        raise ValueError(text)
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    if (found[2] and seconds >= 60) or (found[1] and minutes >= 60):
        raise ValueError(text)
    return 3600 * hours + 60 * minutes + seconds
