"""`zsar evaluate`: the field's protocols on a labelled data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, show
from zsar_cli.cli.datasets import DatasetPath, FolderNames, score_videos, truth_of
from zsar_cli.cli.engine import check_languages, open_classifier, read_labels
from zsar_cli.cli.guard import SOME_FAILED
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.labels import some_of
from zsar_cli.report.escaping import json_text, printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zsar_cli.data.dataset import Dataset
    from zsar_cli.engine.classifier import Classifier
    from zsar_cli.errors import InputError

__all__ = ["check_report", "evaluate", "write_report"]

PROTOCOLS = ("all", "half")
TRANSFERS = {  # weights of the estimators: transfer, ConSE, text
    "none": (0.0, 0.0, 1.0),
    "conse": (0.0, 1.0, 0.0),
    "relatedness": (1.0, 0.0, 0.0),
}
PROTOCOL = "Protocol"
BEST = 5  # labels named for each video; the similarities to all are there as well
NAMED = 10  # classes of a run that the table names

Protocol = Annotated[
    str,
    option("--protocol", "all: every class competes; half: --runs random halves of the classes (E2E's 50/50).",
           panel=PROTOCOL, metavar="NAME"),
]  # fmt: skip
Runs = Annotated[int, option("--runs", "Random halves to draw.", panel=PROTOCOL, min=1)]
Seed = Annotated[int, option("--seed", "Of the first half; the next run takes the next seed.", panel=PROTOCOL, min=0)]
Unseen = Annotated[
    Path | None, option("--unseen", "Label file: measure on these classes only (TruZe, a Kinetics split, ...).",
                        panel=PROTOCOL, metavar="FILE"),
]  # fmt: skip
Seen = Annotated[
    Path | None,
    option("--seen", "Label file of classes the model was trained on: adds generalised zero-shot over seen and unseen.",
           panel=PROTOCOL, metavar="FILE"),
]  # fmt: skip
Labels = Annotated[
    Path | None,
    option("--labels", "Label file: these names compete too, beside the classes of the videos.", "-l", panel=PROTOCOL,
           metavar="FILE"),
]  # fmt: skip
Split = Annotated[
    Path | None,
    option("--split", "Official test list: UCF101's testlist file, or HMDB51's folder of split files.", panel=PROTOCOL,
           metavar="PATH"),
]  # fmt: skip
SplitNumber = Annotated[int, option("--split-number", "Which of HMDB51's splits.", panel=PROTOCOL, min=1)]
Transfer = Annotated[
    str,
    option("--transfer", "blend (as classify), relatedness, conse, or none: the text tower alone.", panel=PROTOCOL,
           metavar="NAME"),
]  # fmt: skip
Plots = Annotated[
    Path | None, option("--plots", "Folder for confusion.png and per_class.png.", panel=options.OUTPUT, metavar="DIR")
]


@options.grouped
def evaluate(
    dataset: DatasetPath,
    names: FolderNames = None,
    config: options.Config = None,
    protocol: Protocol = "all",
    runs: Runs = 10,
    seed: Seed = 0,
    labels: Labels = None,
    unseen: Unseen = None,
    seen: Seen = None,
    split: Split = None,
    split_number: SplitNumber = 1,
    transfer: Transfer = "blend",
    *,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    output: options.OutputFile = None,
    overwrite: options.Overwrite = False,
    plots: Plots = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Measure how well labelled videos are classified.

    Top-1, top-5, mean per class, spread over runs, hubness. The table goes to stdout; -o writes JSON with everything
    needed to repeat the measurement.

    Example: zsar evaluate my_classes/ --protocol half --runs 10 -o measured.json
    """
    messages = Messages(quiet, verbose)
    _check(protocol, transfer, labels is not None)
    check_report(output, overwrite)
    if plots is not None:
        from zsar_cli.report.plots import check_plots

        check_plots(plots)
    data = _choose(dataset, names, seen, unseen, split, split_number)
    if labels is not None:
        data = data.among(read_labels(labels, None, messages))
    if protocol == "half" and len(data.classes) < 4:
        raise UsageError(f"--protocol half needs at least 4 classes, the data set has {len(data.classes)}")
    seen_classes = _seen_classes(data, seen) if seen is not None else None
    classifier = open_classifier(messages, models, compute, reading)
    _set_transfer(classifier, transfer, data)
    check_languages(classifier, data.classes, messages)
    if unseen is not None:
        _tell_seen(classifier, data, messages)
    (similarity,), failures = score_videos(classifier, data, [classifier.prepare(data.classes)], messages)
    report = _measure(similarity, data, protocol, runs, seed, seen_classes)
    report["setting"] = {
        "dataset": str(dataset), "split": str(split) if split else None, "transfer": transfer,
        "classes": list(data.classes.names), "run": classifier.describe(data.classes).to_dict(),
        "failed": [{"path": item.path, "stage": item.stage, "reason": item.reason} for item in failures],
    }  # fmt: skip
    report["confusion"] = _confusion(similarity, data)
    report["videos"] = _rows(similarity, data, failures)
    _print_table(report, len(failures))
    if output is not None:
        write_report(output, overwrite, report)
    if plots is not None:
        _draw(plots, similarity, data)
    for failure in failures:
        messages.error(str(failure))
    return SOME_FAILED if failures else 0


