"""`zsar library`: window embeddings of many videos in a folder, to be asked again and again."""

from __future__ import annotations

import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, Progressing, show
from zsar_cli.cli.engine import in_windows, open_classifier
from zsar_cli.cli.guard import SOME_FAILED, guarded
from zsar_cli.cli.jobs import Paths
from zsar_cli.cli.options import option
from zsar_cli.cli.pages import Commands
from zsar_cli.errors import InputError, UsageError
from zsar_cli.report.escaping import printable

if TYPE_CHECKING:
    from zsar_cli.engine.adding import Outcome
    from zsar_cli.engine.classifier import Classifier
    from zsar_cli.store.library import Library

__all__ = ["Folder", "app"]

app = Commands(help="Embed videos once, to ask them again and again.")

Folder = Annotated[Path, typer.Argument(help="Folder of the library.", metavar="LIB")]
Part = Annotated[
    str | None,
    option("--shard", "Take only the i-th of n parts of the videos, for n processes or machines: i/n.", metavar="I/N"),
]
Prune = Annotated[bool, option("--prune", "Then take out what lay under the paths and is there no more.")]
Again = Annotated[bool, option("--again", "Try videos that failed before once more.")]

SCALE = "Many machines"
Engine = Annotated[str, option("--engine", "local or ray.", panel=SCALE, metavar="NAME")]
Address = Annotated[
    str | None,
    option("--address", "Of a Ray cluster, or auto for the one of this machine.", panel=SCALE, metavar="HOST:PORT",
           show_default="one is started for the job"),
]  # fmt: skip
Actors = Annotated[
    int | None,
    option("--actors", "Processes of Ray that read and embed.", panel=SCALE, min=1,
           show_default="as many as there are processors for"),
]  # fmt: skip
Cpus = Annotated[float, option("--cpus", "Processors of each.", panel=SCALE)]
Gpus = Annotated[float, option("--gpus", "GPUs of each, such as 0.5.", panel=SCALE)]


@dataclass(frozen=True)
class ScaleOptions:
    """Where the work is done."""

    engine: Engine = "local"
    address: Address = None
    actors: Actors = None
    cpus: Cpus = 2.0
    gpus: Gpus = 0.0

    def check(self) -> None:
        """Raises UsageError: a value cannot be, or is for Ray alone."""
        if self.engine not in ("local", "ray"):
            raise UsageError(f"--engine {self.engine}: unknown; allowed: local, ray")
        if self.engine == "local" and self != ScaleOptions():
            raise UsageError("--address, --actors, --cpus and --gpus say what is asked of Ray: give --engine ray too")
        if self.cpus <= 0 or self.gpus < 0:
            raise UsageError(f"--cpus {self.cpus:g} --gpus {self.gpus:g}: processors must be above 0, GPUs 0 or more")


