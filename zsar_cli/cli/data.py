"""`zsar data`: the protocols of the field as files that the other commands take."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsar_cli.cli import options
from zsar_cli.cli.console import Messages, show
from zsar_cli.cli.guard import SOME_FAILED, guarded
from zsar_cli.cli.options import option
from zsar_cli.cli.pages import Commands
from zsar_cli.errors import UsageError
from zsar_cli.labels import some_of

if TYPE_CHECKING:
    from zsar_cli.data.official import Prepared, Video
    from zsar_cli.data.protocols import ClassList
    from zsar_cli.data.strict import Nearest
    from zsar_cli.labels import LabelSet

__all__ = ["app"]

app = Commands(help="Data sets of the field: class lists, official splits.")

NAMED = 5  # missing videos or classes that a warning names
TEST = "test"

Name = Annotated[str, typer.Argument(help="Data set: a name of 'zsar data list'.", metavar="NAME")]
AnyName = Annotated[
    str | None, typer.Argument(help="Data set, whose natural names are shown as a label file.", metavar="NAME")
]
Split = Annotated[
    str | None,
    option("--split", "Official split 1, 2 or 3; truze, er1, er2, er3, or half:SEED, which split the classes.",
           metavar="NAME", show_default="none"),
]  # fmt: skip
ClassSplit = Annotated[
    str | None,
    option("--split", "truze, er1, er2, er3 or half:SEED.", metavar="NAME", show_default="all classes"),
]
Part = Annotated[
    str | None,
    option("--part", "Of the split: train, val or test.", metavar="NAME", show_default="test"),
]
Folder = Annotated[Path, typer.Argument(help="Folder of the videos.", metavar="FOLDER")]
Lists = Annotated[
    Path | None,
    option("--splits", "Official lists: UCF101's ucfTrainTestlist, HMDB51's testTrainMulti_7030_splits, ActivityNet's "
           "JSON, Kinetics' CSV.", metavar="PATH"),
]  # fmt: skip
Subset = Annotated[
    str | None,
    option("--subset", "Only this subset of ActivityNet's JSON, or split of Kinetics' CSV.", metavar="NAME",
           show_default="all"),
]  # fmt: skip
Only = Annotated[
    Path | None, option("--only", "Label file: only these classes, such as those of 'zsar data seen'.", metavar="FILE")
]
Untrimmed = Annotated[
    bool, option("--untrimmed", "Kinetics' files named ID.mp4 are whole videos: write start and end.")
]
Table = Annotated[
    Path, option("--output", "The .csv table to write: a DATASET for other commands.", "-o", panel=options.OUTPUT,
                 metavar="FILE"),
]  # fmt: skip
LabelsTo = Annotated[
    Path | None, option("--labels-to", "Also write the classes as a label file.", panel=options.OUTPUT, metavar="FILE")
]
MissingTo = Annotated[
    Path | None, option("--missing-to", "Also write the names of missing videos.", panel=options.OUTPUT, metavar="FILE")
]
Tests = Annotated[
    list[str] | None,
    option("--test", "Data set or label file to be tested on; may be given several times.", metavar="NAME"),
]
Within = Annotated[
    float, option("--within", "Cosine distance of two names up to which they count as near.", metavar="DISTANCE")
]
DroppedTo = Annotated[
    Path | None,
    option("--dropped-to", "Also write the near classes, for 'zsar train --unseen'.", panel=options.OUTPUT,
           metavar="FILE"),
]  # fmt: skip


def list_(name: AnyName = None, split: ClassSplit = None, part: Part = None) -> None:
    """Show the data sets whose classes are known, or the classes of one.

    Example: zsar data list ucf101 --split truze > unseen.txt
    """
    from zsar_cli.data.protocols import HALF, LISTS, class_list

    if name is None:
        if split is not None or part is not None:
            raise UsageError("--split and --part are of one data set: give its NAME")
        lists = map(class_list, LISTS)
        rows = [(one.name, len(one.classes), ", ".join([*one.splits, f"{HALF}SEED"])) for one in lists]
        show("\n".join(f"{known:12}{count:4} classes  {splits}" for known, count, splits in rows))
        return
    classes = class_list(name)
    if split is None and part is not None:
        raise UsageError(f"--part {part}: is of a split; give --split")
    names = _side(classes, split, part or TEST) if split is not None else classes.labels.names
    show("\n".join([*(f"# {line}" for line in classes.about), *names]))


def prepare(
    name: Name,
    folder: Folder,
    output: Table,
    splits: Lists = None,
    split: Split = None,
    part: Part = None,
    subset: Subset = None,
    only: Only = None,
    untrimmed: Untrimmed = False,
    labels_to: LabelsTo = None,
    missing_to: MissingTo = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Write a table of a data set's videos, by its official lists.

    zsar train, evaluate and calibrate take it. Classes get natural names. What a list names and the folder has not is
    counted, and the exit code is 3.

    Example: zsar data prepare ucf101 UCF-101/ --splits ucfTrainTestlist/ --split 1 -o test1.csv
    """
    from zsar_cli.data.official import in_order
    from zsar_cli.data.protocols import class_list
    from zsar_cli.report.output import check_target, write_text

    messages, classes = Messages(quiet), class_list(name)
    if output.suffix.lower() != ".csv":
        raise UsageError(f"{output}: the table is written as CSV; give a name that ends in .csv")
    for target in (output, labels_to, missing_to):
        check_target(target, overwrite)
    _check(classes, splits, split, part, subset, untrimmed)
    names = classes.labels.names
    if split is not None and not _is_official(classes, split):
        names = _side(classes, split, part or TEST)
    if only is not None:
        names = _only(classes, names, only)
    prepared = _find(classes, folder, splits, split, part or TEST, subset, untrimmed)
    videos = in_order(classes, prepared.videos, names)
    if not videos:
        missing = f"; missing are {some_of(prepared.missing, NAMED)}" if prepared.missing else ""
        raise UsageError(f"{folder}: holds no video of the {len(names)} classes that are asked for{missing}")
    write_text(output, overwrite, _table(videos, output.parent))
    if labels_to is not None:
        write_text(labels_to, overwrite, _lines(names))
    if missing_to is not None:
        write_text(missing_to, overwrite, _lines(prepared.missing))
    found = {video.label for video in videos}
    messages.info(f"{output}: {len(videos)} rows of {len(found)} classes")
    if absent := [label for label in names if label not in found]:
        messages.warning(f"no video of {len(absent)} of {len(names)} classes: {some_of(absent, NAMED)}")
    if prepared.missing:
        missing = some_of(prepared.missing, NAMED)
        messages.warning(f"{len(prepared.missing)} videos that the lists name are missing: {missing}")
    return SOME_FAILED if absent or prepared.missing else 0


