"""What happens when in which video: ground truth from ActivityNet's JSON, tables and ELAN, and results."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zsar_cli.data.elan import read_elan
from zsar_cli.data.tables import SHEETS, read_cells, read_rows
from zsar_cli.errors import UsageError
from zsar_cli.plain import read_json
from zsar_cli.records import UNKNOWN

__all__ = ["Timed", "is_elan", "read_moments", "read_records", "read_results", "read_truth"]

UNNAMED = "found"  # the label of what was searched for without words
_NUMBERS = ("start", "end", "peak", "score", "similarity", "probability", "unknown", "partial_share")  # of a table
_DAMAGE = re.compile(r"only (\d+)% was read: (.*)", re.DOTALL)  # the `error` of a spreadsheet whose video has an answer


class Timed(NamedTuple):
    """A label from `start` to `end` seconds; the score is of a result."""

    label: str
    start: float
    end: float
    score: float = 1.0


Videos = dict[str, tuple[Timed, ...]]  # by id, which is the name of a file without its suffix


def read_truth(path: Path, subset: str | None = None, tier: str | None = None) -> Videos:
    """Ground truth.

    - JSON as ActivityNet writes it: {"database": {id: {"subset", "annotations": [{"label", "segment"}]}}};
    - .csv, .tsv, .xlsx or .parquet with the columns path, label, start and end; a path alone is a video where nothing
      happens;
    - .eaf, an ELAN document of one video, or a folder of such.

    Args:
        subset: only videos of this one, of ActivityNet's; None takes all.
        tier: only this one of ELAN's tiers; None takes all.

    Raises:
        UsageError: the file is no such file or has no annotation, or it has no subsets or tiers.
    """
    table, elan = path.suffix.lower() in SHEETS, is_elan(path)
    if subset is not None and (table or elan):
        raise UsageError(f"{path}: the subset {subset!r} was asked for, and only ActivityNet's JSON has subsets")
    if tier is not None and not elan:
        raise UsageError(f"{path}: the tier {tier!r} was asked for, and only ELAN's .eaf has tiers")
    videos = _from_elan(path, tier) if elan else _from_table(path) if table else _from_database(path, subset)
    if not any(videos.values()):
        raise UsageError(f"{path}: has no annotation" + (f" of the subset {subset!r}" if subset is not None else ""))
    return videos


def is_elan(path: Path) -> bool:
    """Whether it is to be read as an ELAN document or a folder of such."""
    return path.suffix.lower() == ".eaf" or path.is_dir()


def _from_database(path: Path, subset: str | None) -> Videos:
    database = _mapping(read_json(path, UsageError), path).get("database")
    return {
        video: tuple(_timed(path, video, one) for one in _items(path, video, _mapping(entry, path).get("annotations")))
        for video, entry in _mapping(database, path, '"database"').items()
        if subset is None or _mapping(entry, path).get("subset") == subset
    }


def _from_table(path: Path) -> Videos:
    videos: dict[str, list[Timed]] = {}
    paths: dict[str, str] = {}
    for row in read_rows(path, timed=True):
        if (row.span is None) != (not row.label):
            raise UsageError(f"{row.place}: its label is {row.label!r}, its times {row.span}; give both")
        video = Path(row.path).stem
        if (other := paths.setdefault(video, row.path)) != row.path:
            raise UsageError(f"{path}: {other} and {row.path} would both be '{video}'; rename one")
        videos.setdefault(video, []).extend([Timed(row.label, *row.span)] if row.span is not None else [])
    return {video: tuple(found) for video, found in videos.items()}


def _from_elan(path: Path, tier: str | None) -> Videos:
    videos: Videos = {}
    sources: dict[str, Path] = {}
    for file in _documents(path):
        document = read_elan(file, tier)
        if (video := document.video) in videos:
            raise UsageError(f"{sources[video]} and {file} are both of the video '{video}'; leave one out")
        sources[video], videos[video] = file, tuple(Timed(*one) for one in document.annotations)
    return videos


def _documents(path: Path) -> list[Path]:
    return sorted(path.glob("*.eaf")) if path.is_dir() else [path]


def read_results(path: Path) -> Videos:
    """Results of `zsar localize` as .json, .jsonl or one of `SHEETS`, or of anything in ActivityNet's format.

    Raises:
        UsageError: the file is no such file, has results without segments, or two videos of one id.
    """
    records = _records(path)
    if not isinstance(records, Mapping):
        return _by_id(path, records)
    return {
        video: tuple(_timed(path, video, one) for one in _items(path, video, found)) for video, found in records.items()
    }


def read_moments(path: Path) -> list[tuple[str, Timed]]:
    """What was found in which file, in the order of the results.

    Args:
        path: results as .json, .jsonl or one of `SHEETS`: of `zsar localize` the segments; of `zsar classify` the best
            label of each video, from 0 to infinity; or lines of `path`, `start`, `end`, `similarity` and perhaps `z`
            and `query`; or an ELAN document or a folder of such, which have no scores.

    Raises:
        UsageError: the file is no such file.
    """
    if is_elan(path):
        documents = map(read_elan, _documents(path))
        return [(document.path, Timed(*one)) for document in documents for one in document.annotations]
    return [(name, timed) for name, record in read_records(path) for timed in _found(path, name, record)]


def read_records(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Results as they stand: each record with the path of its video, and in JSON with its `run`.

    Raises:
        UsageError: the file is no such file.
    """
    records = _records(path)
    if isinstance(records, Mapping):
        raise UsageError(f"{path}: names no files; give results of zsar")
    return records


