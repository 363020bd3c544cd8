"""Found moments: a table for people, JSON Lines for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsar_cli.errors import OutputError, UsageError
from zsar_cli.records import Run
from zsar_cli.report.escaping import json_text, printable
from zsar_cli.report.output import Output
from zsar_cli.report.table_format import bar_mark, time_text

if TYPE_CHECKING:
    from zsar_cli.engine.search import Hit

__all__ = ["HIT_FORMATS", "HIT_SCHEMA", "hit_format", "write_hits"]

HIT_FORMATS = ("table", "jsonl")
HIT_SCHEMA = "zsar.search/1"
_BAR = 20  # characters of the longest bar
_DIGITS = 6


def hit_format(format: str | None, target: Path | None) -> str:
    """The format that was asked for, or that a target's suffix asks for; "table" for standard output.

    Raises:
        UsageError: it is none.
    """
    if format is None:
        format = "table" if target is None else {".txt": "table", ".jsonl": "jsonl"}.get(target.suffix.lower())
    if format not in HIT_FORMATS:
        raise UsageError(f"moments are written as {' or '.join(HIT_FORMATS)}; give --format, or -o FILE.jsonl")
    return format


def write_hits(
    hits: Sequence[Hit], query: Mapping[str, Any], run: Run, format: str, target: Path | None, overwrite: bool
) -> None:
    """Write moments, whole or not at all.

    Args:
        hits: best first.
        query: what was looked for: plain values, `words` and others.
        run: what they depend on.

    Raises:
        OutputError: they cannot be written.
    """
    output = Output(target, overwrite)
    text = _lines(hits, query, run) if format == "jsonl" else _table(hits, bar_mark(output))
    try:
        output.append(text.encode("utf-8" if format == "jsonl" else output.encoding, "backslashreplace"))
        output.commit()
    except OSError as error:
        output.discard()
        raise OutputError(f"{output.name}: cannot be written: {error.strerror or error}") from None


def _lines(hits: Sequence[Hit], query: Mapping[str, Any], run: Run) -> str:
    about = {"query": query["words"] or query["like"], "search": dict(query), "run": run.to_dict()}
    return "".join(f"{json_text({'schema': HIT_SCHEMA, **_values(hit), **about})}\n" for hit in hits)


def _values(hit: Hit) -> dict[str, Any]:
    numbers = {name: round(getattr(hit, name), _DIGITS) for name in ("start", "end", "similarity", "z")}
    return {"path": hit.path, **numbers}


def _table(hits: Sequence[Hit], mark: str) -> str:
    """Rank, z, similarity, time and path under their names; a bar of z on a terminal alone."""
    best = max((hit.z for hit in hits), default=1.0)
    times = [f"{time_text(hit.start)} - {time_text(hit.end)}" for hit in hits]
    width = max(map(len, times), default=0)
    bars = bool(mark) and best > 0
    rows = [f"{'#':>3}  {'z':>5}  similarity{' ' * (_BAR + 2) * bars}  {'when':<{width}}  video\n"] if hits else []
    for rank, (hit, when) in enumerate(zip(hits, times, strict=True), start=1):
        bar = f"  {(mark * round(_BAR * max(hit.z, 0.0) / best)):{_BAR}}" if bars else ""
        score = f"{rank:>3}  {hit.z:>5.2f}  {hit.similarity:>10.2f}{bar}"
        rows.append(f"{score}  {when:>{width}}  {printable(hit.path)}\n")
    return "".join(rows)
