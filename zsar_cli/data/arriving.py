"""Videos that arrive in folders while they are watched, by watchfiles."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zsar_cli.data.inputs import find_inputs, is_video
from zsar_cli.errors import MissingExtraError

try:
    from watchfiles import Change, watch
except ImportError:
    raise MissingExtraError("watchfiles", "watch", "--watch") from None

__all__ = ["arriving_videos"]

SETTLED = 2.0  # seconds for which a file must not change: it may be written slowly
STEP = 500  # milliseconds between looks at files that are being written


def arriving_videos(folders: Sequence[str], known: Iterable[str] = (), settled: float = SETTLED) -> Iterator[str]:
    """Each video that appears or changes in the folders, at any depth, once it has come to rest; never ends.

    Args:
        folders: each path is given as it lies below the folder's name.
        known: paths that have been found before; what came since then has arrived as well.
        settled: seconds for which it must not change.
    """
    before_watching = {os.path.abspath(path) for path in known}
    looked = False
    waiting: dict[str, tuple[tuple[int, int], float]] = {}
    for changes in watch(*folders, watch_filter=None, yield_on_timeout=True, rust_timeout=STEP, raise_interrupt=True):
        if not looked:  # from now on changes are told
            looked = True
            here = (os.path.abspath(path) for path in find_inputs(folders) if isinstance(path, str) and is_video(path))
            waiting.update((path, ((-1, -1), 0.0)) for path in here if path not in before_watching)
        for change, path in sorted(changes):
            if change == Change.deleted:
                waiting.pop(path, None)
            elif not _hidden(path, folders) and is_video(path):
                waiting.setdefault(path, ((-1, -1), 0.0))
        for path, (before, since) in list(waiting.items()):
            try:
                found = os.stat(path)
            except OSError:  # it was moved away before it was looked at
                del waiting[path]
                continue
            now = (found.st_size, found.st_mtime_ns)
            if now != before:
                waiting[path] = now, time.monotonic()
            elif time.monotonic() - since >= settled:
                del waiting[path]
                yield _as_given(path, folders)


def _hidden(path: str, folders: Sequence[str]) -> bool:
    """As everywhere, names that begin with a point, below the folder."""
    return any(part.startswith(".") for part in Path(_as_given(path, folders)).parts if part not in (".", ".."))


def _as_given(path: str, folders: Sequence[str]) -> str:
    """The path below the name of a folder as the user gave it."""
    for folder in folders:
        for root in (os.path.abspath(folder), os.path.realpath(folder)):
            if path.startswith(root + os.sep):
                return os.path.join(folder, os.path.relpath(path, root))
    return path
