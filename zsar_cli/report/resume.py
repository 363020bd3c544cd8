"""Results that go on: JSON Lines that were written before, and a writer that adds what they lack.

What was written lies in the target, in the `.part` file of a job that was killed, or in both. New records are appended
to the `.part` file, and neither file loses a record before the end. Then a third one, `.part.whole`, is written in
order and moved over the target. So a kill at any moment costs the record under way at most.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.records import SCHEMA, Run, Summary
from zsar_cli.report.escaping import json_text
from zsar_cli.report.json_format import JsonLinesWriter
from zsar_cli.report.output import Output, part_of

__all__ = ["ResumedWriter", "check_resume", "models_before"]

# A record is taken for one of this run if these are equal; where the others differ, as another release of torch or
# another device, numbers agree but for their last digits.
_DECISIVE = ("zsar", "model", "labels", "settings", "bank", "precision")
_OTHERS = ("device", "versions")
_PRECISIONS = {
    "float32": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16 --runtime torch",
    "bfloat16 (openvino)": "bf16 --runtime openvino",
}
_OPTIONS = {
    *("decoder", "windows", "frames", "window", "stride", "frame_step", "frame_rate", "hash"),
    *("onset", "offset", "change", "min_length", "min_gap", "pad", "max_per_label", "shots"),
}
_SHOWN = 5  # settings in one message


class _Line(NamedTuple):
    """A record, where it lies: `size` bytes from `start` on."""

    file: Path
    start: int
    size: int
    path: str
    content: str | None  # None for a failure


def check_resume(format: str, target: Path | None, overwrite: bool) -> None:
    """Refuse to go on with what cannot be, before any work.

    Raises:
        UsageError: it is no file of JSON Lines, or it is to be overwritten.
    """
    if overwrite:
        raise UsageError("--resume goes on with a file and --overwrite replaces it: give one of them")
    if target is None or format != "jsonl" or (target.exists() and not target.is_file()):
        what = "standard output" if target is None else f"{target} ({format})"
        raise UsageError(
            f"--resume goes on with a file of JSON Lines, not with {what}: give -f jsonl -o FILE.jsonl; the same "
            "command without --resume then makes another format of it, from the embedding cache and without decoding"
        )


def models_before(target: Path) -> list[str]:
    """The models that the records in a file, or in its `.part` file, were made by; none where there is no record.

    Raises:
        UsageError: the file holds something else.
    """
    for file in (target, part_of(target)):
        for _, record in _read(file) if file.is_file() else ():
            about = record["run"].get("model")
            return str(about["name"]).split(" + ") if isinstance(about, dict) and "name" in about else []
    return []


class ResumedWriter(JsonLinesWriter):
    """JSON Lines with the records that were written before in their places.

    In the end the file holds the records of inputs that are not given this time, in their order, and then one for each
    input, in theirs: the same bytes as of a job that was never stopped.

    Args:
        target: of the file, which need not exist.
        run, top_k: as of all writers.
        hashes: how contents are told apart now, see `content_digest`.

    Attributes:
        before: how many of the inputs need not be done; known after `lacking`.
        notes: what the user should know.

    Raises:
        UsageError: the file holds something else, or records of other settings; names them.
        OutputError: as `Output`.
    """

    def __init__(self, target: Path, run: Run, top_k: int | None, hashes: str) -> None:
        output = Output(target, overwrite=False, resume=True)
        super().__init__(output, run, top_k)
        self._target, self._part = target, output.part
        self._inputs: list[str] = []
        self._chosen: dict[str, _Line] = {}  # of inputs that need not be done
        self._gone: set[str] = set()  # what was moved
        try:
            self._lines = self._read_before(_Settings(run, top_k, hashes))
            ends = (line.start + line.size for line in self._lines.values() if line.file == self._part)
            self._begin = max(ends, default=0)  # of what is new
            output.rewind(self._begin)
            if self._begin and not _ends_a_line(self._part):
                output.append(b"\n")
                self._begin += 1
            self._kept = (self._begin, Summary())
        except OSError as error:
            self._let_go()
            raise OutputError(f"{target}: cannot be resumed: {error.strerror or error}") from error
        except BaseException:
            self._let_go()
            raise

    def lacking(
        self, inputs: Sequence[str | InputError], content_of: Callable[[str], str | None]
    ) -> list[str | InputError]:
        """The inputs that are still to be done: what failed before among them, and what has another content now.

        A file that is known by its content under another path needs no work; if it was moved, its record moves along.
        """
        try:
            return self._choose(inputs, content_of)
        except BaseException:
            self._let_go()
            raise

    def _choose(
        self, inputs: Sequence[str | InputError], content_of: Callable[[str], str | None]
    ) -> list[str | InputError]:
        self._inputs = [item if isinstance(item, str) else item.path for item in inputs]
        given = set(map(_key, self._inputs))
        by_content = {line.content: line for line in self._lines.values() if line.content is not None}
        todo: list[str | InputError] = []
        for item in inputs:
            content = content_of(item) if isinstance(item, str) and by_content else None
            line = None if content is None or isinstance(item, InputError) else by_content.get(content)
            if line is None or isinstance(item, InputError):
                todo.append(item)
                continue
            own = self._lines.get(_key(item))
            self._chosen[_key(item)] = own if own is not None and own.content == content else line
        found = {line.content for line in self._chosen.values()}
        self._gone = {
            key
            for key, line in self._lines.items()
            if line.content in found and key not in given and not os.path.lexists(line.path)
        }
        self.before = len(self._chosen)
        return todo

    def _read_before(self, settings: _Settings) -> dict[str, _Line]:
        """The records that were written before, by what their paths lead to; of one path the last."""
        lines: dict[str, _Line] = {}
        for file in (self._target, self._part):
            for line, record in _read(file) if file.exists() else ():
                settings.check(file, record)
                lines.pop(_key(line.path), None)  # the last is also where the last stands
                lines[_key(line.path)] = line
        self.notes = settings.notes(self._target)
        return lines

    def _finish(self, complete: bool) -> None:
        if not self._lines:  # all is new, and in order
            super()._finish(complete)
            return
        try:
            self.output.rewind(self._kept[0])
            self.output.commit_as(self._in_order())
        except BaseException:
            self._let_go()
            raise

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.output.name}: cannot be written: {error.strerror or error}; "
            "all that was done is kept, and --resume goes on with it"
        )

    def _in_order(self) -> Iterator[bytes]:
        """All lines of the file."""
        new = {_key(line.path): line for line, _ in _read(self._part, self._begin)}
        given = {_key(path): path for path in self._inputs}
        lines = {key: line for key, line in self._lines.items() if key not in given and key not in self._gone}
        for key in given:
            line = new.get(key) or self._chosen.get(key) or self._lines.get(key)
            if line is not None:
                lines[key] = line
        with ExitStack() as files:
            opened = {file: files.enter_context(open(file, "rb")) for file in {line.file for line in lines.values()}}
            for key, line in lines.items():
                opened[line.file].seek(line.start)
                yield _under(given.get(key, line.path), line.path, opened[line.file].read(line.size))

    def _let_go(self) -> None:
        """Close the output where it lies; one without a record is no file."""
        if self._part.exists() and not self._part.stat().st_size:
            self.output.discard()
        self.output.close()


class _Settings:
    """What records must have been made with to stand beside those of this run."""

    def __init__(self, run: Run, top_k: int | None, hashes: str) -> None:
        self._run = json.loads(json_text(run.to_dict()))
        self._predictions = run.labels_count if top_k is None else min(top_k, run.labels_count)
        self._hashes = hashes
        self._others: set[str] = set()

    def check(self, file: Path, record: Mapping[str, Any]) -> None:
        """Raises UsageError where a record was made with other settings; names each, old and new, and what to do."""
        old = record["run"]
        if isinstance(old.get("settings"), Mapping) and old["settings"].get("stream"):
            raise UsageError(
                f"{file}: was written by --stream, and no other job goes on with it; name another file, or make all of "
                "it anew with --overwrite"
            )
        found = [one for key in _DECISIVE for one in _differences(key, old.get(key), self._run[key])]
        if record["error"] is None:
            found += _differences("predictions", len(record["predictions"]), self._predictions)
            hashes, stated, _ = (record.get("content") or "").partition(":")
            found += _differences("hash", hashes, self._hashes) if stated else []
        if found:
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise UsageError(
                f"{file}: was made with other settings: {'; '.join(_told(*one) for one in found[:_SHOWN])}{more}. "
                "Give the same again, name another file, or make all of it anew with --overwrite"
            )
        for key in _OTHERS:
            self._others.update(
                f"{name.removeprefix('versions.')} {before or 'none'}, now {now or 'none'}"
                for name, before, now in _differences(key, old.get(key), self._run[key])
            )

    def notes(self, file: Path) -> list[str]:
        """Where records were made with what changes no more than last digits."""
        return [f"{file}: some of it was made with {one}; each line says with what" for one in sorted(self._others)]


def _differences(name: str, old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Each value that differs, by its name; one that is not there is None."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = dict.fromkeys([*old, *new])
        return [one for key in keys for one in _differences(f"{name}.{key}", old.get(key), new.get(key))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [one for index, pair in pairs for one in _differences(f"{name}[{index}]", *pair)]
    return [] if old == new else [(name, old, new)]


def _told(name: str, old: Any, new: Any) -> str:
    values = [json_text(value) if len(json_text(value)) <= 60 else "another value" for value in (old, new)]
    option = _option(name, old)
    return f"{name} {values[0]} before, {values[1]} now{f' ({option})' if option else ''}"


def _option(name: str, old: Any) -> str:
    """What asks for the old value; empty where no one option does."""
    if name in ("labels.digest", "labels.count"):
        return "the same --labels"
    if name == "model.name":
        return " ".join(f"--model {one}" for one in str(old).split(" + "))
    if name == "predictions":
        return f"--top-k {old}"
    if name == "precision" and old in _PRECISIONS:
        return f"--precision {_PRECISIONS[old]}"
    if name.endswith(".exact"):
        return "without --fast" if old else "--fast"
    if (found := re.search(r"(?:^|settings\.|sampling\.|segments\.)(\w+)$", name)) and found[1] in _OPTIONS:
        option = f"--{found[1].replace('_', '-')}"
        return f"without {option}" if old is None else f"{option} {old}"
    return ""


def _read(file: Path, start: int = 0) -> Iterator[tuple[_Line, Mapping[str, Any]]]:
    """Whole records from a place in a file on; a last one that was cut off is none.

    Raises:
        UsageError: a line is no result.
    """
    with open(file, "rb") as stream:
        stream.seek(start)
        for number, raw in enumerate(stream, start=1):
            begin, start = start, start + len(raw)
            record = _parsed(raw)
            if record is None and not raw.endswith(b"\n"):
                return
            if record is None:
                reason = f"is no {SCHEMA}, the results of this version as JSON Lines"
                raise UsageError(f"{file}, line {number}: {reason}; name another file, or --overwrite replaces it")
            content = record.get("content") if record["error"] is None else None
            yield _Line(file, begin, len(raw), record["path"], content), record


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The record of a line; None where it is none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or "error" not in record:
        return None
    kinds = {"path": str, "predictions": list, "run": dict}
    return record if all(isinstance(record.get(key), kind) for key, kind in kinds.items()) else None


def _under(path: str, old: str, line: bytes) -> bytes:
    """A line as it stands, or where its video has another path now, with that."""
    if path == old:
        return line.rstrip(b"\r\n") + b"\n"
    return json_text({**json.loads(line), "path": path}).encode() + b"\n"


def _ends_a_line(file: Path) -> bool:
    with open(file, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read() == b"\n"


def _key(path: str) -> str:
    """What a path leads to."""
    return os.path.normcase(os.path.abspath(path)) if path else ""
