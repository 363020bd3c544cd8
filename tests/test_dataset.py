"""Data sets as people have them on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zsar_cli.data.dataset import read_dataset, read_split
from zsar_cli.errors import UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.video.types import Excerpt, Window


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("ApplyEyeMakeup/v_1_g01.avi", "ApplyEyeMakeup/v_2_g01.avi", "YoYo/v_10.avi", "YoYo/v_9.avi"):
        file = tmp_path / "data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
    return tmp_path / "data"


def test_a_folder_per_class(home: Path) -> None:
    data = read_dataset(home)
    assert data.classes.names == ("ApplyEyeMakeup", "YoYo")
    assert data.classes.texts[0] == "apply eye makeup"
    assert [item.key for item in data.items] == [
        "ApplyEyeMakeup/v_1_g01.avi", "ApplyEyeMakeup/v_2_g01.avi", "YoYo/v_9.avi", "YoYo/v_10.avi",
    ]  # fmt: skip
    assert data.counts() == {"ApplyEyeMakeup": 2, "YoYo": 2}


def test_natural_names_from_a_table(home: Path, tmp_path: Path) -> None:
    names = tmp_path / "names.csv"
    names.write_text("folder,label\nApplyEyeMakeup,putting on eye makeup\nYoYo,playing with a yo-yo\n")
    assert read_dataset(home, names).classes.names == ("putting on eye makeup", "playing with a yo-yo")
    names.write_text("folder,label,descriptions\nApplyEyeMakeup,eye makeup,a mirror| a brush |\nYoYo,yo-yo,\n")
    assert [label.descriptions for label in read_dataset(home, names).classes] == [("a mirror", "a brush"), ()]
    names.write_text("folder,label\nYoYo,playing with a yo-yo\n")
    with pytest.raises(UsageError, match=r"names.csv: has no row for 'ApplyEyeMakeup'"):
        read_dataset(home, names)
    names.write_text("a,b\n1,2\n")
    with pytest.raises(UsageError, match="needs the columns folder and label, has a, b"):
        read_dataset(home, names)


def test_a_table_with_paths_beside_it(home: Path) -> None:
    table = home / "list.tsv"
    table.write_text("label\tpath\textra\nyo yo\tYoYo/v_9.avi\t1\nYo_Yo\tYoYo/v_10.avi\t2\n")
    data = read_dataset(table)
    assert data.classes.names == ("yo yo",)  # both spellings read the same
    assert [item.path for item in data.items] == [str(home / "YoYo/v_9.avi"), str(home / "YoYo/v_10.avi")]
    assert {item.label for item in data.items} == {"yo yo"}


def test_a_table_of_parts(home: Path) -> None:
    table = home / "list.json"
    rows = [{"path": "YoYo/v_9.avi", "label": "yo yo", "start": 12.5, "end": 15}]
    rows.append({"path": "YoYo/v_9.avi", "label": "b"})
    table.write_text(json.dumps(rows))
    part, whole = read_dataset(table).items
    path = str(home / "YoYo/v_9.avi")
    assert part.source == Excerpt(path, Window(12.5, 15.0)) and part.name == "YoYo/v_9.avi@12.5-15"
    assert whole.source == path and whole.name == whole.key == "YoYo/v_9.avi"
    (home / "list.csv").write_text("path,label,start,end\nYoYo/v_9.avi,yo yo,12.5,15\nYoYo/v_9.avi,b,,\n")
    assert read_dataset(home / "list.csv") == read_dataset(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path\nx.avi\n", "has no column label"),
        ("path,label\n", "has no rows"),
        ("path,label\nx.avi,\n", "line 2: its label is empty"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        read_dataset(tmp_path / "list.csv")


def test_folders_that_cannot_be_used(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="absent: no such data set"):
        read_dataset(tmp_path / "absent")
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match="holds no folders"):
        read_dataset(tmp_path / "none")
    (home / "Empty").mkdir()
    with pytest.raises(UsageError, match=r"the class 'Empty' cannot be read: .*no videos"):
        read_dataset(home)


def test_only_some_classes(home: Path) -> None:
    data = read_dataset(home).only(LabelSet.from_names(["yo yo"]))
    assert data.classes.names == ("YoYo",)
    assert len(data.items) == 2
    with pytest.raises(UsageError, match="has no class 'juggling'; it has ApplyEyeMakeup, YoYo"):
        read_dataset(home).only(LabelSet.from_names(["juggling"]))


def test_official_splits(home: Path, tmp_path: Path) -> None:
    ucf = tmp_path / "testlist01.txt"
    ucf.write_text("ApplyEyeMakeup/v_2_g01.avi\nYoYo/v_9.avi 101\n")
    assert [item.key for item in read_dataset(home).listed(read_split(ucf)).items] == [
        "ApplyEyeMakeup/v_2_g01.avi", "YoYo/v_9.avi",
    ]  # fmt: skip
    hmdb = tmp_path / "splits"
    hmdb.mkdir()
    (hmdb / "YoYo_test_split2.txt").write_text("v_9.avi 1 \nv_10.avi 2 \n")
    data = read_dataset(home).listed(read_split(hmdb, 2))
    assert [item.key for item in data.items] == ["YoYo/v_10.avi"]
    assert data.classes.names == ("YoYo",)
    with pytest.raises(UsageError, match=r"lists no videos for testing \(split 1\)"):
        read_split(hmdb, 1)
    ucf.write_text("Other/video.avi\n")
    with pytest.raises(UsageError, match=r"none of the 4 videos is in the split file; it lists Other/video.avi"):
        read_dataset(home).listed(read_split(ucf))
