"""Videos of the field's data sets by their official lists: which are where, and which are missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from zsar_cli.data.dataset import read_dataset, split_lines
from zsar_cli.data.inputs import find_inputs
from zsar_cli.data.protocols import ClassList
from zsar_cli.data.tables import DELIMITERS, read_cells
from zsar_cli.data.timed import read_truth
from zsar_cli.errors import InputError, UsageError

__all__ = ["SPLITS", "Prepared", "Video", "by_database", "by_folders", "by_kinetics", "by_lists", "in_order"]

SPLITS = 3  # that UCF101 and HMDB51 have
_SIDES = {"train": "1", "test": "2"}  # HMDB51 writes 0 for neither


class Video(NamedTuple):
    """A video of a class, or the part of it from `start` to `end` seconds."""

    path: Path
    label: str
    start: float | None = None
    end: float | None = None


class Prepared(NamedTuple):
    """What an official list names: the videos that are there, and those that are not by their names in it."""

    videos: list[Video]
    missing: list[str]


def by_folders(classes: ClassList, folder: Path) -> Prepared:
    """All videos of a folder with one folder per class.

    Raises:
        UsageError: a folder is no class of the data set, or as `read_dataset`.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; give the one that holds the data set's videos")
    items = read_dataset(folder).items
    known = {label: classes.label_of(label, str(folder)) for label in {item.label for item in items}}
    return Prepared([Video(Path(item.path), known[item.label]) for item in items], [])


def by_lists(classes: ClassList, folder: Path, lists: Path, number: int, part: str) -> Prepared:
    """The videos of one side of an official split of UCF101 or HMDB51.

    Args:
        folder: holds one folder of videos per class; a video is known by its class and its name without the suffix.
        lists: "ucfTrainTestlist", of files "trainlist01.txt" with lines "Class/video.avi", or
            "testTrainMulti_7030_splits", of files "<class>_test_split1.txt" with lines "video.avi 1".
        number: 1, 2 or 3.
        part: train or test.

    Raises:
        UsageError: there is no such split, a list cannot be read, or two videos are of one class and name.
    """
    if number not in range(1, SPLITS + 1):
        raise UsageError(f"--split {number}: {classes.name} has the splits 1, 2 and 3")
    if part not in _SIDES:
        raise UsageError(f"--part {part}: an official split of {classes.name} has the parts train, test")
    read = _of_ucf101 if classes.name == "ucf101" else _of_hmdb51
    there: dict[tuple[str, str], Path] = {}
    for video in by_folders(classes, folder).videos:
        place = video.label, video.path.stem
        if place in there:
            raise _twice(there[place], video.path)
        there[place] = video.path
    wanted = list(read(classes, lists, number, part))
    videos = [Video(there[label, stem], label) for label, stem, _ in wanted if (label, stem) in there]
    return Prepared(videos, [written for label, stem, written in wanted if (label, stem) not in there])


def by_database(classes: ClassList, folder: Path, database: Path, subset: str | None) -> Prepared:
    """The annotated parts of the videos of ActivityNet, each a `Video`; those of no length are left out.

    Args:
        folder: where, at any depth, the videos "v_ID" or "ID" lie, with any suffix.
        database: "activity_net.v1-3.min.json".
        subset: training, validation or testing; None takes all.

    Raises:
        UsageError: the database cannot be read, has an unknown class, or two files are of one video.
    """
    files, videos, missing = _Files(folder), [], []
    for name, parts in read_truth(database, subset).items():
        path = files.find(f"v_{name}", name) if parts else None
        if parts and path is None:
            missing.append(name)
        for one in parts:
            label = classes.label_of(one.label, f"{database}, {name}")
            if path is not None and one.start < one.end:
                videos.append(Video(path, label, one.start, one.end))
    return Prepared(videos, missing)


