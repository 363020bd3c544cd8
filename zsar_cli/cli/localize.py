"""`zsar localize`: when each of the labels happens in a video."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages
from zsar_cli.cli.engine import in_windows, read_examples, read_labels
from zsar_cli.cli.jobs import (
    OutputOptions,
    Paths,
    StopOptions,
    find_videos,
    format_option,
    make_ready,
    run_job,
    videos_of,
)
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.report.formats import FORMATS, SEGMENT_FORMATS

if TYPE_CHECKING:
    from zsar_cli.transfer.segments import SegmentSettings

__all__ = ["SegmentOptions", "localize"]

SEGMENTS = "Segments"

Format = Annotated[str | None, format_option(FORMATS + SEGMENT_FORMATS)]
Onset = Annotated[
    float,
    option("--onset", "The best scene of a segment scores this: spreads above the label's usual level in the video.",
           panel=SEGMENTS),
]  # fmt: skip
Offset = Annotated[
    float,
    option("--offset", "It lasts over neighbouring scenes of at least this share of its best score.", panel=SEGMENTS),
]
Change = Annotated[
    float,
    option("--change", "How different a scene may look in itself: lower for more and shorter scenes.", panel=SEGMENTS),
]
MinLength = Annotated[float, option("--min-length", "Drop shorter segments.", panel=SEGMENTS, metavar="SECONDS")]
MinGap = Annotated[
    float,
    option("--min-gap", "Fill shorter gaps in a label. Any joins segments that touch.", panel=SEGMENTS,
           metavar="SECONDS"),
]
Pad = Annotated[float, option("--pad", "Time to add on both sides.", panel=SEGMENTS, metavar="SECONDS")]
MaxPerLabel = Annotated[
    int | None,
    option("--max-per-label", "Keep only the best so many segments of a label.", show_default="all", panel=SEGMENTS),
]
Shots = Annotated[
    bool,
    option("--shots", "Begin scenes where the film is cut: for edited film; every frame is read once more for it.",
           panel=SEGMENTS),
]  # fmt: skip
Stream = Annotated[
    bool,
    option("--stream", "Write each segment as soon as it is over, about a minute behind what is read, judged by what "
           "came before it: for long files; as JSON Lines, CSV or TSV, by one model and one process, without the "
           "cache.", panel=SEGMENTS),
]  # fmt: skip
STREAMED = ("jsonl", "csv", "csv-long", "tsv")  # formats that hold segments in any order, a piece at a time


@dataclass(frozen=True)
class SegmentOptions:
    """How segments are found; the defaults are those of `SegmentSettings`."""

    onset: Onset = 2.0
    offset: Offset = 0.5
    change: Change = 0.8
    min_length: MinLength = 0.0
    min_gap: MinGap = 0.0
    pad: Pad = 0.0
    max_per_label: MaxPerLabel = None
    shots: Shots = False

    def settings(self) -> SegmentSettings:
        """As the engine takes them.

        Raises:
            ConfigError: a value cannot be.
        """
        from zsar_cli.transfer.segments import SegmentSettings

        return SegmentSettings(**vars(self))


@options.grouped
def localize(
    paths: Paths,
    labels: options.Labels = None,
    label: options.LabelNames = None,
    like: options.Like = None,
    config: options.Config = None,
    *,
    segments: SegmentOptions,
    stream: Stream = False,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    decision: options.DecisionOptions,
    format: Format = None,
    target: OutputOptions,
    stop: StopOptions,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Say when each of your labels happens in each video.

    A video is divided into scenes that look alike, and a label is found in those where it stands out from the rest of
    the same video; what lasts for most of it is its background.
    Segments of different labels may overlap. Windows last 4 s, one every 2 s, unless --window and --stride tell.
    PATH may be a library (zsar library), and then no file is read.

    Example: zsar localize film.mp4 --labels actions.txt -o segments.jsonl
    """
    from zsar_cli.report.formats import check_format, check_paths, format_for

    messages = Messages(quiet, verbose)
    # All that can be refused is refused before the model is loaded.
    how = segments.settings()
    examples = read_examples(like)
    label_set = read_labels(labels, label, messages, examples)
    format = check_format(format, segments=True) if format else format_for(target.output, segments=True)
    target.check(format, paths)
    library, inputs = find_videos(paths, target.resume)
    if stream:
        _check_stream(how, format, target.resume, library is not None, models, reading, decision)
        reading = replace(reading, workers=1)
    if how.shots and (library is not None or reading.fast):
        raise UsageError(f"--shots compares all frames, and {'a library keeps' if library else '--fast reads'} few")
    named = [item if isinstance(item, str) else item.path for item in inputs]
    check_paths(format, named, target.output, target.overwrite)
    reading = reading if library is not None else in_windows(reading)
    classifier, labelled, run = make_ready(
        label_set, examples, target.keep(models), compute, reading, decision, messages, library
    )
    sampling = classifier.pipeline.settings.sampling
    if (window := sampling.get("window")) is not None:
        whence = "(--window, --stride)" if library is None else "in the library"
        messages.info(f"windows of {window:g} s, one every {sampling.get('stride') or window:g} s {whence}")
    run = replace(run, settings={**run.settings, "segments": asdict(how), **({"stream": True} if stream else {})})
    from zsar_cli.engine.localizing import localize_each, localize_stream
    from zsar_cli.engine.shots import cuts_of

    writer, todo = target.open(format, run, inputs, classifier, messages)
    if stream:
        records = localize_stream(classifier, todo, labelled, how)
        return run_job(records, todo, classifier, writer, stop, messages, "localized")
    videos = videos_of(classifier, library, todo)
    cuts = cuts_of(classifier.pipeline, todo) if how.shots else ()
    records = localize_each(classifier, videos, labelled, how, cuts)
    return run_job(records, todo, classifier, writer, stop, messages, "localized")


def _check_stream(
    how: SegmentSettings, format: str, resume: bool, stored: bool, models: options.ModelOptions,
    reading: options.VideoOptions, decision: options.DecisionOptions,
) -> None:  # fmt: skip
    """Raises UsageError where --stream cannot go with what else was asked for."""
    several = len(models.model or ())
    refused = (
        (format not in STREAMED, f"{format} is written in one piece: give -f or -o one of {', '.join(STREAMED)}"),
        (resume, "--resume goes on behind whole videos, and a stream may end within one"),
        (stored, "a library is read in seconds, and needs none"),
        (how.max_per_label is not None, "--max-per-label compares all segments of a video"),
        (how.shots, "--shots reads all of a video before"),
        (several > 1, f"{several} models may read a video one after the other: name one"),
        ((reading.workers or 1) > 1, f"--workers {reading.workers} would share a video out: one process reads it"),
        (decision != options.DecisionOptions(), "--reject and --calibration are for whole videos"),
    )
    if (why := next((reason for so, reason in refused if so), None)) is not None:
        raise UsageError(f"--stream: {why}")
