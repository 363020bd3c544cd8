"""Messages on stderr: warnings, errors, progress. And `show`, by which commands without a writer give their result."""

from __future__ import annotations

import io
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from zsar_cli.errors import ConfigError, OutputError
from zsar_cli.report.escaping import printable
from zsar_cli.report.output import Output

__all__ = ["PROGRESS_EVERY", "Messages", "Progressing", "one_place", "page", "show", "without_banner"]

PROGRESS_EVERY = "ZSAR_PROGRESS_EVERY"
BANNER = b"INFO: Created TensorFlow Lite XNNPACK delegate"


@contextmanager
def without_banner() -> Iterator[None]:
    """Keep a line off stderr that LiteRT writes there, past Python, at its first run; it has no switch for that.

    This moves a descriptor of the whole process, which is for the command line to do and not for a library.
    """
    with tempfile.TemporaryFile() as held:
        shown = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(shown, 2)
            os.close(shown)
            held.seek(0)
            for line in held:
                if not line.startswith(BANNER):
                    os.write(2, line)


def one_place() -> bool:
    """Whether standard output and messages go to the same place: to one terminal, or by 2>&1 to one file or pipe."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):  # one of them is closed, or no file
        return False


def page(soft_wrap: bool) -> Console:
    """A console whose `capture` holds what `show` is to write: it draws for standard output and does not touch it.

    Lines that are too long are folded here, or with `soft_wrap` left to the terminal.
    """
    on_terminal = sys.stdout.isatty()
    return Console(
        file=io.StringIO(), force_terminal=on_terminal, legacy_windows=False, highlight=False, soft_wrap=soft_wrap
    )


def show(text: str) -> None:
    """Write a result to standard output, unbuffered, so that nothing is left to fail at exit.

    Raises:
        OutputError: it cannot be written.
        OutputClosed: its reader has gone.
    """
    output = Output(None, overwrite=False)
    try:
        output.append(f"{text}\n".encode(output.encoding, "backslashreplace"))
    except OSError as error:
        raise OutputError(f"standard output: cannot be written: {error.strerror or error}") from None


class _Rate(ProgressColumn):
    """Videos, or whatever is counted, per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


class Messages:
    """What a command tells while it works.

    Args:
        quiet: errors only, no progress.
        verbose: details as well.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose and not quiet
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    def error(self, text: str) -> None:
        """Always shown."""
        self._say("error", text, "red")

    def warning(self, text: str) -> None:
        """Shown unless quiet."""
        if not self.quiet:
            self._say("warning", text, "yellow")

    def info(self, text: str) -> None:
        """Shown unless quiet; an empty text is no line."""
        if text and not self.quiet:
            self._console.print(Text(printable(text)))

    def detail(self, text: str) -> None:
        """Shown when verbose, with the seconds since the start."""
        if self.verbose:
            self._console.print(Text(f"[{time.monotonic() - self._started:7.2f} s] {printable(text)}", style="dim"))

    @contextmanager
    def progress(self, total: int | None, hidden: bool = False, what: str = "videos") -> Iterator[Progressing]:
        """How far a job over `total` of `what` is: a bar on a terminal, elsewhere a line every 10 seconds.

        Neither when quiet, or where the total is not known; no bar where it is `hidden`, because results scroll by on
        the same terminal.
        """
        job = Progressing(total or 0, what)
        if self.quiet or total is None or (hidden and self._console.file.isatty()):
            yield job
        elif self._console.file.isatty():
            with Progress(*_columns(), console=self._console, transient=True) as bar:
                task = bar.add_task(what, total=total)
                job.changed = lambda: bar.update(task, completed=job.done)
                yield job
        else:
            with _every(_seconds_between_lines(), lambda: self.info(job.line())):
                yield job

    def _say(self, kind: str, text: str, style: str) -> None:
        self._console.print(Text.assemble((f"{kind}: ", style), printable(text)))


class Progressing:
    """How far a job is, for whoever shows it.

    Args:
        total: of what is counted.
        what: is counted, in the plural.
    """

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done, self.failed = total, what, 0, 0
        self._before = 0
        self.note = ""  # more that is said in lines
        self.changed: Callable[[], None] = lambda: None  # called after each change
        self._started = time.monotonic()

    def advance(self, failed: bool = False) -> None:
        """One more is done, or has failed."""
        self.done += 1
        self.failed += failed
        self.changed()

    def go_on(self, done: int) -> None:
        """So many were done by an earlier job, which says nothing of how fast this one is."""
        self.done = self._before = done

    def line(self) -> str:
        """For example '120 of 3000 videos, 2 failed, 4.1/s, 0:11:42 left'."""
        parts = [f"{self.done} of {self.total} {self.what}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        passed = time.monotonic() - self._started
        if self.done > self._before:
            rate = (self.done - self._before) / max(passed, 1e-9)
            left = timedelta(seconds=round((self.total - self.done) / rate))
            parts += [f"{rate:.3g}/s", f"{left} left"]
        elif passed >= 1:  # a long video: else the same line would come again and again
            parts.append(f"{timedelta(seconds=round(passed))} so far")
        parts += [self.note] if self.note else []
        return ", ".join(parts)


def _columns() -> tuple[ProgressColumn, ...]:
    return TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()


def _seconds_between_lines() -> float:
    """ZSAR_PROGRESS_EVERY; 0 is never.

    Raises:
        ConfigError: it is no number of seconds.
    """
    text = os.environ.get(PROGRESS_EVERY, "10")
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise ConfigError(f"{PROGRESS_EVERY}={text}: must be seconds between two lines of progress, or 0 for none")
    return seconds


@contextmanager
def _every(seconds: float, act: Callable[[], None]) -> Iterator[None]:
    """Call `act` again and again from a thread, so that a job stuck at one file is seen to be; 0 seconds is never."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(seconds):
            act()

    thread = threading.Thread(target=run, name="zsar-progress", daemon=True)
    if seconds > 0:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if seconds > 0:
            thread.join()
