"""What the writers of all formats share: fed record by record, and closed on every way out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol

from zsar_cli.errors import OutputError
from zsar_cli.records import Run, Segment, Summary, VideoRecord
from zsar_cli.report.output import Output, OutputClosed

__all__ = ["RecordWriter", "SortedWriter", "Writer", "segments_of"]


def segments_of(record: VideoRecord) -> tuple[Segment, ...]:
    """The segments of a record; none of a failed video.

    Raises:
        ValueError: they were not asked for.
    """
    if record.segments is None and record.error is None:
        raise ValueError(f"{record.path}: this format holds segments, and the record has none")
    return record.segments or ()


class RecordWriter(Protocol):
    """What a job writes records to, in a `with` block.

    Attributes:
        before: videos that were done by an earlier job.
    """

    before: int

    @property
    def is_standard(self) -> bool:
        """Whether it goes to standard output."""
        ...

    def write(self, record: VideoRecord) -> None:
        """Write one record."""
        ...

    def __enter__(self) -> RecordWriter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writer(ABC):
    """Writes records of one run to one output. Use it in a `with` block.

    A block that ends normally completes the file. One that ends by an exception, a ctrl-C among them, keeps the
    records written so far in a valid file; if there are none, the target stays as it was.

    Args:
        output: where to.
        run: what all records share.
        top_k: how many predictions of a record are written; None is all.
    """

    before = 0  # videos that were done by an earlier job
    notes: Sequence[str] = ()

    def __init__(self, output: Output, run: Run, top_k: int | None) -> None:
        self.output, self.run, self.top_k = output, run, top_k
        self._kept = (0, Summary())  # size in bytes and counts, set as one: a ctrl-C cannot come in between
        self._closed = False

    @classmethod  # noqa: B027 - most formats hold any videos
    def check_paths(cls, paths: Sequence[str]) -> None:
        """Refuse videos that the format cannot hold together, before any work; as a rule none.

        Raises:
            UsageError: it cannot.
        """

    @property
    def is_standard(self) -> bool:
        """Whether it writes to standard output."""
        return self.output.is_standard

    @property
    def summary(self) -> Summary:
        """Counts of the records written so far."""
        return self._kept[1]

    @abstractmethod
    def _record(self, record: VideoRecord) -> bytes:
        """One record; `self.summary` counts those before it."""

    def _head(self) -> bytes:
        """What stands before the first record."""
        return b""

    def _tail(self, complete: bool) -> bytes:
        """What stands behind the last record; `complete` is false where the job was cut short."""
        return b""

    def write(self, record: VideoRecord) -> None:
        """Write one record and hand it to the system at once.

        Raises:
            OutputError: it cannot be written; the message says how many records are kept, and where.
            OutputClosed: the reader of a pipe has gone.
            ValueError: the writer is closed.
        """
        if self._closed:
            raise ValueError(f"the writer of {self.output.name} is closed")
        data = self._record(record)
        if not self.summary.total:
            data = self._head() + data
        try:
            self.output.append(data)
        except OutputClosed:
            self._closed = True
            raise
        except OSError as error:
            self._closed = True
            with suppress(OSError, OutputClosed):
                self._finish(complete=False)
            raise self._failure(error) from error
        self._kept = (self._kept[0] + len(data), self.summary.plus(record))

    def close(self, complete: bool = True) -> None:
        """Finish the output. A second call does nothing.

        Args:
            complete: false where the job was cut short.

        Raises:
            OutputError: it cannot be finished; the message says how many records are kept, and where.
            OutputClosed: the reader of a pipe has gone.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self._finish(complete)
        except OSError as error:
            raise self._failure(error) from error

    def _finish(self, complete: bool) -> None:
        if not complete and not self.summary.total:
            self.output.discard()
            return
        try:
            self.output.rewind(self._kept[0])
            self.output.append(self._tail(complete) if self.summary.total else self._head() + self._tail(complete))
            self.output.commit()
        finally:
            self.output.close()

    def _failure(self, error: OSError) -> OutputError:
        count = self.summary.total
        kept = f"{count} record(s) are in {self.output.place}" if count else "no record was written"
        return OutputError(f"{self.output.name}: cannot be written: {error.strerror or error}; {kept}")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close(complete=kind is None)
        except OutputClosed:
            if kind is None:
                raise


class SortedWriter:
    """Keeps all records, and hands them on in order in the end, or as many as there are where a job is cut short.

    Args:
        writer: of any format.
        key: of the order.
    """

    def __init__(self, writer: RecordWriter, key: Callable[[VideoRecord], Any]) -> None:
        self._writer, self._key = writer, key
        self._records: list[VideoRecord] = []
        self.before, self.is_standard = writer.before, writer.is_standard

    def write(self, record: VideoRecord) -> None:
        """Keep one."""
        self._records.append(record)

    def __enter__(self) -> SortedWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for record in sorted(self._records, key=self._key):
                self._writer.write(record)
        finally:
            self._writer.__exit__(kind, error, trace)
