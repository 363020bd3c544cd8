"""What happens when in which video: ground truth and results, from ActivityNet's JSON and from our own."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zsar_cli.errors import UsageError
from zsar_cli.plain import read_json

__all__ = ["Timed", "read_results", "read_truth"]


class Timed(NamedTuple):
    """A label from `start` to `end` seconds; the score is of a result."""

    label: str
    start: float
    end: float
    score: float = 1.0


Videos = dict[str, tuple[Timed, ...]]  # by id, which is the name of a file without its suffix


def read_truth(path: Path, subset: str | None = None) -> Videos:
    """Ground truth as ActivityNet writes it: {"database": {id: {"subset", "annotations": [{"label", "segment"}]}}}.

    Args:
        subset: only videos of this one; None takes all.

    Raises:
        UsageError: the file is no such file, or has no video of the subset.
    """
    database = _mapping(read_json(path, UsageError), path).get("database")
    videos = {
        video: tuple(_timed(path, video, one) for one in _items(path, video, _mapping(entry, path).get("annotations")))
        for video, entry in _mapping(database, path, '"database"').items()
        if subset is None or _mapping(entry, path).get("subset") == subset
    }
    if not any(videos.values()):
        raise UsageError(f"{path}: has no annotation" + (f" of the subset {subset!r}" if subset is not None else ""))
    return videos


def read_results(path: Path) -> Videos:
    """Results of `zsar localize` as .json or .jsonl, or of anything in ActivityNet's format.

    Raises:
        UsageError: the file is no such file, has results without segments, or two videos of one id.
    """
    if path.suffix.lower() == ".jsonl":
        return _own(path, _lines(path))
    document = _mapping(read_json(path, UsageError), path)
    results = document.get("results")
    if "schema" in document and isinstance(results, list):
        return _own(path, results)
    return {
        video: tuple(_timed(path, video, one) for one in _items(path, video, found))
        for video, found in _mapping(results, path, '"results"').items()
    }


def _lines(path: Path) -> Iterator[Any]:
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{path}, line {number}: is not readable JSON: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not text in UTF-8: {error}") from None


def _own(path: Path, records: Iterable[Any]) -> Videos:
    videos: Videos = {}
    paths: dict[str, str] = {}
    for record in records:
        name = str(_mapping(record, path).get("path"))
        video, segments = Path(name).stem, record.get("segments")
        if segments is None and record.get("error") is None:
            raise UsageError(f"{path}: {name} has no segments; zsar localize finds them")
        if video in paths:
            raise UsageError(f"{path}: {paths[video]} and {name} would both be '{video}'; rename one")
        paths[video] = name
        videos[video] = tuple(_timed(path, video, one, "similarity") for one in segments or ())
    return videos


def _timed(path: Path, video: str, value: Any, score: str = "score") -> Timed:
    one = _mapping(value, path, f"an entry of {video!r}")
    borders = one.get("segment", [one.get("start"), one.get("end")])
    try:
        start, end = (float(border) for border in borders)
        timed = Timed(str(one["label"]), start, end, float(one.get(score, 1.0)))
    except (TypeError, ValueError, KeyError):
        timed = None
    if timed is None or not all(map(math.isfinite, timed[1:])) or timed.start > timed.end:
        raise UsageError(f"{path}: {video}: {value} has no label and no start and end in seconds")
    return timed


def _items(path: Path, video: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{path}: {video}: {value!r} is no list of segments")
    return value


def _mapping(value: Any, path: Path, what: str = "its content") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: {what} is no mapping; zsar results or ActivityNet's JSON are read")
    return value
