"""`zsar data` on small folders in the layouts of the official data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import Finished

from zsar_cli.data.dataset import read_dataset
from zsar_cli.labels import LabelSet

Here = Callable[..., Finished]
UCF = {"ApplyEyeMakeup": ("v_ApplyEyeMakeup_g01_c01", "v_ApplyEyeMakeup_g08_c01"), "YoYo": ("v_YoYo_g01_c01",)}


def fill(folder: Path, *names: str) -> Path:
    """Empty files: nothing here reads a video."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def rows(table: Path) -> list[list[str]]:
    return [line.split(",") for line in table.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def ucf(tmp_path: Path) -> Path:
    return fill(tmp_path / "UCF-101", *(f"{name}/{video}.avi" for name, videos in UCF.items() for video in videos))


@pytest.fixture
def ucf_lists(tmp_path: Path) -> Path:
    folder = tmp_path / "ucfTrainTestlist"
    folder.mkdir()
    (folder / "classInd.txt").write_text("1 ApplyEyeMakeup\n101 YoYo\n")
    (folder / "testlist01.txt").write_text(
        "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\r\nYoYo/v_YoYo_g01_c01.avi\r\nYoYo/v_YoYo_g02_c01.avi\r\n"
    )
    (folder / "trainlist01.txt").write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n")
    return folder


@pytest.fixture
def hmdb(tmp_path: Path) -> tuple[Path, Path]:
    """The videos, and lists of the first split, in which 0 is neither."""
    folder = fill(tmp_path / "hmdb", "brush_hair/a#1.avi", "brush_hair/b.avi", "brush_hair/c.avi", "wave/a#1.avi")
    lists = tmp_path / "testTrainMulti_7030_splits"
    lists.mkdir()
    from zsar_cli.data.protocols import class_list

    for one in class_list("hmdb51").classes:
        (lists / f"{one.folder}_test_split1.txt").touch()
    (lists / "brush_hair_test_split1.txt").write_text("a#1.avi 1 \nb.avi 2 \nc.avi 0 \n")
    (lists / "wave_test_split1.txt").write_text("a#1.avi 2 \n")
    return folder, lists


def test_lists_are_shown_with_their_splits(zsar_here: Here) -> None:
    shown = zsar_here("data", "list").stdout.splitlines()
    assert shown[0].split() == ["ucf101", "101", "classes", "truze,", "half:SEED"]
    assert len(shown) == 6


def test_the_classes_of_a_side_are_a_label_file(zsar_here: Here, tmp_path: Path) -> None:
    file = tmp_path / "unseen.txt"
    file.write_text(zsar_here("data", "list", "hmdb51", "--split", "truze").stdout, encoding="utf-8")
    labels = LabelSet.read(file)
    assert len(labels) == 22 and "draw sword" in labels.names and labels.notes == ()
    assert len(zsar_here("data", "list", "kinetics400").stdout.splitlines()) > 400


def test_the_videos_of_an_official_split(zsar_here: Here, ucf: Path, ucf_lists: Path, tmp_path: Path) -> None:
    table, missing = tmp_path / "tables" / "test1.csv", tmp_path / "missing.txt"
    table.parent.mkdir()
    ran = zsar_here(
        "data", "prepare", "ucf101", ucf, "--splits", ucf_lists, "--split", "1", "-o", table, "--missing-to", missing,
        code=3,
    )  # fmt: skip
    assert rows(table) == [
        ["path", "label"],
        ["../UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", "apply eye makeup"],
        ["../UCF-101/YoYo/v_YoYo_g01_c01.avi", "yo-yo"],
    ]
    assert "1 videos that the lists name are missing: YoYo/v_YoYo_g02_c01.avi" in ran.stderr
    assert "no video of 99 of 101 classes: apply lipstick" in ran.stderr
    assert missing.read_text() == "YoYo/v_YoYo_g02_c01.avi\n"  # as the list has it
    data = read_dataset(table)  # as the other commands take it
    assert [Path(item.path).is_file() for item in data.items] == [True, True]
    assert data.classes.names == ("apply eye makeup", "yo-yo")
    zsar_here("data", "prepare", "ucf101", ucf, "--splits", ucf_lists, "--split", "1", "--part", "train", "-o", table,
              "--overwrite", code=3)  # fmt: skip
    assert [row[0] for row in rows(table)[1:]] == ["../UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"]


def test_videos_of_one_name_in_two_classes_of_hmdb(zsar_here: Here, hmdb: tuple[Path, Path], tmp_path: Path) -> None:
    folder, lists = hmdb
    table = tmp_path / "t.csv"
    zsar_here("data", "prepare", "hmdb51", folder, "--splits", lists, "--split", "1", "-o", table, code=3)
    assert rows(table)[1:] == [["hmdb/brush_hair/b.avi", "brush hair"], ["hmdb/wave/a#1.avi", "wave"]]
    zsar_here("data", "prepare", "hmdb51", folder, "--splits", lists, "--split", "1", "--part", "train", "-o", table,
              "--overwrite", code=3)  # fmt: skip
    assert rows(table)[1:] == [["hmdb/brush_hair/a#1.avi", "brush hair"]]
    (folder / "brush_hair" / "b.avi").unlink()
    ran = zsar_here("data", "prepare", "hmdb51", folder, "--splits", lists, "--split", "1", "-o", table, "--overwrite",
                    code=3)  # fmt: skip
    assert "1 videos that the lists name are missing: brush_hair/b.avi" in ran.stderr


def test_a_side_of_a_split_of_the_classes(zsar_here: Here, ucf: Path, tmp_path: Path) -> None:
    table, labels, only = tmp_path / "t.csv", tmp_path / "labels.txt", tmp_path / "only.txt"
    zsar_here("data", "prepare", "ucf101", ucf, "--split", "truze", "-o", table, "--labels-to", labels, code=3)
    assert rows(table)[1:] == [["UCF-101/YoYo/v_YoYo_g01_c01.avi", "yo-yo"]]
    assert len(LabelSet.read(labels)) == 31
    only.write_text("# a comment\nApplyEyeMakeup\n")
    zsar_here("data", "prepare", "ucf101", ucf, "--only", only, "-o", table, "--overwrite", code=0)
    assert {row[1] for row in rows(table)[1:]} == {"apply eye makeup"}


def test_activitynet_gives_parts_of_videos(zsar_here: Here, tmp_path: Path) -> None:
    folder = fill(tmp_path / "anet", "v_one.mp4", "deep/two.mkv")
    database = tmp_path / "activity_net.v1-3.min.json"
    part = {"label": "Mooping floor", "segment": [1.5, 4]}
    videos = {
        "one": {"subset": "validation", "annotations": [{"label": "BMX", "segment": [7, 9]}, part]},
        "two": {"subset": "training", "annotations": [part]},
        "gone": {"subset": "validation", "annotations": [part]},
        "empty": {"subset": "validation", "annotations": [{"label": "BMX", "segment": [3, 3]}]},
        "test": {"subset": "testing", "annotations": []},
    }
    database.write_text(json.dumps({"version": "1.3", "database": videos}))
    table = tmp_path / "t.csv"
    ran = zsar_here("data", "prepare", "activitynet", folder, "--splits", database, "-o", table, code=3)
    assert rows(table)[1:] == [
        ["anet/v_one.mp4", "BMX", "7", "9"],
        ["anet/deep/two.mkv", "mopping floor", "1.5", "4"],
        ["anet/v_one.mp4", "mopping floor", "1.5", "4"],
    ]
    assert "2 videos that the lists name are missing: gone, empty" in ran.stderr
    zsar_here("data", "prepare", "activitynet", folder, "--splits", database, "--subset", "validation", "-o", table,
              "--overwrite", code=3)  # fmt: skip
    assert len(rows(table)) == 3
    assert read_dataset(table).items[0].name == "anet/v_one.mp4@7-9"


KINETICS = "label,youtube_id,time_start,time_end,split\n"


@pytest.fixture
def kinetics(tmp_path: Path) -> tuple[Path, Path]:
    folder = fill(tmp_path / "k", "val/-abc_000010_000020.mp4", "val/xyz.mp4")
    table = tmp_path / "validate.csv"
    table.write_text(
        KINETICS + "archery,-abc,10,20,validate\nbull fighting,xyz,5,15,validate\nyoga,gone,0,10,validate\n"
        "zumba,other,0,10,train\n"
    )
    return folder, table


def test_kinetics_by_its_table(zsar_here: Here, kinetics: tuple[Path, Path], tmp_path: Path) -> None:
    folder, lists = kinetics
    table = tmp_path / "t.csv"
    said = ("data", "prepare", "kinetics600", folder, "--splits", lists, "--subset", "validate", "-o", table)
    ran = zsar_here(*said, code=3)
    assert rows(table) == [
        ["path", "label"], ["k/val/-abc_000010_000020.mp4", "archery"], ["k/val/xyz.mp4", "bull fighting"],
    ]  # fmt: skip
    assert "1 videos that the lists name are missing: gone_000000_000010" in ran.stderr
    zsar_here(*said, "--untrimmed", "--overwrite", code=3)
    assert rows(table)[1:] == [
        ["k/val/-abc_000010_000020.mp4", "archery", "", ""], ["k/val/xyz.mp4", "bull fighting", "5", "15"],
    ]  # fmt: skip
    assert [item.start for item in read_dataset(table).items] == [None, 5.0]
    zsar_here(*said, "--split", "er2", "--overwrite", code=3)
    assert rows(table)[1:] == [["k/val/xyz.mp4", "bull fighting"]]  # archery is seen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("ucf101 UCF-101 --splits ucfTrainTestlist --split 4", "--split 4: ucf101 has the splits 1, 2 and 3"),
        ("ucf101 UCF-101 --splits ucfTrainTestlist --split 2", "testlist02.txt: cannot be read as a split file"),
        ("ucf101 UCF-101 --splits ucfTrainTestlist --split 1 --part val", "has the parts train, test"),
        ("ucf101 UCF-101 --splits ucfTrainTestlist", "give --split 1, 2 or 3"),
        ("ucf101 UCF-101 --splits ucfTrainTestlist --split truze", "give --split 1, 2 or 3"),
        ("ucf101 UCF-101 --split 1", "give their folder by --splits"),
        ("ucf101 UCF-101 --split er1", "ucf101 has no such split of its classes; allowed: truze, half:SEED"),
        ("ucf101 UCF-101 --part train", "--part train: is of a split; give --split"),
        ("ucf101 UCF-101 --subset train", "--subset train: is of ActivityNet's JSON or Kinetics' CSV"),
        ("ucf101 UCF-101 --untrimmed", "--untrimmed: start and end are in Kinetics' CSV"),
        ("ucf100 UCF-101", "'ucf100': no list of classes"),
        ("hmdb51 UCF-101", "is no class of hmdb51"),
        ("ucf101 gone", "gone: is no folder"),
        ("activitynet UCF-101", "when what happens is in its JSON; give it by --splits"),
        ("kinetics700 UCF-101 --splits ucfTrainTestlist", "the lists of Kinetics are .csv files"),
    ],
)
def test_what_cannot_be_prepared(
    zsar_here: Here, ucf: Path, ucf_lists: Path, tmp_path: Path, arguments: str, message: str
) -> None:
    ran = zsar_here("data", "prepare", *arguments.split(), "-o", "t.csv", cwd=tmp_path, code=2)
    assert message in ran.prose and not (tmp_path / "t.csv").exists()


