"""`zsar export-prototypes`: a model's bank, composed prototypes, or class means of videos, to one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages
from zsar_cli.cli.datasets import DATASET_HELP, FolderNames
from zsar_cli.cli.engine import open_one, read_labels
from zsar_cli.cli.guard import SOME_FAILED
from zsar_cli.cli.options import option
from zsar_cli.errors import PrototypeError, UsageError

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import ZeroShotClassifier
    from zsar_cli.errors import InputError
    from zsar_cli.transfer.bank import PrototypeBank
    from zsar_cli.video.types import Excerpt

__all__ = ["export_prototypes"]

Dataset = Annotated[
    Path | None,
    typer.Argument(help=f"{DATASET_HELP}: write class means.", metavar="DATASET"),
]
Target = Annotated[
    Path, option("--output", "The .safetensors file to write.", "-o", panel=options.OUTPUT, metavar="FILE")
]


@options.grouped
def export_prototypes(
    output: Target,
    dataset: Dataset = None,
    names: FolderNames = None,
    labels: options.Labels = None,
    label: options.LabelNames = None,
    config: options.Config = None,
    *,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Make a prototype file, for example from your videos.

    Every command with --prototypes takes it. With a DATASET, a folder per class or a table: the mean of each class's
    videos. With labels: the prototypes composed for them. With neither: the model's own bank of seen classes.

    Example: zsar export-prototypes my_classes/ -o mine.safetensors
    """
    from zsar_cli.data.dataset import read_dataset
    from zsar_cli.report.output import check_target

    messages = Messages(quiet, verbose)
    if dataset is not None and (labels or label):
        raise UsageError("give a DATASET or labels, not both; --names FILE names the folders of a DATASET")
    if dataset is None and names is not None:
        raise UsageError(f"--names {names}: names the folders of a DATASET; give one")
    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: prototype files end in .safetensors")
    check_target(output, overwrite)
    data = read_dataset(dataset, names) if dataset is not None else None
    label_set = read_labels(labels, label, messages) if labels or label else None
    classifier = open_one(messages, models, compute, reading)
    failures: list[InputError] = []
    if data is not None:
        result, failures = _means(classifier, [(item.source, item.label) for item in data.items], messages)
    else:
        found = classifier.prepare(label_set).prototypes if label_set is not None else classifier.bank
        if found is None:
            raise PrototypeError(f"the model '{classifier.model.name}' has no bank of seen classes; give a DATASET")
        result = found
    result.write(output, overwrite)
    messages.info(f"{output}: {len(result)} classes ({result.kind}) of {result.model}")
    return SOME_FAILED if failures else 0


def _means(
    classifier: ZeroShotClassifier, pairs: list[tuple[str | Excerpt, str]], messages: Messages
) -> tuple[PrototypeBank, list[InputError]]:
    with classifier, messages.progress(len(pairs)) as progress:
        result, failures = classifier.class_means(pairs, done=progress.advance)
    for failure in failures:
        messages.error(str(failure))
    return result, failures
