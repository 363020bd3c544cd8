"""`zsar report`: results as one page to look at, to sort and to correct."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError

__all__ = ["report"]

Results = Annotated[
    list[Path],
    typer.Argument(
        help="Results of zsar classify or zsar localize as .jsonl, .json, .csv, .tsv, .xlsx or .parquet, or of zsar "
        "search as .jsonl.",
        metavar="RESULTS...",
    ),
]
Page = Annotated[Path, option("--output", "The page, a file .html.", "-o", panel=options.OUTPUT, metavar="FILE")]
Explanation = Annotated[
    Path | None,
    option("--explanation", "What zsar explain -f json printed: what composes each label.", metavar="FILE"),
]
NoThumbnails = Annotated[bool, option("--no-thumbnails", "Read no video: no pictures.", panel=options.VIDEO)]
Timeout = Annotated[
    float, option("--timeout", "Time a decoder may take for a video before it is stopped.", panel=options.VIDEO,
           metavar="SECONDS")
]


def report(
    results: Results,
    output: Page,
    config: options.Config = None,
    *,
    explanation: Explanation = None,
    no_thumbnails: NoThumbnails = False,
    workers: options.Workers = None,
    timeout: Timeout = 120.0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make a page of results to look through.

    One file that any browser opens, without a network: videos with pictures to sort and filter, timelines that play,
    the surest and the most doubtful of each label, labels that are confused, failures, settings. Right answers are set
    by keys and saved as corrections.csv, which zsar evaluate, zsar export-prototypes and zsar train read. Paths in the
    results are relative to the current folder.

    Example: zsar report found.jsonl -o report.html

    Example: zsar explain -l actions.txt -f json > why.json && zsar report found.jsonl --explanation why.json -o a.html
    """
    from zsar_cli.report.html_report import gather, read_explanation
    from zsar_cli.report.output import check_target
    from zsar_cli.video.limits import check_timeout

    messages = Messages(quiet, verbose)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{output}: a report is a page for a browser; name it {output.with_suffix('.html').name}")
    check_timeout(timeout)
    check_target(output, overwrite)
    made = gather(results, output.parent)
    if explanation is not None:
        made.explanation = read_explanation(explanation)
    if not no_thumbnails:
        with messages.progress(len(made.wanted()), what="thumbnails") as progress:
            made.add_pictures(workers or os.cpu_count() or 1, timeout, progress.advance)
        if progress.failed:
            messages.warning(f"{progress.failed} of {progress.total} thumbnails could not be made; the page says why")
    made.write(output, overwrite)
    failed = sum("error" in video for video in made.videos)
    count = len(made.videos)
    messages.info(f"{output}: {count} video{'s' * (count != 1)}, {failed} failed; {output.stat().st_size / 1e6:.2f} MB")