def seen(
    name: Name,
    test: Tests = None,
    within: Within = 0.05,
    output: options.OutputFile = None,
    dropped_to: DroppedTo = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write which classes may be trained on, so that a test stays zero-shot.

    Classes whose name is near the name of a class of a test are left out. Names are compared by the packaged sentence
    encoder; the file says which it was.

    Example: zsar data seen kinetics700 --test ucf101 --test hmdb51 -o seen.txt
    """
    from zsar_cli.data.protocols import class_list
    from zsar_cli.data.strict import nearest_tests
    from zsar_cli.report.output import check_target, write_text
    from zsar_cli.text.minilm import minilm

    messages = Messages(quiet)
    if not test:
        raise UsageError("no test: give --test NAME once for each data set or label file")
    if not 0 <= within <= 2:
        raise UsageError(f"--within {within}: a cosine distance is from 0 to 2")
    for target in (output, dropped_to):
        if target is not None and target.suffix.lower() != ".txt":
            raise UsageError(f"{target}: the names are written a line each; give a name that ends in .txt")
        check_target(target, overwrite)
    classes, tests = class_list(name), [(one, _names(one)) for one in test]
    together = tests[0][1].with_names([label for _, labels in tests[1:] for label in labels])
    nearest = sorted(nearest_tests(minilm(), classes.labels, together), key=lambda one: one.label.casefold())
    kept = [one.label for one in nearest if one.distance > within]
    near = [one for one in nearest if one.distance <= within]
    if not kept:
        raise UsageError(f"--within {within}: every class of {name} is near a class of a test; none is left")
    text = _lines([*_header(classes, tests, within, near, len(kept)), *kept])
    if output is None:
        show(text.rstrip("\n"))
    else:
        write_text(output, overwrite, text)
    if dropped_to is not None:
        write_text(dropped_to, overwrite, _lines([one.label for one in near]))
    messages.info(f"{len(kept)} of {len(nearest)} classes of {name} are seen, {len(near)} are near a test")


def _names(source: str) -> LabelSet:
    """The natural names of a data set, or those of a label file."""
    from zsar_cli.data.protocols import LISTS, class_list
    from zsar_cli.labels import LabelSet

    if source in LISTS:
        return class_list(source).labels
    if not Path(source).exists():
        raise UsageError(f"--test {source}: neither a label file nor one of {', '.join(LISTS)}")
    return LabelSet.read(source)


def _header(
    classes: ClassList, tests: Sequence[tuple[str, LabelSet]], within: float, near: Sequence[Nearest], kept: int
) -> list[str]:
    """What the list depends on, and what it leaves out, as comments of a label file."""
    from zsar_cli.text.minilm import MINILM

    return [
        f"# {kept} of the {len(classes.classes)} classes of {classes.name} ({classes.labels.digest})",
        "# without those whose name is near the name of a class of",
        *(f"#   {source}, {len(labels)} classes ({labels.digest})" for source, labels in tests),
        f"# near: the cosine distance of the names is at most {within:g}, or they have the same letters",
        f"# encoder: {MINILM.source}, sha256 {MINILM.sha256}",
        "# (the paper of this rule, arXiv 2003.01455, takes mean word2vec vectors: its list is another)",
        f"# left out are {len(near)}:",
        *(f"#   {one.label}: {one.distance:.4f} from {one.test}" for one in near),
    ]


def _side(classes: ClassList, split: str, part: str) -> tuple[str, ...]:
    from zsar_cli.evaluation.measures import half_of_the_classes

    return classes.side(split, part, lambda count, seed: [int(one) for one in half_of_the_classes(count, 1, seed)[0]])


def _is_official(classes: ClassList, split: str) -> bool:
    """Whether it is a split of videos, not of classes."""
    return split.isdigit() and classes.name in ("ucf101", "hmdb51")


def _check(
    classes: ClassList, splits: Path | None, split: str | None, part: str | None, subset: str | None, untrimmed: bool
) -> None:
    """Refuse options that belong to other data sets, or lack the one that they need."""
    name, official = classes.name, split is not None and _is_official(classes, split)
    kinetics = name.startswith("kinetics")
    if part is not None and split is None:
        raise UsageError(f"--part {part}: is of a split; give --split")
    if name in ("ucf101", "hmdb51") and official != (splits is not None):
        if official:
            raise UsageError(f"--split {split}: is read from the official lists; give their folder by --splits")
        raise UsageError(f"--splits {splits}: holds the splits of {name}; give --split 1, 2 or 3")
    if name == "activitynet" and splits is None:
        raise UsageError("activitynet: when what happens is in its JSON; give it by --splits")
    if subset is not None and (splits is None or not (kinetics or name == "activitynet")):
        raise UsageError(f"--subset {subset}: is of ActivityNet's JSON or Kinetics' CSV; give it by --splits")
    if untrimmed and not (kinetics and splits is not None):
        raise UsageError("--untrimmed: start and end are in Kinetics' CSV; give it by --splits")


def _find(
    classes: ClassList,
    folder: Path,
    splits: Path | None,
    split: str | None,
    part: str,
    subset: str | None,
    untrimmed: bool,
) -> Prepared:
    from zsar_cli.data import official

    if splits is None:
        return official.by_folders(classes, folder)
    if classes.name == "activitynet":
        return official.by_database(classes, folder, splits, subset)
    if classes.name.startswith("kinetics"):
        return official.by_kinetics(classes, folder, splits, subset, untrimmed)
    assert split is not None  # _check has seen to it
    return official.by_lists(classes, folder, splits, int(split), part)


def _only(classes: ClassList, names: Sequence[str], file: Path) -> tuple[str, ...]:
    from zsar_cli.labels import LabelSet

    wanted = {classes.label_of(label.name, str(file)) for label in LabelSet.read(file)}
    return tuple(one for one in names if one in wanted)


def _table(videos: Sequence[Video], beside: Path) -> str:
    """path,label[,start,end]; paths as they are seen from the folder of the table."""
    timed = any(video.start is not None for video in videos)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["path", "label", *(["start", "end"] if timed else [])])
    for video in videos:
        path = Path(os.path.relpath(video.path, beside)).as_posix()
        times = ["" if one is None else f"{one:.12g}" for one in (video.start, video.end)]
        writer.writerow([path, video.label, *(times if timed else [])])
    return stream.getvalue()


def _lines(names: Sequence[str]) -> str:
    return "".join(f"{name}\n" for name in names)


for _name, _command in (("list", list_), ("prepare", prepare), ("seen", seen)):
    app.command(_name)(guarded(_command))
