"""Where files that are made in number go: names that every system takes, and never one for two things."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Hashable
from pathlib import Path

from zsar_cli.errors import OutputError

__all__ = ["Distinct", "Place", "clock", "safe_name"]

_LONGEST = 120  # bytes of a name: file systems take 255, and times, a number and a suffix follow
_NOT_IN_NAMES = re.compile(r'[<>:"/\\|?*]')
_JOINERS = "\u200c\u200d"  # Persian, Hindi and emoji are written with them
# Windows takes these for devices, whatever suffix follows.
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])\s*(\.|$)", re.IGNORECASE)


def safe_name(text: str) -> str:
    """The text as the name of a file or folder on any system, as near to it as can be; letters of all scripts stay."""
    name = _NOT_IN_NAMES.sub("_", unicodedata.normalize("NFC", text))
    name = "".join(_shown(character) for character in name).strip(" .")
    name = name.encode("utf-8")[:_LONGEST].decode("utf-8", "ignore").strip(" .")
    return f"_{name}" if not name or _DEVICES.match(name) else name


def _shown(character: str) -> str:
    if character in _JOINERS:
        return character
    kind = unicodedata.category(character)
    return "_" if kind in ("Cc", "Cf", "Cs") else " " if kind in ("Zl", "Zp") else character


class Distinct:
    """Gives each thing a name that no other one has, by any case of letters: the second "a" is "a_2"."""

    def __init__(self) -> None:
        self._names: dict[Hashable, str] = {}
        self._taken: set[str] = set()

    def __call__(self, thing: Hashable, wanted: str) -> str:
        """The name of a thing; always the same for the same one."""
        if thing not in self._names:
            name, number = wanted, 1
            while _folded(name) in self._taken:
                number += 1
                name = f"{wanted}_{number}"
            self._taken.add(_folded(name))
            self._names[thing] = name
        return self._names[thing]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFD", name).casefold())


def clock(seconds: float, hours: bool) -> str:
    """A time in a file name: minutes, seconds and tenths, such as 00-12.5, with hours 01-00-12.5."""
    minutes, tenths = divmod(round(seconds * 10), 600)
    text = f"{minutes % 60 if hours else minutes:02d}-{tenths // 10:02d}.{tenths % 10}"
    return f"{minutes // 60:02d}-{text}" if hours else text


class Place:
    """A file that is to be, whole or not at all, and never takes the place of another.

        place.check()
        with place as part:
            write(part)
            place.publish(".mp4")

    Args:
        stem: its path without a suffix.
        suffixes: those that it may get.
    """

    def __init__(self, stem: Path, suffixes: tuple[str, ...]) -> None:
        self.stem, self.suffixes = stem, suffixes
        self._part = Path(f"{stem}.part")

    def check(self) -> None:
        """Refuse what would have to replace something.

        Raises:
            OutputError: there is a file of its name already.
        """
        for suffix in self.suffixes:
            if os.path.lexists(f"{self.stem}{suffix}"):
                raise OutputError(f"{self.stem}{suffix} exists and is not replaced; move it, or name another folder")
        if os.path.lexists(self._part):
            reason = "another job is writing it, or was killed and has left it; if so, remove it"
            raise OutputError(f"{self._part} exists: {reason}")

    def __enter__(self) -> str:
        """The path to write to, which is this job's own."""
        try:
            self._part.parent.mkdir(parents=True, exist_ok=True)
            self.check()
            open(self._part, "xb").close()
        except OSError as error:
            raise OutputError(f"{self._part}: cannot be written: {error.strerror or error}") from error
        return str(self._part)

    def publish(self, suffix: str) -> Path:
        """Make the file appear under its name, which is returned.

        Raises:
            OutputError: there is one by now, or it cannot be moved.
        """
        target = Path(f"{self.stem}{suffix}")
        if os.path.lexists(target):
            raise OutputError(f"{target} exists by now and is not replaced")
        try:
            os.rename(self._part, target)
        except OSError as error:
            raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error
        return target

    def __exit__(self, *_: object) -> None:
        """What was not published leaves nothing behind, no empty folder either."""
        with contextlib.suppress(OSError):
            self._part.unlink(missing_ok=True)
            self._part.parent.rmdir()
