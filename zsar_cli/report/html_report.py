"""Results as one page for a browser, which needs nothing beside it: `html/` has its parts."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from zsar_cli._version import __version__
from zsar_cli.data.timed import read_records
from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.plain import read_json
from zsar_cli.report.output import Output
from zsar_cli.report.thumbnails import pictures_of

__all__ = ["Report", "gather", "read_explanation"]

EXPLANATION = "zsar.explanation/2"
UNKNOWN, NONE = "unknown", -1  # the answer where none of the labels fits, and its number
BASE, EACH = 60_000, 6_000  # bytes of a page, and more of them for each video
_TOP = 5  # predictions of a video
_SEGMENTS = 100  # of a video, the best; the page says how many more there are
_PAIRS = 200
_FRAMES, _OF_A_FRAME = 12, 1_000  # of a video with segments, at most; bytes
_LARGEST = 16_000  # bytes of a picture
_AROUND = 120  # bytes of the page around each picture
_SCRIPTS = ("data.js", "table.js", "detail.js", "corrections.js", "tabs.js", "main.js")


@dataclass
class Report:
    """What a page shows, as plain values.

    Args:
        folder: where the page will be; files are played by their places from there.
        labels: names, to which videos refer by number.
        runs: settings that results were made by, each with the files they came from.
        videos: one mapping for each record, or for all moments of one query in a video.
        explanation: of `zsar explain`.
        pictures: [JPEG in base 64, width, height, times of its frames], to which videos refer by number.
    """

    folder: str
    labels: dict[str, int] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    videos: list[dict[str, Any]] = field(default_factory=list)
    explanation: dict[str, Any] | None = None
    pictures: list[list[Any]] = field(default_factory=list)

    def page(self) -> bytes:
        """The whole file. What others wrote is in one block of JSON, from which a script makes text of it."""
        style, script = _part("report.css"), "\n".join(map(_part, _SCRIPTS))
        parts = {"policy": _policy(style, script), "style": style, "script": script, "data": _embedded(self._data())}
        return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _part("page.html")).encode()

    def add_pictures(self, workers: int, timeout: float, advance: Callable[[bool], None]) -> None:
        """A picture for each video that could be read, as large as the page may grow for it.

        Args:
            workers, timeout: see `pictures_of`.
            advance: called after each file, with whether it failed.
        """
        paths = self.wanted()
        if not paths:
            return
        by_path: dict[str, list[dict[str, Any]]] = {}
        for video in self.videos:
            by_path.setdefault(video["path"], []).append(video)
        room = BASE + EACH * len(self.videos) - len(self.page())
        most = min(_LARGEST, max(_OF_A_FRAME, (room // len(paths) - _AROUND) * 3 // 4))  # base 64 needs a third more
        many = max(2, min(_FRAMES, most // _OF_A_FRAME))
        for frames in (1, many):
            chosen = [path for path, long in paths.items() if long == (frames > 1)]
            for path, picture in pictures_of(chosen, frames, most, workers, timeout) if chosen else ():
                advance(isinstance(picture, InputError))
                if isinstance(picture, InputError):
                    found: dict[str, Any] = {"no_picture": f"{picture.stage}: {picture.reason}"}
                else:
                    found = {"picture": len(self.pictures)}
                    text = base64.b64encode(picture.jpeg).decode()
                    self.pictures.append([text, picture.width, picture.height, picture.times])
                for video in by_path[path]:
                    video.update(found)

    def wanted(self) -> dict[str, bool]:
        """Paths of which there are to be pictures, and whether there are segments in them."""
        paths: dict[str, bool] = {}
        for video in self.videos:
            if "error" not in video:
                paths[video["path"]] = paths.get(video["path"], False) or bool(video.get("segments"))
        return paths

    def _data(self) -> dict[str, Any]:
        return {
            "zsar": __version__, "base": os.getcwd(), "windows": os.name == "nt",
            "labels": list(self.labels), "runs": list(self.runs.values()), "explanation": self.explanation,
            "pictures": self.pictures, "videos": self.videos,
        }  # fmt: skip

    def write(self, target: Path, overwrite: bool) -> None:
        """Write the page, whole or not at all.

        Raises:
            OutputError: it cannot be written, or is there while `overwrite` is false.
        """
        data = self.page()
        output = Output(target, overwrite)
        try:
            output.append(data)
            output.commit()
        except OSError as error:
            output.discard()
            raise OutputError(f"{output.name}: cannot be written: {error.strerror or error}") from None


def gather(sources: Sequence[Path], folder: Path) -> Report:
    """All records of some results.

    Args:
        sources: .json, .jsonl or tables of `zsar classify` and `zsar localize`, .jsonl of `zsar search`.
        folder: where the page will be.

    Raises:
        UsageError: a file holds no such results, or none at all.
    """
    report = Report(os.path.abspath(folder))
    for source in sources:
        searched: dict[tuple[str, int, str], dict[str, Any]] = {}
        for path, record in read_records(source):
            try:
                run = _run(report, source, record)
                if "start" in record:
                    _add_hit(report, searched, path, record, run)
                else:
                    report.videos.append(_video(report, path, record, run))
            except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
                reason = f"{type(error).__name__}: {error}"
                raise UsageError(f"{source}: the record of {path} is none that zsar writes ({reason})") from None
    if not report.videos:
        raise UsageError(f"{', '.join(map(str, sources))}: there is nothing in it to report")
    return report


def _run(report: Report, source: Path, record: Mapping[str, Any]) -> int:
    """The number of the run that a record is of."""
    about = {"run": record.get("run"), "search": record.get("search")}
    run = report.runs.setdefault(
        json.dumps(about, sort_keys=True), {**about, "sources": [], "number": len(report.runs)}
    )
    if str(source) not in run["sources"]:
        run["sources"].append(str(source))
    return int(run["number"])


def _video(report: Report, path: str, record: Mapping[str, Any], run: int) -> dict[str, Any]:
    """What a page shows of one record; keys that say nothing are left out."""
    for one in record.get("predictions") or ():  # all of them can be a right answer
        _label(report, one["label"])
    predictions, segments, facts = record.get("predictions") or [], record.get("segments"), record.get("video") or {}
    best = sorted(segments or [], key=lambda one: -one["similarity"])[:1] or predictions[:1]
    first = best[0]["label"] if best else None
    answer = first if segments else record.get("answer", first)
    none = answer == UNKNOWN != first  # there may be a label of that name
    video = {
        **_named(report, path, run),
        "answer": NONE if none else _label(report, answer),
        **(_judged(record) if segments is None else {}),  # a decision is on the whole video, not on its segments
        "top": [_prediction(report, one) for one in predictions[:_TOP]],
        "duration": _number(facts.get("duration"), 2),
        "size": [facts["width"], facts["height"]] if facts else None,
        "error": record.get("error") and {key: record["error"].get(key) for key in ("stage", "reason", "decoder")},
        "partial": record.get("partial") and _partial(record["partial"]),
        "notes": [str(note) for note in record.get("notes") or ()],
    }
    kept = {key: value for key, value in video.items() if value is not None and value is not False and value != []}
    return {**kept, **_segments([_segment(report, one) for one in segments])} if segments is not None else kept


def _partial(damage: Mapping[str, Any]) -> dict[str, Any]:
    return {"share": _number(damage.get("share")), "reason": damage.get("reason")}


def _judged(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "unsure": _number(record.get("unknown")),
        "doubtful": bool(record.get("doubtful")),
        "reasons": [str(reason) for reason in record.get("reasons") or ()],
    }


def _add_hit(report: Report, searched: dict[Any, dict[str, Any]], path: str, hit: Mapping[str, Any], run: int) -> None:
    """A found moment is a segment of its video, under the words of its query."""
    query = hit.get("query") or hit.get("label") or "found"
    score = hit["similarity"] if hit.get("z") is None else hit["z"]
    segment = _segment(report, {**hit, "label": query, "score": score, "peak": hit["start"]})
    video = searched.get((path, run, query))
    if video is None:
        video = searched[path, run, query] = {**_named(report, path, run), "answer": _label(report, query)}
        report.videos.append(video)
    video.update(_segments([*video.get("segments", ()), segment], video.get("more_segments", 0)))


def _named(report: Report, path: str, run: int) -> dict[str, Any]:
    place = _place(path, report.folder)
    return {"path": path, "run": run, **({"place": place} if place is not None else {})}


def _segments(segments: list[list[Any]], more: int = 0) -> dict[str, Any]:
    """The best of segments, in the order of time, and how many there are beside them."""
    best = sorted(sorted(segments, key=lambda one: -one[4])[:_SEGMENTS])
    left = more + len(segments) - len(best)
    by_time = sorted(best, key=lambda one: one[1:3])
    return {"segments": by_time, **({"more_segments": left} if left else {})}


def _segment(report: Report, one: Mapping[str, Any]) -> list[Any]:
    """[label, start, end, score, similarity, peak]."""
    times = [_number(one[key], 2) for key in ("start", "end")]
    values = [_number(one.get(key)) for key in ("score", "similarity", "peak")]
    if None in times or values[1] is None:
        raise ValueError(f"a segment without times or similarity: {one}")
    return [_label(report, one["label"]), *times, *values]


def _prediction(report: Report, one: Mapping[str, Any]) -> list[Any]:
    """[label, score, similarity, probability]."""
    return [_label(report, one["label"]), *(_number(one.get(key)) for key in ("score", "similarity", "probability"))]


def _label(report: Report, name: Any) -> int | None:
    return None if name is None else report.labels.setdefault(str(name), len(report.labels))


def _number(value: Any, digits: int = 4) -> float | None:
    if value is None:
        return None
    number = float(value)
    return round(number, digits) if math.isfinite(number) else None


def _place(path: str, folder: str) -> str | None:
    """A video as a link from the folder of the page; None where there is no way from there."""
    try:
        place = os.path.relpath(os.path.abspath(path), folder)
        return quote(os.fsencode(place.replace(os.sep, "/")))
    except ValueError:  # another drive, or no name of a file
        return None


def read_explanation(source: Path) -> dict[str, Any]:
    """What composes each label, and which are alike, of `zsar explain --format json`.

    Raises:
        UsageError: the file is no such file.
    """
    document = read_json(source, UsageError)
    try:
        if document["schema"] != EXPLANATION:
            raise UsageError(f"{source}: is {document['schema']!r}, not {EXPLANATION}; zsar explain -f json makes it")
        return {
            "labels": [
                {
                    **{key: str(one[key]) for key in ("label", "kind", "nearest")}, "cosine": _number(one["cosine"], 2),
                    "parts": [[str(part["seen"]), _number(part["weight"], 2)] for part in one["components"][:_TOP]],
                }
                for one in document["labels"]
            ],
            "alike": [
                [str(one["first"]), str(one["second"]), _number(one["cosine"], 3)]
                for one in (document["alike"] or ())[:_PAIRS]
            ],
        }  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{source}: is no explanation that zsar explain -f json makes ({reason})") from None


# --- the page ---


def _part(name: str) -> str:
    return resources.files("zsar_cli.report").joinpath("html").joinpath(name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    """JSON within a script element: ASCII, and nothing in it that could end the element or begin a comment."""
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        raise UsageError("the settings of a run hold a number that is not finite: no result of zsar does") from None
    return text.replace("<", "\\u003c")


def _policy(*parts: str) -> str:
    """What the page may do: its own style and script, pictures within it, and playing files it lies among."""
    style, script = map(_digest, parts)
    rules: Iterable[str] = (
        "default-src 'none'", f"script-src {script}", f"style-src {style}", "img-src data:", "media-src 'self' file:",
        "base-uri 'none'", "form-action 'none'",
    )  # fmt: skip
    return "; ".join(rules)


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
