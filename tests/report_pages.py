"""Results written by hand, the page made of them, and what is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from zsar_cli.report.html_report import gather

RUN = {
    "zsar": "1.0.0",
    "model": {"name": "tiny", "fingerprint": "abc"},
    "labels": {"digest": "sha256:0", "count": 3},
    "settings": {"transfer": "blend", "temperature": 0.1},
    "versions": {"torch": "2.13.0"},
    "notes": [],
}


def record(path: object, *scores: tuple[str, float], **more: Any) -> dict[str, Any]:
    """As `zsar classify` writes it; `scores` are labels with their shares, best first."""
    predictions = [{"label": name, "score": score, "similarity": 10 * score} for name, score in scores]
    video = {"width": 160, "height": 128, "duration": 2.12, "frame_rate": 25.0, "codec": "h264", "container": "mp4"}
    empty = {"segments": None, "error": None, "partial": None, "notes": [], "video": video}
    return {"schema": "zsar.result/2", "path": str(path), "predictions": predictions, **empty, "run": RUN, **more}


def segment(label: str, start: float, end: float, score: float = 2.0) -> dict[str, Any]:
    """As `zsar localize` writes it."""
    times = {"start": start, "end": end, "peak": (start + end) / 2}
    return {"label": label, **times, "score": score, "similarity": score}


def failed(path: object, reason: str = "the file is empty (0 bytes)") -> dict[str, Any]:
    """The record of a video that could not be used."""
    return record(path, error={"stage": "open", "reason": reason, "decoder": "pyav"}, video=None)


def results(file: Path, *records: dict[str, Any]) -> Path:
    """JSON Lines."""
    file.write_text("".join(f"{json.dumps(one)}\n" for one in records), encoding="utf-8")
    return file


def page_of(tmp_path: Path, *records: dict[str, Any], explanation: dict[str, Any] | None = None) -> Path:
    """A page without pictures."""
    made = gather([results(tmp_path / "results.jsonl", *records)], tmp_path)
    made.explanation = explanation
    made.write(tmp_path / "report.html", overwrite=True)
    return tmp_path / "report.html"


def data_of(page: Path) -> dict[str, Any]:
    """What the page was given to show."""
    block = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert block is not None
    data: dict[str, Any] = json.loads(block[1])
    return data
