"""Names of files that every system takes, no two alike, and files that replace none."""

from __future__ import annotations

import os
from pathlib import Path, PureWindowsPath

import pytest

from zsar_cli.errors import OutputError
from zsar_cli.report.places import Distinct, Place, clock, safe_name

HOSTILE = [
    "../../x", "..", ".", "", " ", "a/b\\c", "/etc/passwd", "C:\\x", "con", "CON.txt", "nul", "Lpt1", "com\u00b9",
    "aux . x", "CONOUT$", "a\nb", "a\x1b[2Jb", "a\0b", "\u202egpj.exe", "x" * 500, "\U0001f600" * 200, "a.", "a ",
    ".hidden", "\ud800", 'a<b>"c"|?*:',
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_one_harmless_name(text: str) -> None:
    name = safe_name(text)
    assert name and len(name.encode("utf-8")) <= 121
    assert name.isprintable() and not set(name) & set('<>:"/\\|?*')
    assert name[0] not in " ." and name[-1] not in " ."
    assert Path(name).parts == (name,) and PureWindowsPath(name).parts == (name,)
    reserved = getattr(os.path, "isreserved", PureWindowsPath(name).is_reserved if os.name == "nt" else None)
    assert not (reserved and os.name == "nt" and reserved(name))
    assert name.split(".")[0].strip().lower() not in {"con", "prn", "aux", "nul", "conout$", "lpt1", "com\u00b9"}


SCRIPTS = ["archery", "チェスをする", "игра на гитаре", "می‌دود", "👩‍🚀 floats", "push-ups (slow), 2.5 kg", "console"]


@pytest.mark.parametrize("text", SCRIPTS)
def test_names_of_all_scripts_stay(text: str) -> None:
    assert safe_name(text) == text


def test_names_are_never_given_twice() -> None:
    distinct = Distinct()
    wanted = ["a", "A", "a", "a_2", "é", "e\u0301", "ß", "SS"]
    given = {thing: distinct(thing, name) for thing, name in enumerate(wanted)}
    assert given == {0: "a", 1: "A_2", 2: "a_3", 3: "a_2_2", 4: "é", 5: "e\u0301_2", 6: "ß", 7: "SS_2"}
    assert distinct(1, "anything") == "A_2"


@pytest.mark.parametrize(
    ("seconds", "hours", "text"),
    [
        (0, False, "00-00.0"),
        (12.5, False, "00-12.5"),
        (59.96, False, "01-00.0"),
        (3599.9, False, "59-59.9"),
        (12.5, True, "00-00-12.5"),
        (3599.96, True, "01-00-00.0"),
        (360000, True, "100-00-00.0"),
    ],
)
def test_times_are_minutes_seconds_and_tenths(seconds: float, hours: bool, text: str) -> None:
    assert clock(seconds, hours) == text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    place = Place(tmp_path / "label" / "a_00-17.0", (".mp4", ".mkv"))
    place.check()
    with pytest.raises(KeyboardInterrupt), place as part:
        Path(part).write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with place as part:
        Path(part).write_text("whole")
        assert place.publish(".mkv") == tmp_path / "label" / "a_00-17.0.mkv"
    assert [file.name for file in tmp_path.rglob("*")] == ["label", "a_00-17.0.mkv"]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".part"])
def test_nothing_is_replaced(suffix: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "a", (".mp4", ".mkv"))
    (tmp_path / f"a{suffix}").symlink_to("nowhere")
    for act in (place.check, place.__enter__):
        with pytest.raises(OutputError, match=f"a{suffix} exists"):
            act()
    assert os.readlink(tmp_path / f"a{suffix}") == "nowhere"


def test_what_appears_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path / "a", (".mp4",))
    with pytest.raises(OutputError, match="exists by now"), place:
        (tmp_path / "a.mp4").write_text("another's")
        place.publish(".mp4")
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "label").write_text("a file")
    with pytest.raises(OutputError, match=r"label.*cannot be written"), Place(tmp_path / "label" / "a", (".mp4",)):
        pass
