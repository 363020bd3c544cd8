"""A file for each video in one folder, in a format that holds one video: captions lie beside others as players want."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from zsar_cli.errors import UsageError
from zsar_cli.records import Run, Summary, VideoRecord
from zsar_cli.report.caption_formats import OneVideo
from zsar_cli.report.output import Output, check_target

__all__ = ["FolderWriter", "check_folder"]


def check_folder(paths: Sequence[str], folder: Path, suffix: str, overwrite: bool) -> None:
    """Refuse files that would be of two videos, or that exist.

    Raises:
        UsageError: two videos have names that differ in their folder, suffix or case alone; names both.
        OutputError: as `check_target`, of the first such file.
    """
    seen: dict[str, str] = {}
    for path in paths:
        target = _target(folder, path, suffix)
        if (other := seen.setdefault(target.name.casefold(), path)) != path:
            raise UsageError(f"{other} and {path} would both be {target}; rename one, or do them apart")
        check_target(target, overwrite)


class FolderWriter:
    """Writes as a `Writer` does; a file appears as its video is done, and none of a video that failed.

    Args:
        folder: it exists.
        one: what writes each file.
        suffix: of the files; their names are those of the videos.
        overwrite: replace files that exist.
        run: what all records share.
    """

    before = 0
    notes: Sequence[str] = ()
    is_standard = False

    def __init__(self, folder: Path, one: type[OneVideo], suffix: str, overwrite: bool, run: Run) -> None:
        self._folder, self._one, self._suffix, self._overwrite, self._run = folder, one, suffix, overwrite, run
        self.summary = Summary()

    def write(self, record: VideoRecord) -> None:
        """Write the file of one record.

        Raises:
            OutputError: it cannot be written.
        """
        if record.error is None:
            target = _target(self._folder, record.path, self._suffix)
            with self._one(Output(target, self._overwrite), self._run, None) as writer:
                writer.write(record)
        self.summary = self.summary.plus(record)

    def __enter__(self) -> FolderWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left to do: every file is whole."""


def _target(folder: Path, path: str, suffix: str) -> Path:
    return folder / (Path(path).stem + suffix)
