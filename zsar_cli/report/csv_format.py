"""Long CSV: all that is known, a row per prediction, or per segment where they were asked for; a single row without a
label where there is none."""

from __future__ import annotations

from typing import Any

from zsar_cli.records import SCHEMA, VideoRecord
from zsar_cli.report.sheet_formats import delimited
from zsar_cli.report.writer import Writer

__all__ = ["COLUMNS", "LongCsvWriter"]

COLUMNS = (
    "path",
    "rank",
    "label",
    "score",
    "similarity",
    "probability",
    "start",
    "end",
    "peak",
    "error_stage",
    "error_reason",
    "decoder",
    "windows",
    "frames",
    "window",
    "stride",
    "frame_step",
    "mode",
    "partial_share",
    "partial_reason",
    "notes",
    "model",
    "fingerprint",
    "labels_digest",
    "zsar",
    "schema",
)


class LongCsvWriter(Writer):
    """UTF-8, commas, quotes where needed, a header, line feeds."""

    def _head(self) -> bytes:
        return delimited(COLUMNS)

    def _record(self, record: VideoRecord) -> bytes:
        shared = self._shared(record)
        values = record.to_dict(self.top_k)
        if values["segments"] is None:
            found = [{"rank": rank, **prediction} for rank, prediction in enumerate(values["predictions"], start=1)]
        else:
            found = values["segments"]
        rows = [{**shared, **one} for one in found or [{}]]
        return b"".join(delimited([cells.get(column) for column in COLUMNS]) for cells in rows)

    def _shared(self, record: VideoRecord) -> dict[str, Any]:
        """The cells that are the same in each row of a record."""
        values = record.to_dict(top_k=0)
        error, decoder, sampling, partial = (values[key] or {} for key in ("error", "decoder", "sampling", "partial"))
        return {
            "path": record.path,
            "error_stage": error.get("stage"),
            "error_reason": error.get("reason"),
            "decoder": f"{decoder['name']} {decoder['version']}" if decoder else error.get("decoder"),
            "windows": values["windows"],
            **{key: sampling.get(key) for key in ("frames", "window", "stride", "frame_step", "mode")},
            "partial_share": partial.get("share"),
            "partial_reason": partial.get("reason"),
            "notes": "; ".join(record.notes),
            "model": self.run.model,
            "fingerprint": self.run.fingerprint,
            "labels_digest": self.run.labels_digest,
            "zsar": self.run.zsar,
            "schema": SCHEMA,
        }
