"""Segments for other tools: results for ActivityNet's evaluation, tasks for Label Studio, detections for FiftyOne."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zsar_cli.errors import UsageError
from zsar_cli.records import VideoRecord
from zsar_cli.report.escaping import json_text
from zsar_cli.report.writer import Writer, segments_of

__all__ = ["ActivityNetWriter", "FiftyOneWriter", "LabelStudioWriter"]


class _ById(Writer):
    """One JSON mapping, of which the last entry maps the ids of videos to what was found in them."""

    def _record(self, record: VideoRecord) -> bytes:
        separator = ",\n" if self.summary.total else "\n"
        return f"{separator}{json_text(self._id(record.path))}: {json_text(self._found(record))}".encode()

    def _tail(self, complete: bool) -> bytes:
        return b"\n}\n}\n"

    def _id(self, path: str) -> str:
        raise NotImplementedError

    def _found(self, record: VideoRecord) -> list[dict[str, Any]] | None:
        raise NotImplementedError


class ActivityNetWriter(_ById):
    """What ActivityNet's evaluation reads; a video's id is its file name without the suffix.

    The score is the similarity, because that evaluation ranks the segments of all videos together.
    """

    @classmethod
    def check_paths(cls, paths: Sequence[str]) -> None:
        """Raises UsageError where two videos would have one id."""
        seen: dict[str, str] = {}
        for path in paths:
            if (other := seen.setdefault(Path(path).stem, path)) != path:
                raise UsageError(
                    f"{other} and {path} would both be '{Path(path).stem}' in ActivityNet's format; rename one"
                )

    def _head(self) -> bytes:
        about = json_text({"used": True, "details": f"zsar {self.run.zsar}, {self.run.model}"})
        return f'{{\n"version": "VERSION 1.3",\n"external_data": {about},\n"results": {{'.encode()

    def _id(self, path: str) -> str:
        return Path(path).stem

    def _found(self, record: VideoRecord) -> list[dict[str, Any]]:
        return [
            {"label": one["label"], "score": one["similarity"], "segment": [one["start"], one["end"]]}
            for one in (segment.to_dict() for segment in segments_of(record))
        ]


class FiftyOneWriter(_ById):
    """The `labels.json` of a `fiftyone.types.FiftyOneTemporalDetectionDataset`, with times in seconds.

    A video's id is its whole path, so that FiftyOne finds it without another list. A video that failed is one without
    labels. The score stands as `confidence`, by which FiftyOne sorts and filters; it is no probability.
    """

    def _head(self) -> bytes:
        return b'{\n"labels": {'

    def _id(self, path: str) -> str:
        return os.path.abspath(path)

    def _found(self, record: VideoRecord) -> list[dict[str, Any]] | None:
        segments = segments_of(record)
        if record.error is not None:
            return None
        return [
            {"label": one["label"], "timestamps": [one["start"], one["end"]], "confidence": one["score"]}
            for one in (segment.to_dict() for segment in segments)
        ]


class LabelStudioWriter(Writer):
    """Tasks with predictions for <TimelineLabels name="videoLabels" toName="video"> over <Video name="video">.

    Frames are counted from 1. A video that failed, or has no frame rate to count frames by, is a task without
    predictions that says so.
    """

    def _head(self) -> bytes:
        return b"["

    def _record(self, record: VideoRecord) -> bytes:
        return (b",\n" if self.summary.total else b"\n") + json_text(self._task(record)).encode()

    def _tail(self, complete: bool) -> bytes:
        return b"\n]\n"

    def _task(self, record: VideoRecord) -> dict[str, Any]:
        data, rate = {"video": record.path}, record.facts.info.frame_rate if record.facts else None
        if record.error is not None:
            return {"data": {**data, "error": f"{record.error.stage} failed: {record.error.reason}"}}
        if not rate:
            return {"data": {**data, "error": "its frame rate is not known"}}
        regions = []
        for number, segment in enumerate(segments_of(record), start=1):
            first = round(segment.start * rate) + 1
            value = {
                "ranges": [{"start": first, "end": max(first, round(segment.end * rate))}],
                "timelinelabels": [segment.label],
            }
            regions.append(
                {
                    "id": f"zsar-{number}",
                    "from_name": "videoLabels",
                    "to_name": "video",
                    "type": "timelinelabels",
                    "value": value,
                    "score": segment.to_dict()["score"],
                }
            )
        return {"data": data, "predictions": [{"model_version": self.run.fingerprint, "result": regions}]}
