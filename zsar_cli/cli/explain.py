"""`zsar explain`: which seen classes compose each label, and what the model will confuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, page, show
from zsar_cli.cli.engine import check_languages, open_one, read_labels
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.report.escaping import json_text, printable

if TYPE_CHECKING:
    from rich.console import Console

    from zsar_cli.transfer.explanation import Explanation

__all__ = ["explain"]

FORMATS = ("table", "json")
PAIRS_SHOWN = 20  # a table of thousands of pairs helps nobody; JSON has them all

REMARKS = {
    "seen": "is the seen class {nearest}: ",
    "near": "is nearly the seen class {nearest} (cosine {cosine:.2f}): ",
    "composed": "",
    "unrelated": "[yellow]no related seen class[/], nearest {nearest} (cosine {cosine:.2f}): ",
}

TopK = Annotated[int, option("--top-k", "Seen classes to name for each label.", "-k", panel=options.OUTPUT, min=1)]
Format = Annotated[str, option("--format", "table or json.", "-f", panel=options.OUTPUT, metavar="NAME")]


@options.grouped
def explain(
    labels: options.Labels = None,
    label: options.LabelNames = None,
    config: options.Config = None,
    *,
    models: options.ModelOptions,
    top_k: TopK = 5,
    format: Format = "table",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Show what composes each label, and which are alike.

    Names the seen classes in each label's prototype, pairs of labels that can hardly be told apart, and labels nothing
    is related to. No video is read.

    Example: zsar explain --labels actions.txt
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format}: unknown; allowed: {', '.join(FORMATS)}")
    messages = Messages(quiet, verbose)
    label_set = read_labels(labels, label, messages)
    classifier = open_one(messages, models)
    check_languages(classifier, label_set, messages)
    explanation = classifier.explain(label_set, top_k)
    if format == "json":
        show(json_text(explanation.to_dict(), indent=2))
    else:
        show(_table(explanation))


def _table(explanation: Explanation) -> str:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("label", overflow="fold")
    table.add_column("composed of (weight)", overflow="fold", ratio=1)
    for item in explanation.labels:
        mixture = ", ".join(f"{part.seen} {part.weight:.2f}" for part in item.components)
        remark = REMARKS[item.kind].format(nearest=_shown(item.nearest), cosine=item.cosine)
        table.add_row(_shown(item.label), remark + _shown(mixture))
    console = page(soft_wrap=False)
    with console.capture() as capture:
        console.print(table)
        counts = explanation.counts
        console.print(
            f"\n{counts['seen']} of {len(explanation.labels)} labels are seen classes and {counts['near']} nearly so; "
            f"{counts['composed'] + counts['unrelated']} are unseen"
        )
        _print_alike(console, explanation)
        if explanation.unrelated:
            console.print(f"\n[bold]no related seen class[/]: {_shown(', '.join(explanation.unrelated))}")
            console.print("  their scores mean little; another wording or --prototypes may help")
    return capture.get().rstrip("\n")


def _print_alike(console: Console, explanation: Explanation) -> None:
    if explanation.alike is None:
        console.print("\n[bold]hard to tell apart[/]: not looked for among so many labels")
        return
    if explanation.alike:
        console.print("\n[bold]hard to tell apart[/] (cosine of their prototypes)")
    for pair in explanation.alike[:PAIRS_SHOWN]:
        console.print(f"  {pair.cosine:.3f}  {_shown(pair.first)} | {_shown(pair.second)}")
    if (more := len(explanation.alike) - PAIRS_SHOWN) > 0:
        console.print(f"  and {more} more pairs (--format json lists them)")


def _shown(text: str) -> str:
    """Text from elsewhere within the markup of a page."""
    from rich.markup import escape

    return escape(printable(text))