@options.grouped
def add(
    library: Folder,
    paths: Paths,
    config: options.Config = None,
    *,
    shard: Part = None,
    prune: Prune = False,
    again: Again = False,
    model: options.ModelNames = None,
    seen_labels: options.SeenLabels = None,
    compute: options.ComputeOptions,
    reading: options.VideoOptions,
    scale: ScaleOptions,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> int:
    """Read videos and keep their embeddings in a library, which is made where there is none.

    What is in it already is not read again, wherever it lies by now; what changed is replaced. What failed before is
    counted and left alone, unless by --again; the exit code speaks of this run. A job that was killed is gone on with
    by the same command, and several may add at once. Which models, and which windows of a video, is settled when the
    library is made.

    Example: zsar library add films.lib films/
    """
    from zsar_cli.data.inputs import find_inputs
    from zsar_cli.store.library import Library
    from zsar_cli.store.library_spec import is_library

    messages = Messages(quiet, verbose)
    mine = _part(shard)
    scale.check()
    inputs = [item for item in find_inputs(paths, sys.stdin) if not isinstance(item, str) or mine(item)]
    there = Library(library) if is_library(library) else None
    absent = [item for item in inputs if isinstance(item, InputError)]
    if there is None and inputs and len(absent) == len(inputs):  # nothing is made of nothing
        for error in absent:
            messages.error(str(error))
        return 1
    chosen = options.ModelOptions(model=model, seen_labels=seen_labels)
    classifier = open_classifier(messages, chosen, compute, reading if there else in_windows(reading), there)
    from zsar_cli.engine.adding import make_library

    with classifier:
        into = there or make_library(library, classifier)
        counts = _counted(_outcomes(into, classifier, inputs, scale, again), len(inputs), messages)
    into.forget()
    if prune and absent:
        messages.warning("--prune: nothing is taken out, because not all of the paths were found; is a disk missing?")
    elif prune:
        counts["taken out"] = _prune(into, paths)
    return _ended(library, counts, messages)


def _ended(library: Path, counts: Counter[str], messages: Messages) -> int:
    """Say what became of the videos; the exit code is that of this run, not of what failed before."""
    told = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    again = "; --again tries once more what failed" if counts["failed before"] else ""
    messages.info(f"{library}: {told or 'nothing to add'}{again}")
    if not counts["failed"]:
        return 0
    return 1 if counts["failed"] == counts.total() else SOME_FAILED


def _outcomes(
    into: Library, classifier: Classifier, inputs: Sequence[str | InputError], scale: ScaleOptions, again: bool
) -> Generator[Outcome, None, None]:
    """What becomes of each input, which is added here or on a cluster."""
    if scale.engine == "local":
        from zsar_cli.engine.adding import add_videos

        return add_videos(into, classifier, inputs, again)
    from zsar_cli.scale.ray_engine import RaySettings, add_on_ray

    assert classifier.spec is not None
    settings = RaySettings(scale.address, scale.actors, scale.cpus, scale.gpus)
    return add_on_ray(into.folder, classifier.spec, inputs, settings, again)


def _counted(outcomes: Generator[Outcome, None, None], total: int, messages: Messages) -> Counter[str]:
    counts: Counter[str] = Counter(dict.fromkeys(("added", "known", "copy", "moved", "failed before", "failed"), 0))
    try:
        with messages.progress(total) as progress:
            _count(outcomes, counts, progress, messages)
    except (KeyboardInterrupt, SystemExit):
        messages.info(f"interrupted; {counts['added']} added and kept")
        raise
    finally:
        outcomes.close()
    return counts


def _count(
    outcomes: Iterable[Outcome], counts: Counter[str], progress: Progressing, messages: Messages
) -> None:
    for outcome in outcomes:
        counts[outcome.what] += 1
        progress.advance(failed=outcome.error is not None)
        if outcome.error is not None:
            messages.error(str(outcome.error))
        else:
            messages.detail(f"{outcome.path}: {outcome.what}")


def _part(text: str | None) -> Callable[[str], bool]:
    """Which paths are in the i-th of n parts; by the path alone, so that it does not matter who finds what first.

    Raises:
        UsageError: it is no part.
    """
    if text is None:
        return lambda path: True
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise UsageError(f"--shard {text}: write the part and their number, such as 1/8 up to 8/8")
    return lambda path: zlib.crc32(os.fsencode(os.path.abspath(path))) % int(parts) == int(number) - 1


def _prune(library: Library, folders: Sequence[str]) -> int:
    import numpy as np

    videos = library.videos
    absent = np.array([not os.path.exists(path) for path in videos.paths], bool)
    return library.remove(videos.under(folders) & absent)


def info(library: Folder) -> None:
    """Say what a library holds.

    Example: zsar library info films.lib
    """
    from zsar_cli.store.library import Library

    kept = Library(library)
    videos, spec = kept.videos, kept.spec
    files = [file for file in kept.shards.iterdir() if file.is_file()]
    failed = int(videos.failed.sum())
    lines = [
        ("models", ", ".join(f"{one.name} ({one.fingerprint}, {one.width} numbers)" for one in spec.models)),
        ("frames", ", ".join(f"{name} {value}" for name, value in spec.sampling.items()) or "each model's own"),
        ("decoder", spec.decoder),
        ("videos", f"{len(videos) - failed}" + (f", and {failed} that failed" if failed else "")),
        ("windows", f"{int(videos.counts.sum())}"),
        ("size", f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB in {len(files)} files"),
    ]
    show("\n".join(f"{name:8} {printable(value)}" for name, value in lines))
    for path, bad in zip(videos.paths, videos.failed.tolist(), strict=True):
        if bad:
            show(f"failed   {printable(path)}")


Gone = Annotated[list[str], typer.Argument(help="Videos or folders, there or not.", metavar="PATH")]


def remove(library: Folder, paths: Gone) -> int:
    """Take videos out of a library. The files themselves are left alone.

    Example: zsar library remove films.lib films/private/
    """
    from zsar_cli.store.library import Library

    kept = Library(library)
    messages = Messages()
    for path in paths:
        if not kept.videos.under([path]).any():
            messages.error(f"{path}: nothing in {library} lies there")
    count = kept.remove(kept.videos.under(paths))
    messages.info(f"{library}: {count} taken out")
    return 0 if count else 1


def verify(library: Folder) -> int:
    """Read all of a library and compare its check sums.

    Example: zsar library verify films.lib
    """
    from zsar_cli.store.library import Library

    kept = Library(library)
    messages = Messages()
    bad = 0
    for problem in kept.problems():
        messages.error(problem)
        bad += 1
    if not bad:
        messages.info(f"{library}: {len(kept.videos)} videos, all in order")
    return 1 if bad else 0


Others = Annotated[list[Path], typer.Argument(help="Libraries, which stay as they are.", metavar="OTHER")]


def merge(library: Folder, others: Others) -> None:
    """Take all that is in other libraries into one, which is made where there is none.

    Example: zsar library merge all.lib part-1.lib part-2.lib
    """
    from zsar_cli.store.library import Library
    from zsar_cli.store.library_spec import is_library

    sources = [Library(other) for other in others]
    first = Library(library) if is_library(library) else sources[0]
    for source in sources:  # before anything is made
        first.spec.require(source.spec, f"{source.folder} does not fit: {first.folder}")
    kept = Library.make(library, first.spec)
    for source in sources:
        kept.take(source)
    Messages().info(f"{library}: {len(kept.videos)} videos")


Target = Annotated[
    Path, option("--output", "A .parquet or .npz file; one row a window.", "-o", panel=options.OUTPUT, metavar="FILE")
]


def export(library: Folder, output: Target, overwrite: options.Overwrite = False) -> None:
    """Write the vectors of a library to one file, for other tools.

    Example: zsar library export films.lib -o films.parquet
    """
    from zsar_cli.report.vectors import write_vectors
    from zsar_cli.store.library import Library

    write_vectors(Library(library), output, overwrite)


for _command in (add, info, remove, verify, export, merge):
    app.command(_command.__name__)(guarded(_command))
