"""What `zsar classify` and `zsar localize` share: the work on many videos, and the messages about it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, Progressing, one_place
from zsar_cli.cli.engine import check_languages, open_classifier, see_examples
from zsar_cli.cli.guard import SOME_FAILED
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.records import UNKNOWN, Summary
from zsar_cli.report.escaping import printable

if TYPE_CHECKING:
    from zsar_cli.data.examples import Example
    from zsar_cli.engine.classifier import Classifier, Labelled, Views
    from zsar_cli.errors import InputError
    from zsar_cli.labels import LabelSet
    from zsar_cli.records import Run, VideoRecord
    from zsar_cli.report.writer import RecordWriter
    from zsar_cli.store.library import Library

__all__ = [
    "OutputOptions", "Paths", "StopOptions", "find_videos", "format_option", "make_ready", "run_job", "videos_of",
]  # fmt: skip

ANSWERS = 10  # that are counted in the end
FAR_APART = 20.0  # seconds between frames from which on a video may hold much that no frame shows

Paths = Annotated[
    list[str],
    typer.Argument(
        help="Videos, folders (searched to their depths), folders of frames, GIFs, quoted patterns, @list of paths, "
        "or - to read paths from stdin.",
        metavar="PATH",
    ),
]
FailFast = Annotated[bool, option("--fail-fast", "Stop at the first video that fails.", panel=options.OUTPUT)]
MaxFailures = Annotated[
    int | None,
    option("--max-failures", "Stop once more than this many videos failed.", show_default="no limit",
           panel=options.OUTPUT, min=0),
]  # fmt: skip


@dataclass(frozen=True)
class StopOptions:
    """When a job is given up."""

    fail_fast: FailFast = False
    max_failures: MaxFailures = None


Resume = Annotated[
    bool,
    option(
        "--resume",
        "Go on with the output file, as .jsonl: skip what is done in it, add what is new, try again what failed.",
        panel=options.OUTPUT,
    ),
]


@dataclass(frozen=True)
class OutputOptions:
    """Where results go, and what becomes of those that are there."""

    output: options.OutputFile = None
    overwrite: options.Overwrite = False
    resume: Resume = False

    def keep(self, models: options.ModelOptions) -> options.ModelOptions:
        """The models of what is gone on with, where none were named.

        Raises:
            UsageError: the file holds no results.
        """
        from zsar_cli.engine.choosing import is_auto
        from zsar_cli.report.resume import models_before

        if not self.resume or self.output is None or not is_auto(models.model):
            return models
        return replace(models, model=models_before(self.output) or models.model)

    def check(self, format: str, paths: Sequence[str]) -> None:
        """Refuse at once what could not be written after hours of work on these paths.

        Raises:
            UsageError: the format cannot be resumed.
            OutputError: see `check_target`.
        """
        from zsar_cli.report.formats import is_folder
        from zsar_cli.report.output import check_target
        from zsar_cli.report.resume import check_resume
        from zsar_cli.store.library_spec import is_library

        if self.resume:
            check_resume(format, self.output, self.overwrite)
        if not is_folder(format, self.output):
            check_target(self.output, self.overwrite or self.resume, resumable=not any(map(is_library, paths)))

    def open(
        self, format: str, run: Run, inputs: Sequence[str | InputError], classifier: Classifier, messages: Messages,
        top_k: int | None = None,
    ) -> tuple[RecordWriter, Sequence[str | InputError]]:  # fmt: skip
        """The writer, and the inputs that are to be done.

        Raises:
            ZsarError: see `open_writer` and `ResumedWriter`.
        """
        from zsar_cli.report.formats import is_folder, open_folder, open_writer
        from zsar_cli.report.resume import ResumedWriter

        if self.output is not None and is_folder(format, self.output):
            return open_folder(format, self.output, overwrite=self.overwrite, run=run), inputs
        if not self.resume or self.output is None:
            return open_writer(format, self.output, overwrite=self.overwrite, run=run, top_k=top_k), inputs
        pipeline = classifier.pipeline
        writer = ResumedWriter(self.output, run, top_k, pipeline.settings.hashes)
        with messages.progress(len(inputs), what="files compared") as progress:

            def content_of(path: str) -> str | None:
                progress.advance()
                return pipeline.content(path)

            todo = writer.lacking(inputs, content_of)
        for note in writer.notes:
            messages.warning(note)
        messages.info(f"{self.output}: {writer.before} of {len(inputs)} done before" if writer.before else "")
        return writer, todo


def format_option(names: Sequence[str]) -> Any:
    """--format, one of the names."""
    return option(
        "--format",
        f"{', '.join(names[:-1])} or {names[-1]}.",
        "-f",
        show_default="by the output file's suffix, else table",
        panel=options.OUTPUT,
        metavar="NAME",
    )


def make_ready(
    labels: LabelSet, examples: Sequence[Example], models: options.ModelOptions, compute: options.ComputeOptions,
    reading: options.VideoOptions, decision: options.DecisionOptions, messages: Messages,
    library: Library | None = None,
) -> tuple[Classifier, Labelled, Run]:  # fmt: skip
    """The classifier, the labels made ready for it, and what its results depend on; says what the user should know.

    Raises:
        ZsarError: see `open_classifier` and `see_examples`.
    """
    classifier = open_classifier(messages, models, compute, reading, library, decision)
    if classifier.deciding.reject is not None and any(text.casefold() == UNKNOWN for text in labels.texts):
        raise UsageError(f"--reject answers {UNKNOWN!r}, which is a label of yours too; give that another name")
    check_languages(classifier, labels, messages)
    seen = see_examples(classifier, examples, messages)
    labelled = classifier.prepare(labels, seen)
    _tell_specialists(classifier, labelled, messages)
    run = classifier.describe(labels, seen)
    if library is not None:
        from zsar_cli.store.library_spec import on_library

        run = on_library(run)
    return classifier, labelled, run


def find_videos(paths: Sequence[str], resume: bool = False) -> tuple[Library | None, Sequence[str | InputError]]:
    """The library that is the one path, and what is in it; or None, and the inputs behind the paths.

    Raises:
        UsageError: a library is empty, or one of several paths, or a job on one is to `resume`; or as `find_inputs`.
    """
    from zsar_cli.data.inputs import find_inputs
    from zsar_cli.store.library_spec import is_library

    libraries = [path for path in paths if is_library(path)]
    if not libraries:
        return None, find_inputs(paths, sys.stdin)
    if len(paths) > 1:
        raise UsageError(f"{libraries[0]} is a library: give it alone, or 'zsar library add' to it what is to be in it")
    if resume:
        raise UsageError(f"--resume: {paths[0]} is a library, of which all is done anew in seconds; take --overwrite")
    from zsar_cli.store.library import Library

    library = Library(Path(paths[0])).filled()
    return library, library.videos.paths


def videos_of(
    classifier: Classifier, library: Library | None, inputs: Sequence[str | InputError]
) -> Iterator[Views | InputError]:
    """Embedded videos, out of the library where there is one."""
    if library is None:
        return classifier.embed(inputs)
    from zsar_cli.engine.stored import stored_videos

    return stored_videos(library, classifier)


def run_job(
    records: Iterator[VideoRecord],
    inputs: Sequence[str | InputError],
    classifier: Classifier,
    writer: RecordWriter,
    stop: StopOptions,
    messages: Messages,
    done: str,
    endless: bool = False,
) -> int:
    """Write each record as it is ready; returns the exit code.

    Args:
        records: one for each of the inputs, in their order, and before it perhaps others of the same video (see
            `VideoRecord.goes_on`); what the writer has from before is not among them.
        classifier, writer: closed in the end.
        done: what a video is that did not fail, such as "classified".
        endless: whether inputs are added as they arrive, so that nobody knows how far the job is.
    """
    hidden = writer.is_standard and one_place()  # results scroll by among the messages
    total = None if endless else len(inputs)
    counts = _Counts(inputs, done, writer.before)
    try:
        with classifier, writer, messages.progress(total, hidden) as progress:
            # A function of its own: CPython 3.13 runs no `__exit__` for an interrupt at the jump of a loop in a `with`.
            _write_each(records, writer, counts, stop, messages, progress, hidden)
    except (KeyboardInterrupt, SystemExit):
        messages.info(str(counts))
        raise
    _tell_answers(counts, messages)
    if counts.given != 1 or counts.summary.failed:
        messages.info(str(counts))
    if counts.summary.done + counts.before == 0:
        return 1
    return SOME_FAILED if counts.summary.failed else 0


def _tell_answers(counts: _Counts, messages: Messages) -> None:
    for line in counts.by_answer() if counts.summary.done > 1 else ():
        messages.info(line)


def _write_each(
    records: Iterator[VideoRecord], writer: RecordWriter, counts: _Counts, stop: StopOptions,
    messages: Messages, progress: Progressing, shown: bool,
) -> None:  # fmt: skip
    found = False  # of a video that is being read, whether a segment was written
    for record in records:
        writer.write(record)
        if record.goes_on:
            found = True
            continue
        counts.add(record)
        progress.advance(failed=record.error is not None)
        _tell(record, messages, shown, found)
        found = False
        counts.thin += _tell_thin(record, messages, again=counts.thin > 0)
        if _too_many(counts.summary.failed, stop, messages):
            return


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


def _too_many(failed: int, stop: StopOptions, messages: Messages) -> bool:
    """Whether the job has to stop, and why."""
    allowed = stop.max_failures
    if stop.fail_fast and failed:
        messages.error("stopped at the first failure (--fail-fast)")
        return True
    if allowed is not None and failed > allowed:
        messages.error(f"stopped: {failed} failed, --max-failures allows {allowed}")
        return True
    return False


def _tell(record: VideoRecord, messages: Messages, shown: bool, found: bool) -> None:
    """Name failures and damage on stderr, unless the same screen shows them already; and where nothing was `found`."""
    if record.error is not None and not shown:
        by = f" ({record.error.decoder})" if record.error.decoder else ""
        messages.error(f"{record.path}: {record.error.stage} failed{by}: {record.error.reason}")
    elif record.partial is not None and not shown:
        messages.warning(f"{record.path}: only {record.partial.share:.0%} was read: {record.partial.reason}")
    elif record.segments is not None and not (record.segments or found or shown):
        from zsar_cli.engine.localizing import FEWEST

        why, facts = "nothing stands out from the rest of it (--onset, --window)", record.facts
        if facts is not None and record.windows is not None and record.windows < FEWEST:
            why = facts.notes[-1]
        messages.info(f"{record.path}: no segment: {why}")
    elif record.predictions:
        messages.detail(f"{record.path}: {record.predictions[0].label}")


def _tell_thin(record: VideoRecord, messages: Messages, again: bool) -> bool:
    """Say, once a job, where a few frames stand for a long video; whether they do."""
    facts = record.facts
    duration = facts.info.duration if facts is not None else None
    if facts is None or duration is None or facts.sampling.window is not None:
        return False
    frames = facts.sampling.windows * facts.sampling.frames
    thin = duration / frames > FAR_APART
    if thin and not again:
        span = f"{duration / 60:.0f} minutes" if duration < 7200 else f"{duration / 3600:.1f} hours"
        messages.warning(f"{record.path}: {frames} frames stand for {span}; try zsar localize, or --windows")
    return thin


@dataclass
class _Counts:
    """The last line of a job. A path where nothing was found is no video."""

    inputs: Sequence[str | InputError]  # more may come while they are counted
    done: str
    before: int
    summary: Summary = field(default_factory=Summary)
    absent: int = 0
    thin: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)

    @property
    def given(self) -> int:
        """How many inputs there are, those done before among them."""
        return len(self.inputs) + self.before

    def add(self, record: VideoRecord) -> None:
        self.summary = self.summary.plus(record)
        if (decision := record.decision) is not None and record.segments is None:
            self.answers[decision.answer] += 1
            self.doubtful[decision.answer] += decision.doubtful
        self.absent += record.error is not None and record.error.stage == "find"

    def by_answer(self) -> Iterator[str]:
        """Lines: how many videos have which answer, the most frequent first."""
        names = {answer: printable(answer) for answer, _ in self.answers.most_common(ANSWERS)}
        width = max(map(len, names.values()), default=0)
        for answer, name in names.items():
            doubtful = f", {self.doubtful[answer]} doubtful (?)" if self.doubtful[answer] else ""
            yield f"  {name:{width}}  {self.answers[answer]:>4}{doubtful}"
        if (rest := len(self.answers) - ANSWERS) > 0:
            doubtful = f"{self.doubtful.total()} of {self.answers.total()} videos are doubtful (?)"
            yield f"  and {rest} more labels; {doubtful}"

    def __str__(self) -> str:
        """Empty where there was no video at all: the errors have said so."""
        summary, videos = self.summary, self.given - self.absent
        if videos == 0:
            return ""
        failed = summary.failed - self.absent
        parts = [f"{summary.done} {self.done}"]
        parts += [f"{summary.partial} of them only in part"] if summary.partial else []
        parts += [f"{failed} failed"] if failed else []
        parts += [f"{self.before} done before"] if self.before else []
        untried = self.given - self.before - summary.total
        parts += [f"{untried} not tried"] if untried else []
        nothing = f"; nothing was found for {self.absent} path{'s' * (self.absent != 1)}" if self.absent else ""
        return f"{videos} video{'s' * (videos != 1)}: {', '.join(parts)}{nothing}"