def _check(protocol: str, transfer: str, more: bool) -> None:
    """Raises UsageError for a name that is none, and where `more` labels than the classes are given to halves."""
    if protocol not in PROTOCOLS:
        raise UsageError(f"--protocol {protocol}: unknown; allowed: {', '.join(PROTOCOLS)}")
    if transfer != "blend" and transfer not in TRANSFERS:
        raise UsageError(f"--transfer {transfer}: unknown; allowed: blend, {', '.join(TRANSFERS)}")
    if more and protocol == "half":
        raise UsageError("--labels: --protocol half draws from the classes of the videos alone; leave one of them out")


def _tell_seen(classifier: Classifier, data: Dataset, messages: Messages) -> None:
    """Classes that are called unseen, but were trained on."""
    from zsar_cli.labels import readable

    for member in classifier.members:
        trained = {readable(name).casefold() for name in (member.bank.labels if member.bank is not None else ())}
        if names := [label.name for label in data.classes if label.text.casefold() in trained]:
            messages.warning(f"not unseen, {member.model.name} was trained on: {', '.join(names)}")


def _choose(
    source: Path, names: Path | None, seen: Path | None, unseen: Path | None, split: Path | None, number: int
) -> Dataset:
    """The data set with only the asked-for classes and videos."""
    from zsar_cli.data.dataset import read_dataset, read_split
    from zsar_cli.labels import LabelSet

    data = read_dataset(source, names)
    if unseen is not None:
        wanted = LabelSet.read(unseen)
        if seen is not None:
            wanted = LabelSet.from_names([*LabelSet.read(seen), *wanted])
        data = data.only(wanted)
    return data.listed(read_split(split, number)) if split is not None else data


def _set_transfer(classifier: Classifier, name: str, data: Dataset) -> None:
    """Let one estimator score alone. Raises UsageError for a model that has not got it."""
    from dataclasses import replace

    if name == "blend":
        return
    by_transfer, by_conse, by_text = TRANSFERS[name]
    for member in classifier.members:
        if by_text and member.model.encode_labels(data.classes.labels[:1]) is None:
            raise UsageError(f"--transfer none: the model '{member.model.name}' has no text tower")
        if not by_text and member.bank is None:
            raise UsageError(f"--transfer {name}: the model '{member.model.name}' has no bank of seen classes")
        member.transfer = replace(
            member.transfer, transfer_weight=by_transfer, conse_weight=by_conse, text_weight=by_text
        )


def _measure(
    similarity: NDArray[np.float64], data: Dataset, protocol: str, runs: int, seed: int, seen: NDArray[np.int64] | None
) -> dict[str, Any]:
    import numpy as np

    from zsar_cli.evaluation import measures as evaluation

    names, truth = list(data.classes.names), truth_of(data)
    chosen: list[evaluation.Indices] = [np.arange(len(names))]
    if protocol == "all":
        measures = [evaluation.measure(similarity, truth)]
    else:
        chosen = evaluation.half_of_the_classes(len(names), runs, seed)
        measures = [evaluation.measure(*evaluation.restrict(similarity, truth, classes)) for classes in chosen]
    report: dict[str, Any] = {
        "schema": "zsar.evaluation/1",
        "protocol": protocol,
        "seed": seed if protocol == "half" else None,
        "runs": [
            {**one.to_dict(), "seed": seed + run if protocol == "half" else None, "labels": [names[i] for i in classes]}
            for run, (one, classes) in enumerate(zip(measures, chosen, strict=True))
        ],
        "mean_and_std": {name: list(pair) for name, pair in evaluation.mean_and_std(measures).items()},
        "hubness": evaluation.hubness(similarity),
        "per_class": evaluation.per_class(similarity, truth, names),
        "generalised": None,
    }
    if seen is not None:
        apart = evaluation.generalised(similarity, truth, seen)
        report["generalised"] = {"seen": apart.seen, "unseen": apart.unseen, "harmonic": apart.harmonic}
    return report


