"""The folder of a training run: what is in it, who may write into it, and how it survives being killed.

run.yaml        the settings
skipped.tsv     videos that could not be used, with the reason
metrics.jsonl   a line for each step
checkpoint.pt   the latest state, to resume from
run.lock        held by the process that trains
curves.png      the metrics as a picture
features/       features of all videos while it runs, a file for each process
tensorboard/    the same for TensorBoard, where asked for
model/          the result: a bundle
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock
import torch
import yaml

from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.plain import read_yaml

__all__ = ["RunFolder"]

FORMAT = "zsar.checkpoint/2"
FILES = ("run.yaml", "skipped.tsv", "metrics.jsonl", "checkpoint.pt", "curves.png")
FOLDERS = ("tensorboard", "model", "features")
BEGUN = ("checkpoint.pt", "metrics.jsonl", "model")  # one of them is there from the first step on
LOCK = "run.lock"


class RunFolder:
    """See the module.

    Args:
        root: made where it is not there.
        resume: continue the run that is there, or begin one where there is none.
        overwrite: remove the run that is there. Nothing but the files of a run is ever removed.

    Raises:
        OutputError: the folder holds a run that got to its first step and neither was asked for, or something that is
            no run.
    """

    def __init__(self, root: Path, resume: bool = False, overwrite: bool = False) -> None:
        self.root = root
        if root.exists() and (not root.is_dir() or any(one.name != LOCK for one in root.iterdir())):
            if not (root / "run.yaml").is_file():
                raise OutputError(f"{root} exists and is no training run; name a new folder")
            if not resume and not overwrite and any((root / name).exists() for name in BEGUN):
                raise OutputError(f"{root} holds a training run; --resume continues it, --overwrite starts over")
        self._resume, self._overwrite = resume, overwrite
        self._lock = filelock.FileLock(root / LOCK)

    @property
    def resumes(self) -> bool:
        """Whether there is a state to continue from, and that was asked for."""
        return self._resume and (self.root / "checkpoint.pt").is_file()

    @property
    def model(self) -> Path:
        """Where the bundle goes."""
        return self.root / "model"

    @property
    def features(self) -> Path:
        """Where features lie while it runs."""
        return self.root / "features"

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Take the folder for a run with these settings.

        Raises:
            UsageError: the run to resume has other settings; each is named.
            OutputError: the folder cannot be written, or another process trains in it.
        """
        file = self.root / "run.yaml"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            if self._resume and file.is_file():
                self._compare(read_yaml(file, OutputError), settings)
                return
            for name in FILES:
                (self.root / name).unlink(missing_ok=True)
            for name in FOLDERS:
                shutil.rmtree(self.root / name, ignore_errors=True)
            text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
            _replace(file, text.encode())
        except filelock.Timeout:
            raise OutputError(f"{self.root}: another process trains in this folder") from None
        except (OSError, yaml.YAMLError) as error:
            raise OutputError(f"{file}: cannot be used: {error}") from None

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock.is_locked:
            (self.root / LOCK).unlink(missing_ok=True)
            self._lock.release()

    def _compare(self, before: Any, now: Mapping[str, Any]) -> None:
        old, new = dict(_flat(before)), dict(_flat(now))
        other = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
        if other:
            lines = "".join(f"\n  {key}: was {old.get(key)}, is {new.get(key)}" for key in other)
            raise UsageError(f"{self.root} was begun with other settings, so it cannot be resumed:{lines}")

    def write_skipped(self, failures: Sequence[InputError]) -> None:
        """Write skipped.tsv; remove it where nothing was skipped."""
        file = self.root / "skipped.tsv"
        if not failures:
            file.unlink(missing_ok=True)
            return
        rows = [("path", "stage", "reason"), *((one.path, one.stage, one.reason) for one in failures)]
        text = "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
        _replace(file, text.encode("utf-8", "surrogateescape"))

    def remove_scratch(self) -> None:
        """Remove what only a running run needs."""
        shutil.rmtree(self.features, ignore_errors=True)

    def save(self, state: Mapping[str, Any], data: str) -> None:
        """Keep the state of the run over data of that digest; the file changes at once or not at all."""
        target = self.root / "checkpoint.pt"
        part = target.with_suffix(".part")
        try:
            with open(part, "wb") as file:
                torch.save({"format": FORMAT, "data": data, "state": dict(state)}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"{target}: cannot be written: {error}") from None

    def load(self, data: str) -> dict[str, Any] | None:
        """The latest state of a run to be resumed; None where there is none yet.

        Raises:
            UsageError: it is of other data.
            OutputError: it cannot be read.
        """
        file = self.root / "checkpoint.pt"
        if not self.resumes:
            return None
        try:
            saved = torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise OutputError(f"{file}: cannot be read ({type(error).__name__}); --overwrite starts over") from None
        if saved.get("format") != FORMAT:
            raise OutputError(f"{file}: has the format '{saved.get('format')}', this version reads '{FORMAT}'")
        if saved["data"] != data:
            raise UsageError(
                f"{self.root} was begun with other videos, so it cannot be resumed; --overwrite starts over"
            )
        state: dict[str, Any] = saved["state"]
        return state

    def metrics(self) -> list[dict[str, float]]:
        """The records of metrics.jsonl; a last line that was cut off is left out."""
        file = self.root / "metrics.jsonl"
        records = []
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                records.append(json.loads(line))
            except ValueError:
                break
        return records

    def keep_metrics(self, steps: int) -> None:
        """Drop the records after that many steps: they will be made again."""
        kept = [record for record in self.metrics() if record["step"] <= steps]
        _replace(self.root / "metrics.jsonl", "".join(f"{json.dumps(record)}\n" for record in kept).encode())

    def add_metrics(self, record: Mapping[str, float]) -> None:
        """Add a record."""
        try:
            with open(self.root / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(f"{json.dumps(dict(record))}\n")
        except OSError as error:
            raise OutputError(f"{self.root / 'metrics.jsonl'}: cannot be written: {error.strerror}") from None


def _flat(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("section.key", value) of nested mappings."""
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _replace(file: Path, content: bytes) -> None:
    """Write a small file, whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_bytes(content)
        os.replace(part, file)
    except OSError as error:
        raise OutputError(f"{file}: cannot be written: {error.strerror}") from None