def by_kinetics(classes: ClassList, folder: Path, table: Path, subset: str | None, untrimmed: bool) -> Prepared:
    """The videos of Kinetics that its table lists.

    Args:
        folder: where, at any depth, the videos "ID_000010_000020" or "ID" lie, with any suffix.
        table: .csv with the columns label, youtube_id, time_start, time_end and, for a subset, split.
        subset: what must stand under `split`; None takes all.
        untrimmed: what is named "ID" is a whole video, of which the part from start to end is meant.

    Raises:
        UsageError: the table cannot be read, has an unknown class or no row of the subset, two files are of one video,
            or two rows mean one trimmed video.
    """
    if table.suffix.lower() not in DELIMITERS:
        raise UsageError(f"{table}: the lists of Kinetics are .csv files, such as train.csv")
    columns = ("label", "youtube_id", "time_start", "time_end", *(["split"] if subset is not None else []))
    files = _Files(folder)
    videos: list[Video] = []
    missing: list[str] = []
    meant: dict[Path, str] = {}
    rows = [row for row in read_cells(table, columns) if subset is None or row[1]["split"] == subset]
    if not rows:
        raise UsageError(f"{table}: has no row" + (f" of the split {subset!r}" if subset is not None else ""))
    for place, cells in rows:
        label = classes.label_of(cells["label"] or "", place)
        name, start, end = cells["youtube_id"], *(_seconds(cells[key], place) for key in ("time_start", "time_end"))
        if not 0 <= start < end:
            raise UsageError(f"{place}: from {start} to {end} is no part of a video")
        exact = f"{name}_{start:06d}_{end:06d}"
        path = files.find(exact, name)
        if path is None:
            missing.append(exact)
        elif untrimmed and path.stem == name:
            videos.append(Video(path, label, start, end))
        elif path in meant:
            raise UsageError(f"{place}: {path} is meant by {meant[path]} too; give --untrimmed if it is a whole video")
        else:
            meant[path] = place
            videos.append(Video(path, label))
    return Prepared(videos, missing)


class _Files:
    """The videos below a folder, by their names without suffix."""

    def __init__(self, folder: Path) -> None:
        self._paths: dict[str, list[Path]] = {}
        for found in find_inputs([str(folder)]):
            if isinstance(found, InputError):
                raise UsageError(str(found))
            self._paths.setdefault(Path(found).stem, []).append(Path(found))

    def find(self, *names: str) -> Path | None:
        """The file of the first name that there is. Raises UsageError if there are two."""
        for name in names:
            if paths := self._paths.get(name):
                if len(paths) > 1:
                    raise _twice(*paths[:2])
                return paths[0]
        return None


_Wanted = Iterator[tuple[str, str, str]]  # the label and the stem of a video, and both as the list writes them


def _of_ucf101(classes: ClassList, lists: Path, number: int, part: str) -> _Wanted:
    file = lists / f"{part}list{number:02}.txt"
    for name, _ in split_lines(file):
        folder, _, video = name.rpartition("/")
        yield classes.label_of(folder, f"{file}, {name}"), Path(video).stem, name


def _of_hmdb51(classes: ClassList, lists: Path, number: int, part: str) -> _Wanted:
    for one in classes.classes:
        file = lists / f"{one.folder}_test_split{number}.txt"
        for name, side in split_lines(file):
            if side not in ("0", *_SIDES.values()):
                raise UsageError(f"{file}: {name!r} must be followed by 0, 1 or 2")
            if side == _SIDES[part]:
                yield one.label, Path(name).stem, f"{one.folder}/{name}"


def _seconds(text: str, place: str) -> int:
    try:
        return int(float(text))
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{place}: {text!r} is no time in seconds") from None


def _twice(first: Path, second: Path) -> UsageError:
    return UsageError(f"{first} and {second} are of one name; leave one out")


def in_order(classes: ClassList, videos: Iterable[Video], names: Sequence[str]) -> list[Video]:
    """The videos of the named classes, by class in the order of the list, then by path and time."""
    place = {one.label: index for index, one in enumerate(classes.classes)}
    kept = set(names)
    chosen = (video for video in videos if video.label in kept)
    return sorted(chosen, key=lambda video: (place[video.label], str(video.path), video.start or 0.0))
