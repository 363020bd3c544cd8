"""`zsar calibrate`: what answers are worth, measured on labelled videos, and a file that says so in results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, show
from zsar_cli.cli.datasets import DatasetPath, FolderNames, score_videos, truth_of
from zsar_cli.cli.engine import check_languages, open_classifier, read_labels
from zsar_cli.cli.guard import SOME_FAILED
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError

if TYPE_CHECKING:
    from zsar_cli.evaluation.calibration import Calibrated
    from zsar_cli.evaluation.rejection import Rejection

__all__ = ["calibrate"]

FEW = 50  # videos
Target = Annotated[
    Path | None,
    option("--output", "The .yaml file to write, for --calibration; without it the measurement is shown only.", "-o",
           panel=options.OUTPUT, metavar="FILE"),
]  # fmt: skip
Runs = Annotated[int, option("--runs", "Random halves of the classes to take away.", min=1)]
Seed = Annotated[int, option("--seed", "Of the first half, of lists of labels and of folds.", min=0)]


@options.grouped
def calibrate(
    dataset: DatasetPath,
    names: FolderNames = None,
    labels: options.Labels = None,
    config: options.Config = None,
    runs: Runs = 20,
    seed: Seed = 0,
    *,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    output: Target = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Measure how far answers can be trusted.

    Fits the probabilities that 'zsar classify --calibration FILE' shows, and says how true they are of classes the fit
    has not seen; and how well each signal tells videos that show none of the labels. --labels adds names that no video
    has.

    Example: zsar calibrate mine/ -o calibration.yaml
    """
    import numpy as np
    import torch

    from zsar_cli.data.dataset import read_dataset
    from zsar_cli.engine.background import cosine_to_background
    from zsar_cli.engine.calibrations import calibration_text
    from zsar_cli.evaluation import calibration as fitting
    from zsar_cli.evaluation.measures import half_of_the_classes
    from zsar_cli.evaluation.rejection import Background, measure_rejection
    from zsar_cli.report.output import check_target, write_text

    messages = Messages(quiet, verbose)
    if output is not None and output.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{output}: a calibration is written as YAML; give a name that ends in .yaml")
    check_target(output, overwrite)
    data = read_dataset(dataset, names)
    if labels is not None:
        data = data.among(read_labels(labels, None, messages))
    classifier = open_classifier(messages, models, compute, reading)
    check_languages(classifier, data.classes, messages)
    against = (classifier.prepare(data.classes), classifier.background)
    (own, others), failures = score_videos(classifier, data, against, messages)
    usable = np.isfinite(own).all(axis=1)
    similarity, truth = torch.from_numpy(own[usable]), truth_of(data)[usable]
    cosine = cosine_to_background(classifier.members[0].model.text, data.classes)
    background = Background(torch.from_numpy(others[usable]), cosine.double())
    calibration, measured = fitting.calibrate(similarity, truth, background, classifier.sharpness, seed)
    halves = half_of_the_classes(len(data.classes), runs, seed)
    show(_table(measured, measure_rejection(similarity, truth, background, classifier.sharpness, halves), runs))
    if output is not None:
        write_text(output, overwrite, calibration_text(classifier, calibration, measured.to_dict()))
        if measured.error_after > measured.error_before or measured.videos < FEW:
            messages.warning(
                f"{output}: {measured.videos} videos are few for five numbers; probabilities by it may be less true "
                "than shares"
            )
        messages.info(f"{output}: give it by --calibration with the same --model and settings")
    for failure in failures:
        messages.error(str(failure))
    return SOME_FAILED if failures else 0


def _table(measured: Calibrated, signals: dict[str, Rejection], runs: int) -> str:
    lines = [
        f"{measured.videos} videos of {measured.classes} classes; all of it on classes that the fit had not seen",
        "",
        "is the answer right: expected calibration error, 0 is best",
        f"  {'share among all labels':32}{measured.error_before:6.3f}",
        f"  {'probability':32}{measured.error_after:6.3f}",
        f"  {'probability, lists of any length':32}{measured.error_lists:6.3f}",
        "",
        f"none of the labels: --reject auto keeps {measured.kept:.0%} of the videos that show one of them "
        f"and finds {measured.found:.0%} of the others",
        "",
        f"{f'half of the classes taken away, {runs} runs':40}{'AUROC':>12}{'FPR95':>16}",
    ]
    for name, one in signals.items():
        auroc, fpr95 = (f"{mean:.1%} +- {std:.1%}" for mean, std in one)
        lines.append(f"  {name:34}{auroc:>16}{fpr95:>16}")
    return "\n".join(lines)