def _found(path: Path, name: str, record: Mapping[str, Any]) -> list[Timed]:
    """The moments of one record; none where its video failed, or shows none of the labels."""
    if record.get("segments") is not None:
        return [_timed(path, name, one, "similarity") for one in _items(path, name, record["segments"])]
    if record.get("answer") == UNKNOWN:
        return []
    if record.get("predictions"):
        best = _mapping(_items(path, name, record["predictions"])[0], path, f"a prediction of {name!r}")
        whole = _timed(path, name, {"start": 0, "end": 0, "label": best.get("label"), "score": best.get("similarity")})
        return [whole._replace(end=math.inf)]
    if "start" in record:
        score = record.get("similarity") if record.get("z") is None else record["z"]
        label = record.get("query") or record.get("label") or UNNAMED
        return [_timed(path, name, {**record, "label": label, "score": score})]
    if record.get("error") is None:
        raise UsageError(f"{path}: {name} has neither segments nor predictions nor start and end")
    return []


def _records(path: Path) -> list[tuple[str, Mapping[str, Any]]] | Mapping[str, Any]:
    """Our own records, each with the path of its video; or what another's results have for each id."""
    if (kind := path.suffix.lower()) in SHEETS:
        return _tabled(path)
    if kind not in ("", ".json", ".jsonl"):  # none: a pipe
        known = ", ".join((".json", ".jsonl", *SHEETS))
        raise UsageError(f"{path}: results are read as one of {known}, not {kind}; -o FILE.jsonl writes them")
    if kind == ".jsonl":
        return _whole([_named(path, record) for record in _lines(path)])
    document = _mapping(read_json(path, UsageError), path)
    results = document.get("results")
    if "schema" in document and isinstance(results, list):
        named = [_named(path, record) for record in results]
        return [(name, {"run": document.get("run"), **record}) for name, record in named]
    return _mapping(results, path, '"results"')


