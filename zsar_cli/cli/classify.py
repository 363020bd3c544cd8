"""`zsar classify`: which of the labels happens in which video."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, one_place
from zsar_cli.cli.engine import check_languages, open_classifier, read_labels
from zsar_cli.cli.guard import SOME_FAILED
from zsar_cli.cli.options import option
from zsar_cli.records import Summary

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import Classifier, Labelled
    from zsar_cli.records import VideoRecord

__all__ = ["classify"]

Paths = Annotated[
    list[str],
    typer.Argument(
        help="Videos, folders (searched to their depths), folders of frames, GIFs, quoted patterns, @list of paths, "
        "or - to read paths from stdin.",
        metavar="PATH",
    ),
]
TopK = Annotated[int, option("--top-k", "Labels to show for each video.", "-k", panel=options.OUTPUT, min=1)]
Format = Annotated[
    str | None,
    option(
        "--format",
        "table, json, jsonl or csv.  [default: by the output file's suffix, else table]",
        "-f",
        panel=options.OUTPUT,
        metavar="NAME",
    ),
]
FailFast = Annotated[bool, option("--fail-fast", "Stop at the first video that fails.", panel=options.OUTPUT)]
MaxFailures = Annotated[
    int | None, option("--max-failures", "Stop once more than this many videos failed.", panel=options.OUTPUT, min=0)
]


@options.grouped
def classify(
    paths: Paths,
    labels: options.Labels = None,
    label: options.LabelNames = None,
    config: options.Config = None,
    *,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    top_k: TopK = 5,
    format: Format = None,
    output: options.OutputFile = None,
    overwrite: options.Overwrite = False,
    fail_fast: FailFast = False,
    max_failures: MaxFailures = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Say which of your labels happens in each video.

    Example: zsar classify videos/ --labels actions.txt -o results.jsonl
    """
    from zsar_cli.data.inputs import find_inputs
    from zsar_cli.report.formats import check_format, format_for, open_writer
    from zsar_cli.report.output import check_target

    messages = Messages(quiet, verbose)
    # All that can be refused is refused before the model is loaded.
    label_set = read_labels(labels, label, messages)
    format = check_format(format) if format else format_for(output)
    check_target(output, overwrite)
    inputs = find_inputs(paths, sys.stdin)
    classifier = open_classifier(messages, models, compute, reading)
    check_languages(classifier, label_set, messages)
    labelled = classifier.prepare(label_set)
    run = classifier.describe(label_set)
    _tell_specialists(classifier, labelled, messages)
    writer = open_writer(format, output, overwrite=overwrite, run=run, top_k=top_k)
    watching = output is None and one_place()  # results scroll by among the messages
    counts = _Counts(given=len(inputs))
    try:
        with classifier, writer, messages.progress(len(inputs), hidden=watching) as progress:
            for record in classifier.classify_each(inputs, labelled):
                writer.write(record)
                counts.add(record)
                progress.advance(failed=record.error is not None)
                _tell(record, messages, shown=watching)
                if _too_many(counts.summary.failed, fail_fast, max_failures, messages):
                    break
    except (KeyboardInterrupt, SystemExit):
        messages.info(str(counts))
        raise
    if len(inputs) != 1 or counts.summary.failed:
        messages.info(str(counts))
    if counts.summary.done == 0:
        return 1
    return SOME_FAILED if counts.summary.failed else 0


def _tell_specialists(classifier: Classifier, labelled: Labelled, messages: Messages) -> None:
    """Which labels a specialist decides among, or, where it is alone, which are far from all that it was trained on."""
    from zsar_cli.engine.ensemble import JointLabelled
    from zsar_cli.models.base import Specialist

    names = labelled.labels.names
    if not isinstance(labelled, JointLabelled):
        model = classifier.members[0].model
        known = model.knows(labelled.labels.labels) if isinstance(model, Specialist) else None
        if known is not None and not known.all():
            far = [name for name, one in zip(names, known, strict=True) if not one]
            messages.warning(f"far from all that {model.name} was trained on: {', '.join(far)}")
        return
    for member, known in zip(classifier.members, labelled.known, strict=True):
        near = [name for name, one in zip(names, known, strict=True) if one] if known is not None else None
        if near is not None and len(near) > 1:
            messages.info(f"{member.model.name} decides among: {', '.join(near)}")
        elif near is not None:
            messages.warning(f"{member.model.name} knows {', '.join(near) or 'none'} of the labels and decides nothing")


def _too_many(failed: int, fail_fast: bool, allowed: int | None, messages: Messages) -> bool:
    """Whether the job has to stop, and why."""
    if fail_fast and failed:
        messages.error("stopped at the first failure (--fail-fast)")
        return True
    if allowed is not None and failed > allowed:
        messages.error(f"stopped: {failed} failed, --max-failures allows {allowed}")
        return True
    return False


def _tell(record: VideoRecord, messages: Messages, shown: bool) -> None:
    """Name failures and damage on stderr, unless the same screen shows them already."""
    if record.error is not None and not shown:
        by = f" ({record.error.decoder})" if record.error.decoder else ""
        messages.error(f"{record.path}: {record.error.stage} failed{by}: {record.error.reason}")
    elif record.partial is not None and not shown:
        messages.warning(f"{record.path}: only {record.partial.share:.0%} was read: {record.partial.reason}")
    elif record.predictions:
        messages.detail(f"{record.path}: {record.predictions[0].label}")


@dataclass
class _Counts:
    """The last line of a job. A path where nothing was found is no video."""

    given: int
    summary: Summary = field(default_factory=Summary)
    absent: int = 0

    def add(self, record: VideoRecord) -> None:
        self.summary = self.summary.plus(record)
        self.absent += record.error is not None and record.error.stage == "find"

    def __str__(self) -> str:
        """Empty where there was no video at all: the errors have said so."""
        summary, videos = self.summary, self.given - self.absent
        if videos == 0:
            return ""
        failed = summary.failed - self.absent
        parts = [f"{summary.done} classified"]
        parts += [f"{summary.partial} of them only in part"] if summary.partial else []
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{self.given - summary.total} not tried"] if self.given > summary.total else []
        nothing = f"; nothing was found for {self.absent} path{'s' * (self.absent != 1)}" if self.absent else ""
        return f"{videos} video{'s' * (videos != 1)}: {', '.join(parts)}{nothing}"
