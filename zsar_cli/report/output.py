"""Where the bytes of a result go: a file that appears whole, a device, or standard output.

A file is written beside its target under the name `<target>.part` and moved over the target at the end. Writing is
unbuffered and by complete pieces, so a killed process leaves whole records in the `.part` file, and a full disk
costs at most the record that did not fit. The `.part` file is locked while it is written: a second job on the same
target is refused, and the lock goes with its process, however that ends.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from zsar_cli.errors import OutputError

if sys.platform != "win32":
    import fcntl

__all__ = ["Output", "OutputClosed", "check_target", "part_of", "write_text"]


class OutputClosed(OutputError):
    """The reader of standard output or of a pipe has gone, as `| head` does: stop, there is nothing to report."""


def check_target(target: Path | None, overwrite: bool, resumable: bool = False) -> None:
    """Refuse at once what could not be written after hours of work. None is standard output, always allowed.

    Args:
        resumable: whether the command can go on with a file of JSON Lines.

    Raises:
        OutputError: the target is a folder, is in no folder, is being written by another job, or exists (or its
            `.part` file does) while `overwrite` is false.
    """
    try:
        if target is None or _is_device(target):
            return
        or_resume = ", --resume goes on with it" if resumable and target.suffix.lower() == ".jsonl" else ""
        if target.is_dir():
            raise OutputError(f"{target} is a folder; name a file in it")
        if not target.parent.is_dir():
            raise OutputError(f"{target}: there is no folder {target.parent}; create it first")
        if target.exists() and not overwrite:
            raise OutputError(f"{target} exists; --overwrite replaces it{or_resume}")
        part = part_of(target)
        if part.exists() and _is_locked(part):
            raise _busy(part)
        if part.exists() and not overwrite:
            raise OutputError(
                f"{part} exists, left by a job that was killed; keep it under another name, or --overwrite replaces it"
                f"{or_resume}"
            )
    except OSError as error:
        raise _cannot_write(target, error) from error


def write_text(target: Path, overwrite: bool, text: str) -> None:
    """Write a file of UTF-8, whole or not at all. Raises OutputError."""
    output = Output(target, overwrite)
    try:
        output.append(text.encode())
        output.commit()
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror}") from None
    finally:
        output.close()


class Output:
    """An open place to write to.

    Args:
        target: a path; None is standard output.
        overwrite: replace a target (or a `.part` file) that exists.
        resume: go on behind what a `.part` file holds; the target may exist.

    Raises:
        OutputError: as `check_target`, or the file cannot be opened.
    """

    def __init__(self, target: Path | None, overwrite: bool, resume: bool = False) -> None:
        check_target(target, overwrite or resume)
        self.name = "standard output" if target is None else str(target)
        self.encoding = "utf-8"
        self._target = target
        self._part: Path | None = None
        try:
            if target is None:
                self._stream, self.encoding = _standard_output()
            elif _is_device(target):
                self._stream = open(target, "wb", buffering=0)  # noqa: SIM115 - closed by close()
            else:
                self._stream = _open_part(part_of(target), keep=resume)
                self._part = part_of(target)
        except OSError as error:
            raise _cannot_write(target, error) from error

    @property
    def place(self) -> str:
        """Where the bytes lie now: in the `.part` file, until `commit` has moved it."""
        return str(self._part) if self._part and self._part.exists() else self.name

    @property
    def part(self) -> Path:
        """The `.part` file of a target that is a file."""
        assert self._part is not None
        return self._part

    @property
    def is_standard(self) -> bool:
        """Whether this is standard output."""
        return self._target is None

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads along."""
        return bool(self._stream.isatty())

    def append(self, data: bytes) -> None:
        """Write all of `data`, unbuffered; `rewind` removes what a failure leaves of it.

        Raises:
            OSError: the piece could not be written.
            OutputClosed: nobody reads any more.
        """
        view = memoryview(data)
        try:
            while view:
                written = self._stream.write(view)
                if written is None:  # a non-blocking pipe whose reader is slow
                    time.sleep(0.01)
                view = view[written or 0 :]
        except OSError as error:
            # Windows reports a pipe without a reader as EINVAL.
            if error.errno == errno.EPIPE or (error.errno == errno.EINVAL and self._part is None):
                raise OutputClosed(f"{self.name}: closed by its reader") from error
            raise

    def rewind(self, size: int) -> None:
        """Drop what an interrupted `append` left behind the first `size` bytes; a pipe or device keeps it."""
        if self._part is not None:
            self._stream.truncate(size)
            self._stream.seek(size)

    def commit(self) -> None:
        """Make the file appear under its name.

        Raises:
            OSError: the file could not be completed or moved; it stays at `place`.
        """
        if self._part is not None and self._target is not None:
            os.fsync(self._stream.fileno())
            if sys.platform == "win32":  # an open file cannot be moved there
                self.close()
            os.replace(self._part, self._target.resolve())
        self.close()  # last: until the file is in its place the lock keeps others off

    def commit_as(self, pieces: Iterable[bytes]) -> None:
        """As `commit`, with `pieces` as the content of the file; they may come from the target and the `.part` file.

        Raises:
            OSError: the file could not be completed or moved; the target and the `.part` file stay as they are.
        """
        assert self._target is not None
        whole = self.part.with_name(f"{self.part.name}.whole")
        try:
            whole.unlink(missing_ok=True)
            with open(whole, "xb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(whole, self._target.resolve())
        except BaseException:
            whole.unlink(missing_ok=True)
            raise
        self.discard()

    def discard(self) -> None:
        """Leave nothing behind, and the target as it was."""
        if sys.platform == "win32":  # an open file cannot be removed there
            self.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of the file, where it lies; standard output stays open. A second call does nothing."""
        if self._target is not None:
            self._stream.close()


def part_of(target: Path) -> Path:
    """The temporary name, beside the file that is meant: a link stays a link."""
    real = target.resolve()
    return real.with_name(real.name + ".part")


def _open_part(part: Path, keep: bool) -> io.FileIO:
    """The `.part` file, locked, and empty unless what it holds is to be kept.

    Raises:
        OutputError: another job holds the lock.
        OSError: the file cannot be opened or locked.
    """
    if sys.platform == "win32":  # an open file cannot be removed there: it is its own lock
        if keep:  # as it is for a rename
            part.touch()
            os.replace(part, part)
            return open(part, "ab", buffering=0)
        part.unlink(missing_ok=True)
        return open(part, "xb", buffering=0)
    while True:
        # Opened without a cut: the content may be another job's. A link is not followed, its target is not ours.
        file = open(part, "ab", buffering=0, opener=_open_no_link)  # noqa: SIM115
        try:
            if not _lock(file, fcntl.LOCK_EX):
                raise _busy(part)
            if part.exists() and os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                if not keep:
                    file.truncate(0)
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # between opening and locking its job ended and took the file away: again


def _is_locked(part: Path) -> bool:
    """Whether a job is writing the file."""
    if sys.platform == "win32":
        return False  # `_open_part` fails
    with open(part, "rb") as file:
        return not _lock(file, fcntl.LOCK_SH)


if sys.platform != "win32":

    def _open_no_link(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW, 0o666)

    def _lock(file: IO[bytes], kind: int) -> bool:
        """Take a lock that ends with the file's closing, by a kill as well; false where another process has it."""
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            raise OSError(error.errno, f"this file system cannot lock files ({error.strerror})") from error
        return True


def _busy(part: Path) -> OutputError:
    return OutputError(f"{part} is being written by another job; wait until it has ended, or name another file")


def _is_device(target: Path) -> bool:
    """A device, a FIFO or a socket: nothing can be moved over it."""
    return target.exists() and not target.is_file() and not target.is_dir()


def _cannot_write(target: Path | None, error: OSError) -> OutputError:
    return OutputError(f"{target or 'standard output'}: cannot be written: {error.strerror or error}")


def _standard_output() -> tuple[Any, str]:
    """The bytes behind `sys.stdout`, unbuffered so that nothing is left to fail at exit, and their encoding."""
    sys.stdout.flush()
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:
        return _TextOnly(), "utf-8"
    return getattr(stream, "raw", stream), sys.stdout.encoding or "utf-8"


class _TextOnly:
    """Standard output that takes text alone, as a notebook's does."""

    def write(self, data: memoryview) -> int:
        sys.stdout.write(bytes(data).decode())
        return len(data)

    def isatty(self) -> bool:
        return False
