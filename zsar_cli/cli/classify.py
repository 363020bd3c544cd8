"""`zsar classify`: which of the labels happens in which video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages
from zsar_cli.cli.engine import read_examples, read_labels
from zsar_cli.cli.jobs import OutputOptions, Paths, StopOptions, find_videos, format_option, make_ready, run_job
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.report.formats import FORMATS

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import Classifier, Labelled
    from zsar_cli.errors import InputError
    from zsar_cli.records import VideoRecord
    from zsar_cli.report.writer import RecordWriter
    from zsar_cli.store.library import Library

__all__ = ["classify"]

SORTS = ("path", "answer", "probability", "similarity", "margin", "unknown")
ALONE = (
    "one label alone has nothing to compare with: its score is 1 whatever a video shows; give others as well, "
    "or compare its similarity between videos"
)
TopK = Annotated[int, option("--top-k", "Labels to show for each video.", "-k", panel=options.OUTPUT, min=1)]
Format = Annotated[str | None, format_option(FORMATS)]
Watching = Annotated[
    bool,
    option(
        "--watch",
        "Then go on with videos as they arrive in the folders among the paths, until ctrl-C.",
        panel=options.OUTPUT,
    ),
]
Sort = Annotated[
    str | None,
    option(
        "--sort",
        f"Write all in the end, in the order of {', '.join(SORTS[:-1])} or {SORTS[-1]}: the most doubtful first.",
        panel=options.OUTPUT,
        metavar="KEY",
        show_default="as they are done",
    ),
]


@options.grouped
def classify(
    paths: Paths,
    labels: options.Labels = None,
    label: options.LabelNames = None,
    like: options.Like = None,
    config: options.Config = None,
    *,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    decision: options.DecisionOptions,
    top_k: TopK = 5,
    format: Format = None,
    sort: Sort = None,
    watch: Watching = False,
    target: OutputOptions,
    stop: StopOptions,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Say which of your labels happens in each video.

    PATH may be a library (zsar library), and then no file is read.

    Example: zsar classify videos/ --labels actions.txt -o results.jsonl
    """
    from zsar_cli.report.formats import check_format, check_paths, format_for

    messages = Messages(quiet, verbose)
    # All that can be refused is refused before the model is loaded.
    examples = read_examples(like)
    label_set = read_labels(labels, label, messages, examples)
    format = check_format(format) if format else format_for(target.output)
    target.check(format, paths)
    _check_sort(sort, target.resume)
    check_paths(format, [])
    folders = _watched(paths, sort, target.resume) if watch else []
    library, inputs = find_videos(paths, target.resume)
    if folders:
        inputs = [one for one in inputs if isinstance(one, str) or one.path not in folders]  # empty as yet
    classifier, labelled, run = make_ready(
        label_set, examples, target.keep(models), compute, reading, decision, messages, library
    )
    if len(label_set) == 1:
        messages.warning(ALONE)
    writer, todo = target.open(format, run, inputs, classifier, messages, top_k)
    kept = max(top_k, 2)  # a spreadsheet has the second
    records = _records(library, todo, classifier, labelled, kept)
    if folders:
        todo = list(todo)
        records = chain(records, _arriving(folders, todo, classifier, labelled, kept, messages))
    return run_job(records, todo, classifier, _sorted(writer, sort), stop, messages, "classified", endless=watch)


def _check_sort(sort: str | None, resume: bool) -> None:
    if sort is not None and sort not in SORTS:
        raise UsageError(f"--sort {sort}: unknown; allowed: {', '.join(SORTS)}")
    if sort is not None and resume:
        raise UsageError(f"--sort {sort}: cannot go with --resume")


def _records(
    library: Library | None, todo: Sequence[str | InputError], classifier: Classifier, labelled: Labelled, top_k: int
) -> Iterator[VideoRecord]:
    """Of the videos of a library, or of files."""
    if library is None:
        return classifier.classify_each(todo, labelled, top_k)
    from zsar_cli.engine.stored import classify_stored

    return classify_stored(library, classifier, labelled, top_k)


def _watched(paths: list[str], sort: str | None, resume: bool) -> list[str]:
    """The folders to watch.

    Raises:
        UsageError: there is none, or the results have to wait for an end.
        MissingExtraError: the package that watches is not there.
    """
    import zsar_cli.data.arriving  # noqa: F401
    from zsar_cli.store.library_spec import is_library

    if other := f"--sort {sort}" if sort is not None else "--resume" if resume else "":
        raise UsageError(f"--watch cannot go with {other}")
    folders = [path for path in paths if os.path.isdir(path) and not is_library(path)]
    if not folders:
        raise UsageError(f"--watch: none of {', '.join(paths)} is a folder; give the folder in which videos arrive")
    return folders


def _arriving(
    folders: list[str], todo: list[str | InputError], classifier: Classifier, labelled: Labelled, top_k: int,
    messages: Messages,
) -> Iterator[VideoRecord]:  # fmt: skip
    """Records of videos as they arrive, which are added to those that are to do."""
    from zsar_cli.data.arriving import arriving_videos

    messages.info(f"watching {', '.join(folders)}; ctrl-C ends")
    for path in arriving_videos(folders, [one for one in todo if isinstance(one, str)]):
        todo.append(path)
        yield from classifier.classify_each([path], labelled, top_k)


def _sorted(writer: RecordWriter, sort: str | None) -> RecordWriter:
    """A writer that waits for all records, where they are to be in another order."""
    if sort is None:
        return writer
    from zsar_cli.report.writer import SortedWriter

    return SortedWriter(writer, lambda record: _sort_key(record, sort))


def _sort_key(record: VideoRecord, sort: str) -> tuple[bool, Any, str]:
    """By a column of the spreadsheet; videos without a value, such as failed ones, last; equal ones by path."""
    from zsar_cli.report.sheet_formats import sheet_rows

    value = next(sheet_rows(record)).get(sort)
    if value is None:
        return True, 0, record.path
    return False, -value if sort == "unknown" else value, record.path
