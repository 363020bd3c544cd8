"""Finding inputs: every way of naming them, each checked against a tree made by the test."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest
from PIL import Image

from zsar_cli.data import inputs
from zsar_cli.data.inputs import find_inputs
from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.kinds import IMAGE_SUFFIXES, VIDEO_SUFFIXES

needs_posix = pytest.mark.skipif(os.name == "nt", reason="names and kinds of file of POSIX")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*paths: str) -> None:
    for path in paths:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(b"content")


def find(*arguments: str, stdin: str | None = None) -> list[str]:
    """As `find_inputs`, separators as on POSIX, an error as "path: reason"."""
    found = find_inputs(arguments, None if stdin is None else io.StringIO(stdin))
    assert all(item.stage == "find" for item in found if isinstance(item, InputError))
    shown = [f"{item.path}: {item.reason}" if isinstance(item, InputError) else item for item in found]
    return [item.replace(os.sep, "/") for item in shown]


def missing(paths: Iterable[str]) -> list[str]:
    return [f"{path}: no such file or folder" for path in paths]


def test_files_are_taken_whatever_their_suffix_in_the_order_given(here: Path) -> None:
    make("b.mp4", "a.dat", "sub/c", ".hidden.mp4", "a b \u00e9\u4f60.mp4", "-x.mp4")
    names = ["b.mp4", "a.dat", "sub/c", ".hidden.mp4", "a b \u00e9\u4f60.mp4", "-x.mp4", "./-x.mp4"]
    assert find(*names) == names[:-1]
    assert find(str(here / "b.mp4")) == [(here / "b.mp4").as_posix()]


def test_nothing_named_is_nothing_found() -> None:
    assert find() == []


def test_each_input_comes_once_under_its_first_name(here: Path) -> None:
    make("v/a.mp4", "v/b.mp4")
    assert find("v/b.mp4", "v", "./v/a.mp4", str(here / "v"), "v/../v/b.mp4") == ["v/b.mp4", "v/a.mp4"]
    assert find("no", "./no", "no") == missing(["no"])


def test_what_is_missing_is_an_error_in_its_place(here: Path) -> None:
    make("a.mp4", "b.mp4")
    assert find("a.mp4", "no.mp4", "b.mp4", "a.mp4/x") == [
        "a.mp4", *missing(["no.mp4"]), "b.mp4", *missing(["a.mp4/x"])
    ]  # fmt: skip
    assert find("", "b.mp4") == [*missing([""]), "b.mp4"]
    assert "embedded null" in find("a\0b")[0].removeprefix("a\0b: ")
    assert find("https://example.org/a.mp4") == [
        "https://example.org/a.mp4: a web address is not a file: download it first"
    ]


def test_a_folder_is_searched_in_natural_order(here: Path) -> None:
    make("v/clip10.mp4", "v/clip2.MKV", "v/Clip1.avi", "v/b/9.webm", "v/b/deep/er/x.gif", "v/notes.txt")
    make("v/poster.jpg", "v/.hidden.mp4", "v/.git/x.mp4", "v/no_suffix", "v/mp4")
    expected = ["v/b/9.webm", "v/b/deep/er/x.gif", "v/Clip1.avi", "v/clip2.MKV", "v/clip10.mp4"]
    assert find("v") == expected
    assert find("v/") == expected
    assert find("./v") == ["./" + path for path in expected]


def test_every_video_suffix_is_found(here: Path) -> None:
    names = {f"v/x{suffix}" for suffix in VIDEO_SUFFIXES | {".MP4"}}
    make(*names)
    assert len(names) > 20
    assert set(find("v")) == names


def test_numbers_of_any_script_and_length_sort(here: Path) -> None:
    names = ["v/\u00b2.mp4", "v/007.mp4", "v/7.mp4", "v/8.mp4", "v/10.mp4", "v/" + "9" * 200 + ".mp4"]
    make(*names)
    assert find("v") == names


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_a_folder_of_only_images_is_one_input(here: Path, suffix: str) -> None:
    make("v/frames/Thumbs.db", "v/frames/.DS_Store", "v/z.mp4")
    for index in range(3):
        Image.new("RGB", (4, 4)).save(f"v/frames/{index}{suffix}")
    assert find("v/frames", "v") == ["v/frames", "v/z.mp4"]


@pytest.mark.parametrize("other", ["video.mp4", "notes.txt", "animated.gif", "sub/0.jpg"])
def test_images_beside_anything_else_are_not_frames(here: Path, other: str) -> None:
    make("v/0.jpg", "v/1.jpg", f"v/{other}")
    expected = {"notes.txt": [], "sub/0.jpg": ["v/sub"]}.get(other, [f"v/{other}"])
    assert [path for path in find("v") if ": " not in path] == expected


def test_only_an_animated_webp_counts_as_a_video(here: Path) -> None:
    Path("v").mkdir()
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    first.save("v/moving.webp", save_all=True, append_images=[second], duration=40)
    first.save("v/still.webp")
    Image.new("RGBA", (4, 4), (9, 9, 9, 9)).save("v/still_alpha.webp")
    make("v/short.webp")
    assert find("v") == ["v/moving.webp"]
    assert find("v/still.webp") == ["v/still.webp"]


def test_a_folder_without_videos_is_an_error(here: Path) -> None:
    make("v/notes.txt", "v/.hidden/a.mp4")
    Path("empty").mkdir()
    first, second = find("v", "empty")
    assert first.startswith("v: no videos in this folder (looked for ") and " .mp4, " in first
    assert second.startswith("empty: no videos in this folder")


@needs_posix
def test_links_are_followed_once_and_loops_end(here: Path) -> None:
    make("v/real/a.mp4", "outside/b.mp4")
    Path("v/real/loop").symlink_to(here / "v")
    Path("v/real/self").symlink_to(".")
    Path("v/same").symlink_to("real")
    Path("v/to_outside").symlink_to(here / "outside")
    Path("v/link.mp4").symlink_to("real/a.mp4")
    Path("v/broken.mp4").symlink_to("gone.mp4")
    broken = "v/broken.mp4: a link to 'gone.mp4': no such file or folder"
    assert find("v") == [broken, "v/link.mp4", "v/real/a.mp4", "v/to_outside/b.mp4"]
    assert find("v/**/*.mp4") == [broken, "v/link.mp4", "v/real/a.mp4"]


@needs_posix
def test_what_is_not_a_regular_file_is_named(here: Path) -> None:
    make("v/a.mp4")
    os.mkfifo("v/pipe.mp4")
    os.mkfifo("v/pipe.webp")
    os.mkfifo("v/pipe.txt")
    fifo = "not a regular file (a FIFO)"
    assert find("v") == ["v/a.mp4", f"v/pipe.mp4: {fifo}", f"v/pipe.webp: {fifo}"]
    assert find("v/pipe.txt", "/dev/null") == [
        f"v/pipe.txt: {fifo}",
        "/dev/null: not a regular file (a device)",
    ]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        assert find("s") == ["s: not a regular file (a socket)"]


def test_an_unreadable_folder_is_an_error_in_its_place(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("v/a.mp4", "v/b/x.mp4", "v/c.mp4")
    listdir = os.listdir

    def refuse(path: str) -> list[str]:
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(inputs.os, "listdir", refuse)
    error = "v/b: no permission to read it"
    assert find("v") == ["v/a.mp4", error, "v/c.mp4"]
    assert find("v/b") == [error]
    assert find("v/**/x*.mp4") == [error]
    assert find("*/*/*.mp4") == [error]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mp4", ["clip2.mp4", "clip10.mp4"]),
        ("./clip?.mp4", ["./clip2.mp4"]),
        ("clip[0-9]*", ["clip2.mp4", "clip10.mp4"]),
        ("*.dat", ["raw.dat"]),
        ("*", ["clip2.mp4", "clip10.mp4", "frames", "v/a.mp4", "v/deep/b.mkv"]),
        ("**", ["clip2.mp4", "clip10.mp4", "frames", "v/a.mp4", "v/deep/b.mkv"]),
        ("**/*.mp4", ["clip2.mp4", "clip10.mp4", "v/a.mp4"]),
        ("v/**", ["v/a.mp4", "v/deep/b.mkv"]),
        ("v/**/b.mkv", ["v/deep/b.mkv"]),
        ("*/deep/*", ["v/deep/b.mkv"]),
        ("*/a.mp4", ["v/a.mp4"]),
        (".h*/*", [".hidden/x.mp4"]),
        ("frames/*.png", ["frames/1.png", "frames/2.png"]),
        ("nothing*", ["nothing*: nothing matches this pattern"]),
        ("no/such/*", ["no/such/*: nothing matches this pattern"]),
        ("frames/*", ["frames/*: no videos among the 2 matches of this pattern"]),
    ],
)
def test_patterns(here: Path, pattern: str, expected: list[str]) -> None:
    make("clip10.mp4", "clip2.mp4", "raw.dat", "notes.txt", "v/a.mp4", "v/deep/b.mkv", ".hidden/x.mp4")
    make("frames/1.png", "frames/2.png")
    assert find(pattern) == expected
    absolute = [f"{here.as_posix()}/{item.removeprefix('./')}" for item in expected]
    assert find(os.path.join(str(here), pattern.removeprefix("./"))) == absolute


@needs_posix
def test_a_name_that_exists_wins_over_its_meaning(here: Path) -> None:
    make("a[1].mp4", "a1.mp4", "what*.mp4", "whatever.mp4", "@list.txt", "d[x]/1.mp4", "dx/2.mp4")
    assert find("a[1].mp4", "what*.mp4", "@list.txt") == ["a[1].mp4", "what*.mp4", "@list.txt"]
    assert find("d[x]", "d[x]/*.mp4") == ["d[x]/1.mp4"]
    assert find("d[[]x]/*.mp4") == ["d[x]/1.mp4"]


def test_paths_from_standard_input(here: Path) -> None:
    make("a b.mp4", "v/1.mp4", "v/2.mp4", " lead.mp4", "@x", "-")
    text = "a b.mp4\n\n   \nv\nno.mp4\n lead.mp4\n@x\n*.mp4\n"
    expected = ["a b.mp4", "v/1.mp4", "v/2.mp4", *missing(["no.mp4"]), " lead.mp4", "@x", *missing(["*.mp4"])]
    assert find("-", stdin=text) == expected
    assert find("v/2.mp4", "-", "-", stdin="v") == ["v/2.mp4", "v/1.mp4"]
    assert find("./-") == ["./-"]


@needs_posix
def test_paths_separated_by_nul_may_hold_line_breaks(here: Path) -> None:
    make("a\nb.mp4", "c.mp4")
    assert find("-", stdin="a\nb.mp4\0c.mp4\0") == ["a\nb.mp4", "c.mp4"]


def test_paths_from_a_list_file_are_relative_to_the_working_directory(here: Path) -> None:
    make("v/\u00e9.mp4", "v/b.mp4", "lists/b.mp4")
    text = "\ufeffv/\u00e9.mp4\r\n\r\nv/b.mp4"  # as an editor on Windows saves it
    Path("lists/list.txt").write_bytes(text.encode())
    assert find("@lists/list.txt") == ["v/\u00e9.mp4", "v/b.mp4"]


def test_lists_that_cannot_be_used_are_usage_errors(here: Path) -> None:
    Path("latin.txt").write_bytes("\u00e9.mp4".encode("latin-1"))
    Path("empty.txt").write_bytes(b"\n \n")
    for argument, message in [
        ("@no.txt", "'no.txt' cannot be read: no such file or folder"),
        ("@latin.txt", "'latin.txt' is not UTF-8 text"),
        ("@empty.txt", "'empty.txt' is empty"),
        ("@", "'' cannot be read"),
    ]:
        with pytest.raises(UsageError, match=message):
            find(argument)
    with pytest.raises(UsageError, match="standard input is empty"):
        find("-", stdin="\n")
    with pytest.raises(UsageError, match="there is none here"):
        find("-")
    with pytest.raises(UsageError, match="standard input are not utf-8 text"):
        find_inputs(["-"], io.TextIOWrapper(io.BytesIO(b"\xff.mp4"), encoding="utf-8"))
