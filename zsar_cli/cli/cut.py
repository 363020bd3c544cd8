"""`zsar cut`: what was found in videos, as files of their own."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, Progressing, one_place, show
from zsar_cli.cli.guard import SOME_FAILED
from zsar_cli.cli.options import option
from zsar_cli.errors import InputError, UsageError
from zsar_cli.report.escaping import printable

if TYPE_CHECKING:
    from zsar_cli.data.timed import Timed
    from zsar_cli.report.places import Place
    from zsar_cli.video.cut_process import Cutter
    from zsar_cli.video.types import Made

__all__ = ["cut"]

PIECES = "Pieces"
LATE = 0.05  # seconds; what begins more than that before what was asked is named
HOUR = 3600.0
WHOLE = ("find", "open", "timeout")  # stages that other pieces of the same video would fail at as well

Moments = Sequence[tuple[str, "Timed"]]

Results = Annotated[
    Path,
    typer.Argument(
        help="Results of zsar localize or zsar classify, or found moments, as .json, .jsonl or a table; or an ELAN "
        "document (.eaf) or a folder of them.",
        metavar="RESULTS",
    ),
]
Folder = Annotated[
    Path, option("--output", "Folder for the pieces; it is made where there is none.", "-o", panel=options.OUTPUT,
                 metavar="DIR"),
]  # fmt: skip
Copy = Annotated[
    bool,
    option("--copy", "Encode nothing: fast and without loss, but each piece begins at a key frame.", panel=PIECES),
]
Pad = Annotated[float, option("--pad", "Time to add on both sides.", panel=PIECES, metavar="SECONDS")]
Top = Annotated[int | None, option("--top", "Only the best so many of all.", panel=PIECES, min=1, show_default="all")]
PerLabel = Annotated[bool, option("--per-label", "With --top: of each label.", panel=PIECES)]
Timeout = Annotated[
    float, option("--timeout", "Time without progress after which a video is given up.", panel=options.VIDEO,
           metavar="SECONDS")
]


def cut(
    results: Results,
    output: Folder,
    config: options.Config = None,
    *,
    copy: Copy = False,
    pad: Pad = 0.0,
    top: Top = None,
    per_label: PerLabel = False,
    timeout: Timeout = 120.0,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Cut what was found out of its videos.

    A folder per label, a file per segment. Pieces are encoded anew as MP4 (H.264, AAC) and begin and end as the results
    say. Nothing that exists is replaced. Paths in the results are relative to the current folder. The paths of the
    pieces go to stdout.

    Example: zsar cut segments.jsonl -o cuts/ --top 20 --per-label
    """
    from zsar_cli.data.timed import is_elan, read_moments
    from zsar_cli.video.cut_process import Cutter
    from zsar_cli.video.limits import check_timeout

    messages = Messages(quiet, verbose)
    check_timeout(timeout)
    if not 0 <= pad < math.inf:
        raise UsageError(f"--pad is {pad:g}: it must be 0 or more seconds")
    if per_label and top is None:
        raise UsageError("--per-label says of what --top takes the best: give --top too")
    if top is not None and is_elan(results):
        raise UsageError(f"--top: the annotations of {results} have no scores, of which to take the best")
    if not copy:
        from zsar_cli.video.exact_cut import check_encoder

        check_encoder()
    moments = read_moments(results)
    if not moments:
        messages.error(f"{results}: there is nothing to cut: nothing was found, or all of its videos failed")
        return 1
    places = _places(output, moments, (".mp4", ".mkv") if copy else (".mp4",))
    chosen = _best(moments, top, per_label)
    for number in chosen:
        places[number].check()
    job = _Job(moments, places, pad, copy, messages)
    try:
        with Cutter(timeout) as cutter, messages.progress(len(chosen), hidden=one_place(), what="pieces") as progress:
            job.run(chosen, cutter, progress)
    except (KeyboardInterrupt, SystemExit):
        messages.info(job.summary(len(chosen)))
        raise
    if len(chosen) > 1 or job.failed:
        messages.info(job.summary(len(chosen)))
    return (SOME_FAILED if job.done else 1) if job.failed else 0


