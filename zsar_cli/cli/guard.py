"""How a command ends: errors as one line on stderr, and the exit code that scripts rely on.

0 all done, 1 fatal or nothing done, 2 usage, 3 some inputs failed, 130 interrupted by ctrl-C, 143 by SIGTERM.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec

import typer

from zsar_cli.errors import ZsarError
from zsar_cli.report.escaping import printable
from zsar_cli.report.output import OutputClosed

__all__ = ["INTERRUPTED", "SOME_FAILED", "TERMINATED", "guarded"]

SOME_FAILED = 3
INTERRUPTED = 130
TERMINATED = 143

P = ParamSpec("P")


def guarded(command: Callable[P, int | None]) -> Callable[P, None]:
    """A command that returns its exit code (None is 0) and may raise; with ZSAR_DEBUG=1 tracebacks are shown.

    Its docstring is its help, whose lines end where the screen does.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        signal.signal(signal.SIGTERM, _terminate)
        try:
            code = command(*args, **kwargs) or 0
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = INTERRUPTED
        except (OutputClosed, BrokenPipeError):
            # The reader of our output has gone (`| head`): there is nobody to tell, nor to flush to at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except ZsarError as error:
            if os.environ.get("ZSAR_DEBUG"):
                raise
            # Only an error over several places has lines of its own.
            print("error: " + "\n".join(map(printable, str(error).split("\n"))), file=sys.stderr)
            code = error.exit_code
        except Exception as error:
            if os.environ.get("ZSAR_DEBUG"):
                raise
            print(
                f"error: unexpected {type(error).__name__}: {printable(str(error))}\n"
                "This is a fault of zsar; ZSAR_DEBUG=1 shows the traceback for a report.",
                file=sys.stderr,
            )
            code = 1
        raise typer.Exit(code)

    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    run.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return run


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM unwinds like ctrl-C, so that decode processes end and partial results are kept."""
    raise SystemExit(TERMINATED)
