"""Cutting in a process of its own: a file that crashes or hangs a decoder is a failure of that file.

Parent and process speak in turns. A piece is answered by None again and again while there is progress (answered by
True), and then by what was made or by an error.
"""

from __future__ import annotations

import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import Any, BinaryIO

from zsar_cli.errors import InputError, ZsarError
from zsar_cli.video.limits import check_timeout, limit_memory
from zsar_cli.video.processes import Expired, Lost, ask, listen, one_line, take_pipes
from zsar_cli.video.types import Made, Piece

__all__ = ["Cutter", "serve"]

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from zsar_cli.video.cut_process import serve; serve()"
_START_LIMIT = 60.0  # seconds
_EVERY = 0.5  # seconds between two signs of life
_ROOM = 3 * 2**30  # bytes: an encoder holds some ten pictures of up to 50 MB for each of its threads


class Cutter:
    """Cuts one piece after another.

        with Cutter(timeout=120.0) as cutter:
            made = cutter.cut(Piece("film.mp4", 12.5, 17.0, "piece.mp4"))

    Leaving the `with` block, or an interrupt, ends the process, whatever it is doing.

    Args:
        timeout: seconds after which a file is given up if no frame and no packet came of it.

    Raises:
        UsageError: `timeout` is no number of seconds.
    """

    def __init__(self, timeout: float) -> None:
        check_timeout(timeout)
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._log: BinaryIO | None = None

    def cut(self, piece: Piece) -> Made:
        """Write a piece; its target is of no use where this fails, and nobody writes to it any more.

        Raises:
            InputError: the video cannot be used, has nothing there, or its reading crashed or hung.
            OutputError: the target cannot be written, nor could another.
        """
        try:
            answer = self._converse(piece)
        except Expired:
            reason = f"nothing came of it within {self._timeout:g} s; it was given up (--timeout raises the limit)"
            raise InputError(piece.path, "timeout", reason) from None
        except Lost as error:
            raise InputError(piece.path, "cut", f"cutting crashed ({error})") from None
        except BaseException:
            self.close()
            raise
        if isinstance(answer, ZsarError):
            raise answer
        assert isinstance(answer, Made)
        return answer

    def _converse(self, piece: Piece) -> Any:
        answer = self._ask(piece, self._timeout)
        while answer is None:
            answer = self._ask(True, self._timeout)
        return answer

    def _ask(self, question: object, limit: float) -> Any:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (`close` closes it)
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
            self._process = subprocess.Popen([sys.executable, "-c", _BOOT, *sys.path], **pipes)  # type: ignore[call-overload]
            ask(self._process, self._log, None, _START_LIMIT)
        assert self._process is not None and self._log is not None
        return ask(self._process, self._log, question, limit)

    def close(self) -> None:
        """End the process; the next piece starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None

    def __enter__(self) -> Cutter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def serve() -> None:
    """What runs in the process: cuts until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the parent cleans up
    incoming, outgoing = take_pipes()
    from zsar_cli.video.cutting import cut  # its prints, if any, go to standard error

    limit_memory(_ROOM)
    questions: queue.SimpleQueue[object] = queue.SimpleQueue()
    threading.Thread(target=listen, args=(incoming, questions), daemon=True).start()

    def say(message: object) -> object:
        pickle.dump(message, outgoing)
        outgoing.flush()
        return questions.get()

    spoken = 0.0

    def alive() -> None:
        nonlocal spoken
        if time.monotonic() - spoken > _EVERY:
            say(None)
            spoken = time.monotonic()

    questions.get()
    piece = say(None)
    while True:
        assert isinstance(piece, Piece)
        piece = say(_answer(cut, piece, alive))


def _answer(cut: Any, piece: Piece, alive: Any) -> Made | ZsarError:
    try:
        made: Made = cut(piece, alive)
        return made
    except ZsarError as error:
        return error
    except MemoryError:
        return InputError(piece.path, "cut", "it needs more memory than one file may take")
    except BaseException as error:  # whatever a decoder raises
        return InputError(piece.path, "cut", one_line(error))
