"""`zsar search`: moments of a library, best first."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages
from zsar_cli.cli.engine import check_languages, open_classifier
from zsar_cli.cli.library import Folder
from zsar_cli.cli.options import option
from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet

if TYPE_CHECKING:
    from zsar_cli.engine.classifier import Classifier
    from zsar_cli.engine.search import Query

__all__ = ["search"]

SEARCH = "Search"
FAST = "the library was read by key frames (--fast): times are off by up to half the distance of two"
NAMED, LEAST = 3, 0.01  # seen classes that are named of a composed prototype, and the weight they need

Words = Annotated[str | None, typer.Argument(help="What happens, in your own words.", metavar="[WORDS]")]
Like = Annotated[
    str | None,
    option("--like", "A video, an image or a part of a video that shows what is sought.", metavar="PATH[@START-END]",
           panel=SEARCH),
]  # fmt: skip
Unlike = Annotated[
    str | None, option("--not", "What must not be the case, in words.", metavar="WORDS", panel=SEARCH)
]
Top = Annotated[int, option("--top", "Moments to show.", "-k", panel=SEARCH, min=1)]
Under = Annotated[
    list[str] | None,
    option("--under", "Only videos in this folder; may be given several times.", metavar="FOLDER", panel=SEARCH),
]
Dedupe = Annotated[bool, option("--dedupe", "Leave out moments that look like a better one.", panel=SEARCH)]
Format = Annotated[
    str | None,
    option("--format", "table or jsonl.", "-f", show_default="by the output file's suffix, else table",
           panel=options.OUTPUT, metavar="NAME"),
]  # fmt: skip


@options.grouped
def search(
    library: Folder,
    words: Words = None,
    config: options.Config = None,
    *,
    like: Like = None,
    unlike: Unlike = None,
    top: Top = 20,
    under: Under = None,
    dedupe: Dedupe = False,
    models: options.ModelOptions,
    compute: options.ComputeOptions,
    format: Format = None,
    output: options.OutputFile = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Find moments in a library, by words or by an example.

    The best moments of all of its videos come first, with z: how far a moment stands above all windows of the library,
    in standard deviations. No video is read but an example.

    Example: zsar search films.lib "someone playing the flute" -o found.jsonl; zsar cut found.jsonl -o cuts/
    """
    from zsar_cli.report.hits import hit_format
    from zsar_cli.report.output import check_target

    messages = Messages(quiet, verbose)
    format = hit_format(format, output)
    check_target(output, overwrite)
    source = _source(like) if like is not None else None
    from zsar_cli.store.library import Library

    kept = Library(library).filled()
    classifier = open_classifier(messages, models, compute, library=kept)
    from zsar_cli.engine.search import Query, SearchSettings
    from zsar_cli.engine.search import search as find
    from zsar_cli.report.hits import write_hits
    from zsar_cli.store.library_spec import on_library

    query = Query(words, source, unlike)
    settings = SearchSettings(top, tuple(under or ()), dedupe)
    with classifier:
        by = _tell(query, classifier, messages)
        hits = find(kept, classifier, query, settings)
    about = {"words": words, "like": like, "not": unlike, "by": by, **asdict(settings)}
    run = on_library(classifier.describe(_labels(query, like)))
    notes = () if kept.spec.exact else (FAST,)
    run = replace(run, settings={**run.settings, "search": about}, notes=(*run.notes, *notes))
    write_hits(hits, about, run, format, output, overwrite)
    for note in notes:
        messages.warning(note)
    if not hits:
        messages.error("nothing was found: no video of the library has windows")
    return 0 if hits else 1


def _source(text: str) -> Any:
    from zsar_cli.data.examples import parse_source

    try:
        return parse_source(text)
    except UsageError as error:
        raise UsageError(f"--like {error}") from None


def _labels(query: Query, like: str | None) -> LabelSet:
    """The words of a query as labels, or else the name of its example."""
    return LabelSet.from_names([words for words in (query.words, query.unlike) if words is not None] or [str(like)])


def _tell(query: Query, classifier: Classifier, messages: Messages) -> dict[str, str]:
    """Say, and return, by what each model looks for the query."""
    if query.words is None:
        return {member.model.name: "example" for member in classifier.members}
    labels = LabelSet.from_names([query.words])
    check_languages(classifier, labels, messages)
    by = {}
    for member in classifier.members:
        labelled = member.prepare(labels)
        by[member.model.name] = "text" if labelled.weights is None else "composed prototype"
        if labelled.weights is not None and member.bank is not None:
            best = labelled.weights[0].topk(min(NAMED, len(member.bank)))
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            named = [f"{member.bank.labels[one]} {weight:.2f}" for weight, one in pairs if weight >= LEAST]
            messages.info(f"{member.model.name} looks for a prototype composed of {', '.join([*named, '...'])}")
        else:
            messages.info(f"{member.model.name} looks for the words by its own text tower")
    return by
