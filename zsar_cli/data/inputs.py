"""Which inputs did the user name: files, folders, patterns and lists in; one path per video out.

An input is a video file, an animated image (GIF, WebP), or a *folder of frames*: a folder that holds images
and nothing else, neither videos nor folders. Hidden entries (".name") are passed over everywhere.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES, natural_order

__all__ = ["find_inputs", "is_video"]

_DESKTOP_FILES = frozenset({"thumbs.db", "desktop.ini"})  # hidden on Windows, by an attribute


def find_inputs(arguments: Sequence[str], stdin: TextIO | None = None) -> list[str | InputError]:
    """The inputs behind what the user typed, in that order, each once.

    - a file is taken whatever its suffix;
    - a folder is searched to its depths in natural order ("clip2" before "clip10"): videos by suffix,
      animated images and folders of frames; a linked folder is entered once, so loops end;
    - a pattern (`*`, `?`, `[...]`, `**` for any number of folders) that is not itself the name of something:
      folders it matches are searched, files it matches are taken if they are videos, or whatever they are if
      the pattern spells the suffix out (`*.dat`);
    - `-` reads paths from `stdin`, `@list.txt` from a file: one per line, or separated by NUL as by
      `find -print0`; each is a file or folder, relative to the working directory.

    What exists under a typed name wins over its meaning as a list or pattern, save for `-` (write `./-`).

    Args:
        arguments: as typed.
        stdin: what `-` reads.

    Returns:
        Paths, each as the user would write it: the typed path joined with what was found below it. In the
        place of something missing, unreadable or empty an `InputError` of stage "find", so that a job can
        name it and go on.

    Raises:
        UsageError: a list is missing, empty or not UTF-8.
    """
    inputs: dict[str, str | InputError] = {}
    for argument in dict.fromkeys(arguments):
        for found in _expand(argument, stdin):
            path = found.path if isinstance(found, InputError) else found
            inputs.setdefault(os.path.normcase(os.path.abspath(path)) if path else "", found)
    return list(inputs.values())


def _expand(argument: str, stdin: TextIO | None) -> Iterator[str | InputError]:
    if argument == "-":
        for name in _names_from_stdin(stdin):
            yield from _named(name)
    elif os.path.lexists(argument):
        yield from _named(argument)
    elif argument.startswith("@"):
        for name in _names_from_file(argument[1:]):
            yield from _named(name)
    elif glob.has_magic(argument):
        yield from _matching(argument)
    else:
        yield from _named(argument)


def _names_from_stdin(stdin: TextIO | None) -> list[str]:
    if stdin is None:
        raise UsageError("'-' reads paths from standard input, and there is none here")
    try:
        return _split(stdin.read(), "standard input")
    except UnicodeDecodeError as error:
        raise UsageError(f"the paths on standard input are not {error.encoding} text: {error.reason}") from error


def _names_from_file(path: str) -> list[str]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"the list of paths '{path}' is not UTF-8 text: save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"the list of paths '{path}' cannot be read: {_reason(error)}") from error
    return _split(text, f"the list of paths '{path}'")


def _split(text: str, origin: str) -> list[str]:
    separated = text.split("\0") if "\0" in text else [line.removesuffix("\r") for line in text.split("\n")]
    names = [name for name in separated if name.strip()]
    if not names:
        raise UsageError(f"{origin} is empty: one path per line is needed")
    return names


def _named(path: str) -> Iterator[str | InputError]:
    """What a file or folder that the user named holds."""
    if os.path.isdir(path):
        yield from list(_search(path, set())) or [InputError(path, "find", _nothing_in_folder())]
    else:
        yield _checked(path)


def _matching(pattern: str) -> Iterator[str | InputError]:
    """What the matches of a pattern hold."""
    suffix = os.path.splitext(pattern)[1]
    any_file = bool(suffix) and not glob.has_magic(suffix)
    entered: set[str] = set()
    matches, found = 0, False
    for match in _matches(*_parts(pattern)):
        matches += 1
        if isinstance(match, InputError):
            results: Iterator[str | InputError] = iter([match])
        elif os.path.isdir(match):
            results = _search(match, entered)
        else:
            results = iter([_checked(match)] if any_file or is_video(match) else [])
        for result in results:
            found = True
            yield result
    if not found:
        reason = f"no videos among the {matches} matches of this pattern" if matches else "nothing matches this pattern"
        yield InputError(pattern, "find", reason)


def _parts(pattern: str) -> tuple[str, list[str]]:
    """The fixed start ("", "/" or a drive) and the parts between separators, a final `**` as `**/*`."""
    drive, rest = os.path.splitdrive(pattern)
    separators = os.sep + (os.altsep or "")
    start = drive + rest[: len(rest) - len(rest.lstrip(separators))]
    parts = [part for part in re.split(f"[{re.escape(separators)}]", rest) if part]
    return start, [*parts, "*"] if parts[-1:] == ["**"] else parts


def _matches(base: str, parts: list[str]) -> Iterator[str | InputError]:
    """The paths below `base` that match.

    Not `glob.glob`: its `**` follows links round a loop, and it is silent about folders it may not read.
    """
    if not parts:
        if os.path.lexists(base):
            yield base
        return
    head, rest = parts[0], parts[1:]
    if not glob.has_magic(head) or os.path.lexists(os.path.join(base, head)):
        yield from _matches(os.path.join(base, head), rest)
        return
    if head == "**":
        yield from _matches(base, rest)
    try:
        names = _entries(base or os.curdir, hidden=head.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield InputError(base, "find", _reason(error))
        return
    for name in names:
        path = os.path.join(base, name)
        if head == "**":
            if os.path.isdir(path) and not os.path.islink(path):
                yield from _matches(path, parts)
        elif fnmatch.fnmatch(name, head):
            yield from _matches(path, rest)


def _search(folder: str, entered: set[str]) -> Iterator[str | InputError]:
    """The inputs in a folder and the folders below it; `entered` holds the real paths of those already seen."""
    real = os.path.realpath(folder)
    if real in entered:
        return
    entered.add(real)
    try:
        paths = [os.path.join(folder, name) for name in _entries(folder)]
    except OSError as error:
        yield InputError(folder, "find", _reason(error))
        return
    if paths and all(_is_image(path) and os.path.isfile(path) for path in paths):
        yield folder
        return
    for path in paths:
        if os.path.isdir(path):
            yield from _search(path, entered)
        elif is_video(path):
            yield _checked(path)


def _entries(folder: str, hidden: bool = False) -> list[str]:
    """The names in a folder in natural order."""
    names = (
        name
        for name in os.listdir(folder)
        if (hidden or not name.startswith(".")) and name.lower() not in _DESKTOP_FILES
    )
    return sorted(names, key=natural_order)


def _checked(path: str) -> str | InputError:
    """The path if a regular file is there."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        if "://" in path:
            return InputError(path, "find", "a web address is not a file: download it first")
        if os.path.islink(path):
            return InputError(path, "find", f"a link to '{os.readlink(path)}': {_reason(error)}")
        return InputError(path, "find", _reason(error))
    if stat.S_ISREG(mode):
        return path
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return InputError(path, "find", f"not a regular file ({kinds.get(stat.S_IFMT(mode), 'of an unknown kind')})")


def is_video(path: str) -> bool:
    """By suffix, and for ".webp", which can be either, by its header."""
    suffix = _suffix(path)
    return suffix in VIDEO_SUFFIXES or (suffix == ".webp" and _is_animated_webp(path))


def _is_image(path: str) -> bool:
    return _suffix(path) in IMAGE_SUFFIXES and not is_video(path)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _is_animated_webp(path: str) -> bool:
    """Bit 1 of the flags of an extended header says "animated" (WebP Container Specification, "VP8X")."""
    if not os.path.isfile(path):  # opening a FIFO would wait for ever
        return True  # taken, so that it is reported
    try:
        with open(path, "rb") as file:
            header = file.read(21)
    except OSError:
        return True
    return header[12:16] == b"VP8X" and len(header) == 21 and bool(header[20] & 0x02)


def _nothing_in_folder() -> str:
    suffixes = ", ".join(sorted(VIDEO_SUFFIXES | {".webp"}))
    return f"no videos in this folder (looked for {suffixes}, and for folders of images only)"


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return "no such file or folder"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