def _seen_classes(data: Dataset, seen: Path) -> NDArray[np.int64]:
    """Indices of the classes that a label file names.

    Raises:
        UsageError: no video is of them, or every video is.
    """
    import numpy as np

    from zsar_cli.evaluation.measures import seen_side
    from zsar_cli.labels import LabelSet

    readings = {label.text.casefold() for label in LabelSet.read(seen)}
    rows = [index for index, label in enumerate(data.classes) if label.text.casefold() in readings]
    indices = np.array(rows, dtype=np.int64)
    seen_side(truth_of(data), indices)
    return indices


def _confusion(similarity: NDArray[np.float64], data: Dataset) -> list[list[int]]:
    from zsar_cli.evaluation.measures import confusion

    table: list[list[int]] = confusion(similarity, truth_of(data)).tolist()
    return table


def _rows(similarity: NDArray[np.float64], data: Dataset, failures: Sequence[InputError]) -> list[dict[str, Any]]:
    """One mapping a video: its similarity to every class, from which all else can be computed again."""
    names, rows, failed = data.classes.names, [], iter(failures)
    for item, values in zip(data.items, similarity.tolist(), strict=True):
        row: dict[str, Any] = {
            "path": item.path,
            "start": item.start,
            "end": item.end,
            "truth": item.label,
            "predictions": [],
            "similarity": None,
            "error": None,
        }
        if values[0] == -math.inf:
            failure = next(failed)
            row["error"] = {"stage": failure.stage, "reason": failure.reason, "decoder": failure.decoder}
        else:
            exact = [float(f"{value:.9g}") for value in values]  # nine digits tell all float32 apart
            best = sorted(range(len(names)), key=lambda index: -values[index])[:BEST]
            row["predictions"] = [{"label": names[index], "similarity": exact[index]} for index in best]
            row["similarity"] = exact
        rows.append(row)
    return rows


def _print_table(report: dict[str, Any], failed: int) -> None:
    runs = report["runs"]
    first = runs[0]
    counts = sorted({run["videos"] for run in runs})
    videos = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    suffix = f", {len(runs)} random halves from seed {report['seed']}" if report["protocol"] == "half" else ""
    suffix += f"; {failed} videos could not be used and count as wrong" if failed else ""
    lines = [f"{first['classes']} classes, {videos} videos{suffix}"]
    for title, name in (
        ("top-1", "top1"), ("top-5", "top5"),
        ("mean per class top-1", "mean_per_class_top1"), ("mean per class top-5", "mean_per_class_top5"),
    ):  # fmt: skip
        mean, std = report["mean_and_std"][name]
        spread = f" +- {std:.1%}" if len(runs) > 1 else ""
        lines.append(f"  {title:24}{mean:7.1%}{spread}")
    lines.append(f"  {'chance':24}{1 / first['classes']:7.1%}")
    lines.append(f"  {'hubness (skewness of N5)':24}{report['hubness']:8.2f}")
    for name, value in (report["generalised"] or {}).items():
        lines.append(f"  {'generalised, ' + name:24}{value:7.1%}")
    for run in runs if report["protocol"] == "half" else ():
        names = some_of(list(map(printable, run["labels"])), NAMED)
        lines.append(f"  seed {run['seed']}: top-1 {run['top1']:.1%} of {run['videos']} videos of {names}")
    show("\n".join(lines))


def check_report(target: Path | None, overwrite: bool) -> None:
    """Refuse what `write_report` could not write, before any work. Raises UsageError or OutputError."""
    from zsar_cli.report.output import check_target

    if target is not None and target.suffix != ".json":
        raise UsageError(f"{target}: the measurement is written as JSON; give a name that ends in .json")
    check_target(target, overwrite)


def write_report(target: Path, overwrite: bool, report: dict[str, Any]) -> None:
    """Write a mapping as one JSON document. Raises OutputError."""
    from zsar_cli.report.output import write_text

    write_text(target, overwrite, _document(report))


def _document(report: dict[str, Any]) -> str:
    """JSON with a line for each key, and for each item of a list: thousands of rows stay readable."""
    parts = []
    for key, value in report.items():
        lines = ",\n".join(map(json_text, value)) if isinstance(value, list) else None
        parts.append(f'"{key}": ' + (json_text(value) if lines is None else f"[\n{lines}\n]"))
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _draw(folder: Path, similarity: NDArray[np.float64], data: Dataset) -> None:
    from zsar_cli.evaluation import measures as evaluation
    from zsar_cli.report.plots import draw_confusion, draw_per_class

    names, truth = list(data.classes.names), truth_of(data)
    draw_confusion(evaluation.confusion(similarity, truth), names, folder / "confusion.png")
    draw_per_class(evaluation.per_class(similarity, truth, names), folder / "per_class.png")
