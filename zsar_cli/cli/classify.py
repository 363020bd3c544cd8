"""`zsar classify`: which of the labels happens in which video."""

from __future__ import annotations

from typing import Annotated

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages
from zsar_cli.cli.engine import read_examples, read_labels
from zsar_cli.cli.jobs import OutputOptions, Paths, StopOptions, find_videos, format_option, make_ready, run_job
from zsar_cli.cli.options import option
from zsar_cli.report.formats import FORMATS

__all__ = ["classify"]

TopK = Annotated[int, option("--top-k", "Labels to show for each video.", "-k", panel=options.OUTPUT, min=1)]
Format = Annotated[str | None, format_option(FORMATS)]


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
    top_k: TopK = 5,
    format: Format = None,
    target: OutputOptions,
    stop: StopOptions,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Say which of your labels happens in each video.

    PATH may be a library (zsar library), and then no file is read.

    Example: zsar classify videos/ --labels actions.txt -o results.jsonl
    """
    from zsar_cli.report.formats import check_format, format_for

    messages = Messages(quiet, verbose)
    # All that can be refused is refused before the model is loaded.
    examples = read_examples(like)
    label_set = read_labels(labels, label, messages, examples)
    format = check_format(format) if format else format_for(target.output)
    target.check(format)
    library, inputs = find_videos(paths, target.resume)
    classifier, labelled, run = make_ready(label_set, examples, models, compute, reading, messages, library)
    if len(label_set) == 1:
        messages.warning(
            "one label alone has nothing to compare with: its score is 1 whatever a video shows; give others as well, "
            "or compare its similarity between videos"
        )
    writer, todo = target.open(format, run, inputs, classifier, messages, top_k)
    if library is not None:
        from zsar_cli.engine.stored import classify_stored

        records = classify_stored(library, classifier, labelled, top_k)
    else:
        records = classifier.classify_each(todo, labelled, top_k)
    return run_job(records, todo, classifier, writer, stop, messages, "classified")
