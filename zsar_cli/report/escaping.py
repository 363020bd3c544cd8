"""Text from elsewhere, made safe to show: names and messages may hold what moves a cursor or turns text."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

__all__ = ["json_text", "printable"]

# Controls (ESC, CR, C1), formats (marks that turn the direction of text), surrogates, line and paragraph separators.
_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # of category Cf, but Persian, Hindi and emoji are written with them
# What JSON lets stand as it is, but a terminal obeys or no encoding has: DEL, C1, marks of direction, surrogates.
_NOT_IN_JSON = re.compile(r"[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def json_text(value: Any, indent: int | None = None) -> str:
    """JSON in which such characters are JSON's own escapes, so that a reader gets the exact text.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    return _NOT_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def printable(text: str) -> str:
    """The text, each character that could change how others are shown as an escape (`\\x1b`, `\\u202e`)."""
    if text.isprintable():
        return text
    return "".join(character if _is_shown(character) else _escape(character) for character in text)


def _is_shown(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _ESCAPED


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
