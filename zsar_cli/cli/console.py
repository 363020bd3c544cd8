"""Messages on stderr: warnings, errors, progress. And `show`, by which commands without a writer give their result."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from zsar_cli.errors import OutputError
from zsar_cli.report.escaping import printable
from zsar_cli.report.output import Output

__all__ = ["Messages", "page", "show"]


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
        quiet: errors only, no bar.
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
        """Shown unless quiet."""
        if not self.quiet:
            self._console.print(Text(printable(text)))

    def detail(self, text: str) -> None:
        """Shown when verbose, with the seconds since the start."""
        if self.verbose:
            self._console.print(Text(f"[{time.monotonic() - self._started:7.2f} s] {printable(text)}", style="dim"))

    @contextmanager
    def progress(self, total: int, hidden: bool = False, what: str = "videos") -> Iterator[_Bar]:
        """A bar over `what` with rate and time left; none where stderr is no terminal, when quiet, or `hidden`."""
        shown = self._console.is_terminal and not self.quiet and not hidden
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True, disable=not shown) as progress:
            yield _Bar(progress, total, what)

    def _say(self, kind: str, text: str, style: str) -> None:
        self._console.print(Text.assemble((f"{kind}: ", style), printable(text)))


class _Bar:
    """A running progress bar."""

    def __init__(self, progress: Progress, total: int, what: str) -> None:
        self._progress = progress
        self._task = progress.add_task(what, total=total)

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)