def _places(folder: Path, moments: Moments, suffixes: tuple[str, ...]) -> list[Place]:
    """Where each moment's piece goes: a name of its own, whatever is chosen of them."""
    from zsar_cli.report.places import Distinct, Place, clock, safe_name

    labels, videos, files = Distinct(), Distinct(), Distinct()
    places = []
    for number, (path, (label, start, end, _)) in enumerate(moments):
        name = videos(path, safe_name(Path(path).stem))
        if math.isfinite(end):
            hours = end >= HOUR
            name = f"{name}_{clock(start, hours)}_{clock(end, hours)}"
        stem = Path(labels(label, safe_name(label)), name)
        places.append(Place(folder / files(number, str(stem)), suffixes))
    return places


def _best(moments: Moments, top: int | None, per_label: bool) -> list[int]:
    """Which moments are cut, those of a video together and in the order of their starts."""
    chosen = sorted(range(len(moments)), key=lambda number: -moments[number][1].score)
    if per_label:
        counts: Counter[str] = Counter()
        chosen = [number for number in chosen if _counted(counts, moments[number][1].label) <= (top or 0)]
    firsts = {path: number for number, (path, _) in reversed(list(enumerate(moments)))}
    return sorted(
        chosen if per_label else chosen[:top],
        key=lambda number: (firsts[moments[number][0]], moments[number][1].start, number),
    )


def _counted(counts: Counter[str], label: str) -> int:
    counts[label] += 1
    return counts[label]


@dataclass
class _Job:
    """Cuts, tells, counts.

    Args:
        moments, places: of equal length.
        done, failed: pieces.
        given_up: videos of which no more is tried.
    """

    moments: Moments
    places: Sequence[Place]
    pad: float
    copy: bool
    messages: Messages
    done: int = 0
    failed: int = 0
    given_up: set[str] = field(default_factory=set)

    def run(self, chosen: Sequence[int], cutter: Cutter, progress: Progressing) -> None:
        for number in chosen:
            succeeded = self.moments[number][0] not in self.given_up and self._succeeds(number, cutter)
            self.done += succeeded
            self.failed += not succeeded
            progress.advance(failed=not succeeded)

    def _succeeds(self, number: int, cutter: Cutter) -> bool:
        from zsar_cli.video.types import Piece

        path, timed = self.moments[number]
        place = self.places[number]
        try:
            with place as part:
                piece = Piece(path, timed.start - self.pad, timed.end + self.pad, part, self.copy)
                made = cutter.cut(piece)
                target = place.publish(made.suffix)
        except InputError as error:
            self._tell_failure(path, error)
            return False
        show(printable(str(target)))
        self._tell(target, max(piece.start, 0.0), made)
        if math.isfinite(timed.end) and made.end < timed.end - LATE:
            self.messages.warning(f"{target}: ends at {made.end:.2f} s, where its video ends, not at {timed.end:g} s")
        return True

    def _tell(self, target: Path, asked: float, made: Made) -> None:
        self.messages.detail(f"{target}: {made.start:.2f} s to {made.end:.2f} s of its video")
        if self.copy and asked - made.start > LATE:
            self.messages.info(f"{target}: begins {asked - made.start:.2f} s before what was asked, at a key frame")
        for note in made.notes:
            self.messages.warning(f"{target}: {note}")

    def _tell_failure(self, path: str, error: InputError) -> None:
        unplaced = error.stage == "find" and not os.path.isabs(path)
        self.messages.error(f"{error}" + "; relative paths begin at the current folder" * unplaced)
        if error.stage in WHOLE:
            self.given_up.add(path)

    def summary(self, chosen: int) -> str:
        """For example '12 pieces: 10 cut, 2 failed'."""
        parts = [f"{self.done} cut"]
        parts += [f"{self.failed} failed"] if self.failed else []
        left = chosen - self.done - self.failed
        parts += [f"{left} not tried"] if left else []
        return f"{chosen} piece{'s' * (chosen != 1)}: {', '.join(parts)}"
