"""JSON: one document, a record per line in it. JSON Lines: one self-contained record per line."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from zsar_cli.records import SCHEMA, VideoRecord
from zsar_cli.report.escaping import json_text
from zsar_cli.report.writer import Writer

__all__ = ["JsonLinesWriter", "JsonWriter"]


def _dump(value: Any) -> bytes:
    return json_text(value).encode()


class JsonLinesWriter(Writer):
    """One line per record, each with the schema and the run, so that any line can be read alone."""

    @cached_property
    def _run(self) -> bytes:
        return _dump(self.run.to_dict())

    def _record(self, record: VideoRecord) -> bytes:
        line = _dump({"schema": SCHEMA, **record.to_dict(self.top_k)})
        return b'%b, "run": %b}\n' % (line[:-1], self._run)


class JsonWriter(Writer):
    """One document; `complete` is false in it where the job was cut short."""

    def _head(self) -> bytes:
        return b'{\n"schema": %b,\n"run": %b,\n"results": [' % (_dump(SCHEMA), _dump(self.run.to_dict()))

    def _record(self, record: VideoRecord) -> bytes:
        return (b",\n" if self.summary.total else b"\n") + _dump(record.to_dict(self.top_k))

    def _tail(self, complete: bool) -> bytes:
        return b'\n],\n"summary": %b,\n"complete": %b\n}\n' % (_dump(self.summary.to_dict()), _dump(complete))
