"""Table: what a person reads. Nothing is cut off; colours and bars only on a terminal, `NO_COLOR` is honoured."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from zsar_cli.records import Prediction, Run, VideoRecord
from zsar_cli.report.escaping import printable
from zsar_cli.report.output import Output
from zsar_cli.report.writer import Writer

__all__ = ["TableWriter"]

_BAR = 20  # characters of the longest bar, which is that of the best score of a video


class TableWriter(Writer):
    """A block per video: its path, then rank, label and score of each prediction, or why it failed."""

    def __init__(self, output: Output, run: Run, top_k: int | None) -> None:
        super().__init__(output, run, top_k)
        self._console = Console(
            file=io.StringIO(), force_terminal=output.is_terminal, legacy_windows=False, highlight=False
        )
        try:
            "█".encode(output.encoding)
            self._mark = "█" * output.is_terminal
        except UnicodeEncodeError:
            self._mark = "#" * output.is_terminal

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
        elif not record.predictions:
            yield Text("  no label was given", style="yellow")
        yield from self._predictions(record.predictions[: self.top_k])
        if record.partial:
            reason = printable(record.partial.reason)
            yield Text(f"  only {record.partial.share:.0%} was read: {reason}", style="yellow")
        for note in record.notes:
            yield Text(f"  note: {printable(note)}", style="dim")

    def _predictions(self, predictions: tuple[Prediction, ...]) -> Iterator[Text]:
        names = [printable(prediction.label) for prediction in predictions]
        width = max(map(cell_len, names), default=0)
        best = max((prediction.score for prediction in predictions), default=0.0)
        for rank, (name, prediction) in enumerate(zip(names, predictions, strict=True), start=1):
            padding = " " * (width - cell_len(name))
            share = max(prediction.score, 0.0) / best if best > 0 else 0.0
            score = round(prediction.score, 3) + 0.0  # not -0.000
            line = Text(f"  {rank:>3}  {name}{padding}  {score:>7.3f}")
            line.append(f"  {self._mark * round(_BAR * share)}" if self._mark else "", style="green")
            yield line