def test_an_unknown_class_folder_is_named(zsar_here: Here, ucf: Path, tmp_path: Path) -> None:
    fill(ucf, "ApplyEyeShadow/v.avi")
    ran = zsar_here("data", "prepare", "ucf101", ucf, "-o", tmp_path / "t.csv", code=2)
    assert "'ApplyEyeShadow' is no class of ucf101" in ran.prose


def test_two_videos_of_one_name_are_refused(
    zsar_here: Here, ucf: Path, ucf_lists: Path, kinetics: tuple[Path, Path], tmp_path: Path
) -> None:
    fill(ucf, "YoYo/v_YoYo_g01_c01.mp4")
    said = ("--splits", ucf_lists, "--split", "1", "-o", tmp_path / "t.csv")
    ran = zsar_here("data", "prepare", "ucf101", ucf, *said, code=2)
    assert "v_YoYo_g01_c01.avi and " in ran.prose and "v_YoYo_g01_c01.mp4 are of one name" in ran.prose
    folder, lists = kinetics
    fill(folder, "train/xyz.webm")
    said = ("--splits", lists, "-o", tmp_path / "t.csv")
    assert "are of one name" in zsar_here("data", "prepare", "kinetics600", folder, *said, code=2).prose


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("making noise,xyz,5,15,validate", "'making noise' is no class of kinetics600"),
        ("yoga,xyz,five,15,validate", "line 2: 'five' is no time in seconds"),
        ("yoga,xyz,15,5,validate", "line 2: from 15 to 5 is no part of a video"),
        ("yoga,xyz,5,15,train", "has no row of the split 'validate'"),
        ("yoga,xyz,5,15,validate\nyoga,xyz,25,35,validate", "give --untrimmed if it is a whole video"),
        ("yoga,none,5,15,validate", "holds no video of the 600 classes that are asked for; missing are none_000005"),
    ],
)
def test_tables_of_kinetics_that_cannot_be_used(
    zsar_here: Here, kinetics: tuple[Path, Path], tmp_path: Path, line: str, message: str
) -> None:
    folder, lists = kinetics
    lists.write_text(f"{KINETICS}{line}\n")
    said = ("--splits", lists, "--subset", "validate", "-o", tmp_path / "t.csv")
    assert message in zsar_here("data", "prepare", "kinetics600", folder, *said, code=2).prose


