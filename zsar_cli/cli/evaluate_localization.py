"""`zsar evaluate-localization`: how well segments agree with the truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, show
from zsar_cli.cli.evaluate import check_report, write_report
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.labels import some_of
from zsar_cli.report.escaping import printable

if TYPE_CHECKING:
    from zsar_cli.evaluation.localization import Precision

__all__ = ["evaluate_localization"]

NAMED = 10  # videos or labels in one warning

Results = Annotated[
    Path,
    typer.Argument(
        help="Results of 'zsar localize' as .json, .jsonl or a table, or in ActivityNet's format.", metavar="RESULTS"
    ),
]
Truth = Annotated[
    Path, option("--truth", "Ground truth: ActivityNet's JSON, a .csv or .tsv table (path, start, end, label), or an "
                 "ELAN document (.eaf) or a folder of them. Videos are known by file names without suffix.",
                 metavar="FILE"),
]  # fmt: skip
Subset = Annotated[
    str | None, option("--subset", "Only the videos of this subset of ActivityNet's, such as validation.",
                       metavar="NAME", show_default="all"),
]  # fmt: skip
Tier = Annotated[
    str | None, option("--tier", "Only this tier of ELAN documents.", metavar="NAME", show_default="all")
]
Common = Annotated[
    bool,
    option("--common", "Only the videos that results and truth both have. Otherwise those without results count as "
           "missed, and what is found in those without truth as wrong."),
]  # fmt: skip


def evaluate_localization(
    results: Results,
    truth: Truth,
    subset: Subset = None,
    tier: Tier = None,
    common: Common = False,
    config: options.Config = None,
    output: options.OutputFile = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure how well segments agree with the truth.

    Mean average precision at tIoU 0.3 to 0.95, by ActivityNet's rules. The table goes to stdout; -o writes JSON with
    the average precision of each class.

    Example: zsar evaluate-localization segments.jsonl --truth activity_net.v1-3.json --subset validation
    """
    from zsar_cli.data.timed import read_results, read_truth
    from zsar_cli.evaluation.localization import mean_average_precision

    messages = Messages(quiet)
    check_report(output, overwrite)
    true, found = read_truth(truth, subset, tier), read_results(results)
    left: list[str] = []
    if common:
        left = [*(video for video in true if video not in found), *(video for video in found if video not in true)]
        true, found = ({video: one for video, one in videos.items() if video not in left} for videos in (true, found))
        if not any(true.values()):
            raise UsageError(f"--common: {results} has no video in which {truth} has an annotation")
    precision = mean_average_precision(found, true)
    if precision.ignored:
        messages.warning(f"labels that {truth} does not know count nowhere: {_some(precision.ignored)}")
    if precision.extra:
        messages.warning(f"videos that {truth} does not know count as wrong: {_some(precision.extra)}")
    if absent := [video for video in true if video not in found]:
        messages.warning(f"videos without results count as missed: {_some(absent)}")
    if left:
        messages.info(f"left out, in results or truth alone: {_some(left)}")
    show(_table(precision, len(true)))
    if output is not None:
        write_report(output, overwrite, {**_report(precision, len(true)), "left_out_videos": left})


def _some(names: list[str] | tuple[str, ...]) -> str:
    return some_of(list(map(printable, names)), NAMED)


def _table(precision: Precision, videos: int) -> str:
    from zsar_cli.evaluation.localization import ACTIVITYNET, THUMOS

    segments = sum(precision.segments.values())
    lines = [f"{len(precision.per_class)} classes, {segments} segments in {videos} videos"]
    lines += [f"  mAP at tIoU {at:<18.2f}{precision.mean_at(at):7.1%}" for at in (*THUMOS, 0.75, 0.95)]
    lines.append(f"  {'mean over 0.3:0.1:0.7':30}{precision.mean_over(THUMOS):7.1%}")
    lines.append(f"  {'mean over 0.5:0.05:0.95':30}{precision.mean_over(ACTIVITYNET):7.1%}")
    return "\n".join(lines)


def _report(precision: Precision, videos: int) -> dict[str, Any]:
    """The schema `zsar.localization/1`, but for what was left out."""
    from zsar_cli.evaluation.localization import ACTIVITYNET, THUMOS

    return {
        "schema": "zsar.localization/1",
        "videos": videos,
        "tiou": list(precision.thresholds),
        "map": [precision.mean_at(threshold) for threshold in precision.thresholds],
        "mean_thumos": precision.mean_over(THUMOS),
        "mean_activitynet": precision.mean_over(ACTIVITYNET),
        "per_class": [
            {"label": label, "segments": precision.segments[label], "average_precision": list(values)}
            for label, values in precision.per_class.items()
        ],
        "ignored_labels": list(precision.ignored),
        "extra_videos": list(precision.extra),
    }
