"""Table: what a person reads. Nothing is cut off; colours and bars only on a terminal, `NO_COLOR` is honoured."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from zsar_cli.records import UNKNOWN, Run, Segment, VideoRecord
from zsar_cli.report.escaping import printable
from zsar_cli.report.output import Output
from zsar_cli.report.writer import Writer

__all__ = ["TableWriter", "bar_mark", "time_text"]

_BAR = 20  # characters of the longest bar: of the probability 1, or of the best score of a video
_STRIP = 60  # characters that a video lasts
_SEGMENTS = 20  # of a video are shown; more would be read by nobody


class TableWriter(Writer):
    """A block per video: its path, then rank, label and probability (or else score) of each prediction, or time,
    similarity and label of each segment, or why it failed. A "?" stands before a doubtful answer, its reasons below. A
    strip for each label shows on a terminal when it happens."""

    def __init__(self, output: Output, run: Run, top_k: int | None) -> None:
        super().__init__(output, run, top_k)
        self._console = Console(
            file=io.StringIO(), force_terminal=output.is_terminal, legacy_windows=False, highlight=False
        )
        self._mark = bar_mark(output)

    def _record(self, record: VideoRecord) -> bytes:
        with self._console.capture() as capture:
            for line in self._lines(record):
                # soft_wrap leaves folding to the terminal, so that a path can be copied in one piece.
                self._console.print(line, soft_wrap=True)
        separator = "\n" if self.summary.total else ""
        return (separator + capture.get()).encode(self.output.encoding, "backslashreplace")

    def _lines(self, record: VideoRecord) -> Iterator[Text]:
        yield Text(printable(record.path), style="bold red" if record.error else "bold")
        if record.error:
            by = f" ({record.error.decoder})" if record.error.decoder else ""
            yield Text(f"  {record.error.stage} failed{by}: {printable(record.error.reason)}", style="red")
        elif record.segments is not None:
            best = _best(record.segments)
            yield from self._strips(record, best)
            yield from _times(best)
            if more := len(record.segments) - len(best):
                yield Text(f"  ... and {more} more; -o FILE.csv has all")
        elif not record.predictions:
            yield Text("  no label was given", style="yellow")
        elif self.run.labels_count == 1:  # its score is 1 whatever the video shows
            (only,) = record.predictions
            mark = "?" if record.decision is not None and record.decision.doubtful else " "
            yield Text(f"{mark} {printable(only.label)}  similarity {_rounded(only.similarity):.3f}")
            yield from _doubts(record)
        else:
            yield from self._predictions(record)
            yield from _doubts(record)
        if record.partial:
            reason = printable(record.partial.reason)
            yield Text(f"  only {record.partial.share:.0%} was read: {reason}", style="yellow")
        for note in record.notes:
            yield Text(f"  note: {printable(note)}", style="dim")

    def _predictions(self, record: VideoRecord) -> Iterator[Text]:
        predictions = record.predictions[: self.top_k]
        doubt = "?" if record.decision is not None and record.decision.doubtful else " "
        if record.decision is not None and record.decision.answer == UNKNOWN:
            yield Text(f"?      {UNKNOWN}: none of the labels", style="yellow")
            doubt = " "
        names = [printable(prediction.label) for prediction in predictions]
        width = max(map(cell_len, names), default=0)
        best = max((prediction.score for prediction in predictions), default=0.0)
        for rank, (name, prediction) in enumerate(zip(names, predictions, strict=True), start=1):
            padding = " " * (width - cell_len(name))
            if prediction.probability is not None:
                share, number = prediction.probability, f"{prediction.probability:>5.0%}"
            else:
                share = max(prediction.score, 0.0) / best if best > 0 else 0.0
                number = f"{_rounded(prediction.score):>7.3f}"
            line = Text(f"{doubt if rank == 1 else ' '} {rank:>3}  {name}{padding}  {number}")
            line.append(f"  {self._mark * round(_BAR * share)}" if self._mark else "", style="green")
            yield line

    def _strips(self, record: VideoRecord, segments: tuple[Segment, ...]) -> Iterator[Text]:
        """For each label of the segments, left to right, in which parts of the video it happens."""
        duration = (record.facts.info.duration if record.facts else None) or 0.0
        duration = max([duration, *(segment.end for segment in segments)])
        labels = list(dict.fromkeys(segment.label for segment in segments)) if self._mark else []
        width = max((cell_len(printable(label)) for label in labels), default=0)
        for label in labels:
            strip = ["-"] * _STRIP
            for segment in segments:
                if segment.label == label:
                    first = min(int(segment.start / duration * _STRIP), _STRIP - 1)
                    last = max(first + 1, round(segment.end / duration * _STRIP))
                    strip[first:last] = self._mark * (last - first)
            name = printable(label)
            line = Text(f"  {name}{' ' * (width - cell_len(name))}  ")
            yield line.append("".join(strip), style="green")


def _doubts(record: VideoRecord) -> Iterator[Text]:
    reasons = record.decision.reasons if record.decision is not None else ()
    if reasons:
        yield Text(f"       {printable('; '.join(reasons))}", style="dim")


def bar_mark(output: Output) -> str:
    """What bars are drawn of: on a terminal what it can show, elsewhere nothing."""
    try:
        "█".encode(output.encoding)
    except UnicodeEncodeError:
        return "#" * output.is_terminal
    return "█" * output.is_terminal


def _rounded(value: float) -> float:
    return round(value, 3) + 0.0  # not -0.000


def _best(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    """Those of the highest similarity, still in the order of time."""
    best = sorted(range(len(segments)), key=lambda number: -segments[number].similarity)[:_SEGMENTS]
    return tuple(segments[number] for number in sorted(best))


def _times(segments: tuple[Segment, ...]) -> Iterator[Text]:
    if not segments:
        yield Text("  none of the labels stands out at any time", style="yellow")
    width = max((len(time_text(segment.end)) for segment in segments), default=0)
    for segment in segments:
        times = f"{time_text(segment.start):>{width}} - {time_text(segment.end):>{width}}"
        yield Text(f"  {times}  {segment.similarity:>6.2f}  {printable(segment.label)}")


def time_text(seconds: float) -> str:
    """For example 0:07.5 or 1:02:07.5."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    front = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{front}:{rest // 10:02}.{rest % 10}"