def _whole(records: Iterable[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Records of which those of one video that `zsar localize --stream` wrote are one, with all their segments."""
    result: list[tuple[str, Mapping[str, Any]]] = []
    streamed: dict[str, int] = {}  # where the record of a video is
    for name, record in records:
        run = record.get("run")
        settings = run.get("settings") if isinstance(run, Mapping) else None
        place = len(result)
        if isinstance(settings, Mapping) and settings.get("stream"):
            place = streamed.setdefault(name, place)
        if place == len(result):
            result.append((name, record))
        else:
            before = result[place][1].get("segments") or []
            result[place] = name, {**record, "segments": [*before, *(record.get("segments") or [])]}
    return result


def _tabled(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """The records of a table as zsar writes it, with the keys of JSON.

    A row is a video or a segment, which has an `answer`; of the long table, a segment or a prediction, which has a
    `label`, and a prediction a rank.
    """
    records: dict[str, dict[str, Any]] = {}
    for place, cells in read_cells(path, ("path", "label", "start", "end")):
        row = {key: _cell(place, key, value) for key, value in cells.items() if value is not None and value != ""}
        name, _ = _named(path, row)
        record = records.setdefault(name, {"segments": [], "predictions": [], **_about(row)})
        whole = "rank" in row or ("answer" in row and "start" not in row)
        if whole or record["error"] is not None:
            record["segments"] = None
        if whole:
            record["predictions"] += _predictions(row)
        elif "label" in row:
            record["segments"].append(row)
    return list(records.items())


def _cell(place: str, column: str, value: Any) -> Any:
    """In files of text numbers are text."""
    if column not in _NUMBERS:
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{place}: its {column} is {value!r}, which is no number") from None


def _predictions(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of a row of a whole video. Where the answer is `unknown`, which has no similarity, the best label is `second`."""
    second: list[Mapping[str, Any]] = [{"label": row["second"]}] if "second" in row else []
    return second if row.get("answer") == UNKNOWN and "similarity" not in row else [row, *second]


def _about(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says of its video beside labels and times."""
    about = {key: row[key] for key in ("answer", "unknown") if key in row}
    about["doubtful"] = str(row.get("doubtful")).casefold() == "true"
    about |= {key: str(row[key]).split("; ") for key in ("reasons", "notes") if key in row}
    stage, reason = row.get("error_stage"), row.get("error_reason")
    share, cause = row.get("partial_share"), row.get("partial_reason")
    told = str(row.get("error", ""))
    if damage := _DAMAGE.fullmatch(told):
        share, cause = int(damage[1]) / 100, damage[2]
    elif told:
        stage, _, reason = told.partition(" failed: ")
    about["error"] = {"stage": stage, "reason": reason, "decoder": row.get("decoder")} if stage else None
    about["partial"] = {"share": share, "reason": cause} if cause else None
    return about


def _named(path: Path, record: Any) -> tuple[str, Mapping[str, Any]]:
    name = _mapping(record, path, "a result").get("path")
    if not isinstance(name, str) or not name:
        raise UsageError(f"{path}: a result has the path {name!r}, which is no path of a video")
    return name, record


def _lines(path: Path) -> Iterator[Any]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):  # not `splitlines`, which parts lines within texts
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{path}, line {number}: is not readable JSON: {error}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not text in UTF-8: {error}") from None


def _by_id(path: Path, records: Iterable[tuple[str, Mapping[str, Any]]]) -> Videos:
    videos: Videos = {}
    paths: dict[str, str] = {}
    for name, record in records:
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
    except (TypeError, ValueError, KeyError, OverflowError):
        timed = None
    if timed is None or not all(map(math.isfinite, timed[1:])):
        needs = f"a label, a start and an end in seconds and a number as {score}"
        raise UsageError(f"{path}: {video}: {json.dumps(value)} needs {needs}")
    if timed.start > timed.end:
        raise UsageError(f"{path}: {video}: {timed.label!r} ends at {end:g} s, before its start at {start:g} s")
    return timed


def _items(path: Path, video: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{path}: {video}: {value!r} is no list of segments")
    return value


def _mapping(value: Any, path: Path, what: str = "its content") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{path}: {what} is no mapping; zsar results or ActivityNet's JSON are read")
    return value