def test_a_list_of_hmdb_with_another_mark(zsar_here: Here, hmdb: tuple[Path, Path], tmp_path: Path) -> None:
    folder, lists = hmdb
    (lists / "wave_test_split1.txt").write_text("a#1.avi 3\n")
    said = ("--splits", lists, "--split", "1", "-o", tmp_path / "t.csv")
    assert "must be followed by 0, 1 or 2" in zsar_here("data", "prepare", "hmdb51", folder, *said, code=2).prose


def test_strictly_seen_classes(zsar_here: Here, tmp_path: Path) -> None:
    seen, near, again = tmp_path / "seen.txt", tmp_path / "near.txt", tmp_path / "again.txt"
    said = ("data", "seen", "kinetics400", "--test", "ucf101", "--test", "hmdb51", "--within", "0.05")
    zsar_here(*said, "-o", seen, "--dropped-to", near)
    kept, dropped = LabelSet.read(seen), LabelSet.read(near)
    assert len(kept) + len(dropped) == 400 and not set(kept.names) & set(dropped.names)
    assert {"archery", "skydiving", "playing violin"} <= set(dropped.names) and "abseiling" in kept.names
    assert list(kept.names) == sorted(kept.names, key=str.casefold)
    text = seen.read_text(encoding="utf-8")
    assert "is at most 0.05" in text and "sha256 53aa51172d142c89" in text and "skydiving: 0.0000 from sky" in text
    zsar_here(*said, "-o", again)
    assert again.read_bytes() == seen.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("kinetics400", "no test: give --test NAME"),
        ("kinetics400 --test ucf", "--test ucf: neither a label file nor one of ucf101"),
        ("kinetics400 --test ucf101 --within 3", "--within 3.0: a cosine distance is from 0 to 2"),
        ("kinetics400 --test ucf101 --within 2", "none is left"),
        ("kinetics400 --test ucf101 -o seen.csv", "give a name that ends in .txt"),
        ("kinetics --test ucf101", "'kinetics': no list of classes"),
    ],
)
def test_lists_that_cannot_be_made(zsar_here: Here, tmp_path: Path, arguments: str, message: str) -> None:
    assert message in zsar_here("data", "seen", *arguments.split(), cwd=tmp_path, code=2).prose


@pytest.mark.parametrize(
    ("arguments", "message"),
    [("--split truze", "give its NAME"), ("ucf101 --part train", "is of a split; give --split")],
)
def test_classes_that_cannot_be_shown(zsar_here: Here, arguments: str, message: str) -> None:
    assert message in zsar_here("data", "list", *arguments.split(), code=2).prose
