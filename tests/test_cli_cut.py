"""`zsar cut`: what is cut of which results, how it is named, and how the command ends."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
import videos
from cli_runner import Finished, Runner, label_options, preload
from test_cutting import look
from videos import Clip

from zsar_cli.data.timed import Timed, read_moments
from zsar_cli.errors import UsageError

Here = Callable[..., Finished]
SCHEMA = "zsar.result/2"


@pytest.fixture
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return videos.write_video(tmp_path_factory.mktemp("film") / "film.mp4", frames=200)


def segment(label: str, start: float, end: float, similarity: float = 1.0) -> dict[str, Any]:
    scores = {"score": 10 - similarity, "similarity": similarity}
    return {"label": label, "start": start, "end": end, "peak": start, **scores}


def localized(path: object, *segments: dict[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA, "path": str(path), "predictions": [], "segments": list(segments), "error": None}


def classified(path: object, label: str, similarity: float) -> dict[str, Any]:
    best = {"label": label, "score": 0.9, "similarity": similarity}
    other = {"label": "other", "score": 0.1, "similarity": similarity - 1}
    return {"schema": SCHEMA, "path": str(path), "predictions": [best, other], "segments": None, "error": None}


def failed(path: object) -> dict[str, Any]:
    error = {"stage": "open", "reason": "no video", "decoder": None}
    return {"schema": SCHEMA, "path": str(path), "predictions": [], "segments": None, "error": error}


def hit(path: object, start: float, end: float, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "start": start, "end": end, "similarity": 0.5, **more}


def write(path: Path, *records: dict[str, Any]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        path.write_text(json.dumps({"schema": SCHEMA, "results": records}), encoding="utf-8")
    return path


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


# --- results ---


@pytest.mark.parametrize("name", ["r.json", "r.jsonl"])
def test_moments_of_all_kinds_of_results_are_read(name: str, tmp_path: Path) -> None:
    results = write(
        tmp_path / name,
        localized("a.mp4", segment("x", 1, 2, 3.5), segment("y", 0.5, 9)),
        localized("none.mp4"),
        classified("b.mp4", "z", 1.25),
        failed("c.mp4"),
        hit("d.mp4", 1, 2, z=7.0, query="someone runs"),
        hit("d.mp4", 3, 4),
    )
    assert read_moments(results) == [
        ("a.mp4", Timed("x", 1, 2, 3.5)),
        ("a.mp4", Timed("y", 0.5, 9, 1.0)),
        ("b.mp4", Timed("z", 0, float("inf"), 1.25)),
        ("d.mp4", Timed("someone runs", 1, 2, 7.0)),
        ("d.mp4", Timed("found", 3, 4, 0.5)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not readable JSON"),
        ("[]", "no mapping"),
        ("{}", "no mapping"),
        ('{"results": {"id": []}}', "names no files"),
        ('{"schema": "zsar.result/2", "results": [1]}', "no mapping"),
        ('{"schema": "zsar.result/2", "results": [{"path": 3}]}', "no path of a video"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a"}]}', "neither segments nor predictions"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a", "segments": 1}]}', "no list of segments"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a", "segments": [{}]}]}', "needs a label"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a", "start": 1, "end": NaN}]}', "needs a label"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a", "start": 1, "end": 1%s}]}' % ("0" * 400), "needs a"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a", "predictions": [{}]}]}', "needs a label"),
        ('{"schema": "zsar.result/2", "results": [{"path": "a", "predictions": [7]}]}', "no mapping"),
    ],
)
def test_what_holds_no_moments_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_moments(tmp_path / "r.json")


def test_lines_end_where_json_lines_do(tmp_path: Path) -> None:
    record = localized("a.mp4", segment("x\u2028y", 1, 2))
    (tmp_path / "r.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8-sig")
    assert read_moments(tmp_path / "r.jsonl")[0][1].label == "x\u2028y"


# --- what is cut ---


@pytest.mark.parametrize(("results", "format"), [("r.jsonl", "jsonl"), (".", "elan")], ids=["jsonl", "folder-of-elan"])
def test_what_localize_finds_is_cut(
    zsar_here: Here, film: Clip, tmp_path: Path, results: str, format: str
) -> None:
    made = ("localize", film.path, *label_options(), "--window", "1", "--onset", "0.5", "--change", "0.5", "-q")
    zsar_here(*made, "-o", tmp_path / results, "-f", format)
    moments = read_moments(tmp_path / results)
    assert moments
    run = zsar_here("cut", tmp_path / results, "-o", tmp_path / "cuts")
    pieces = [tmp_path / "cuts" / name for name in files(tmp_path / "cuts")]
    assert sorted(run.stdout.splitlines()) == sorted(map(str, pieces)) and len(pieces) == len(moments)
    for _, (label, start, end, _) in moments:
        (piece,) = (file for file in pieces if f"{label}/film_00-{start:04.1f}_00-{end:04.1f}.mp4" in file.as_posix())
        codes = [code for _, code in look(piece)]
        assert codes == list(range(round(start * 25), round(end * 25)))


def test_documents_of_elan_have_no_best(zsar_here: Here, tmp_path: Path) -> None:
    run = zsar_here("cut", tmp_path / "x.eaf", "-o", tmp_path / "cuts", "--top", "3", code=2)
    assert "--top: the annotations of" in run.prose and "have no scores" in run.prose


def test_what_classify_says_is_one_piece_of_the_whole_video(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    zsar_here("classify", film.path, *label_options(), "-q", "-o", tmp_path / "r.json")
    ((_, moment),) = read_moments(tmp_path / "r.json")
    zsar_here("cut", tmp_path / "r.json", "-o", tmp_path / "cuts", "--pad", "1")
    assert files(tmp_path / "cuts") == [f"{moment.label}/film.mp4"]
    assert [code for _, code in look(tmp_path / "cuts" / moment.label / "film.mp4")] == list(range(200))


def test_pads_are_cut_off_at_the_ends_of_the_video(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    results = write(tmp_path / "r.jsonl", localized(film.path, segment("x", 0.2, 1), segment("x", 7.6, 7.8)))
    zsar_here("cut", results, "-o", tmp_path / "cuts", "--pad", "0.4")
    first, last = (tmp_path / "cuts" / name for name in files(tmp_path / "cuts"))
    assert (first.name, last.name) == ("film_00-00.2_00-01.0.mp4", "film_00-07.6_00-07.8.mp4")
    assert [code for _, code in look(first)] == list(range(35))
    assert [code for _, code in look(last)] == list(range(180, 200))


def test_an_end_behind_that_of_the_video_is_told(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    line = {"path": str(film.path), "start": 7, "end": 99, "similarity": 1, "label": "waving"}
    run = zsar_here("cut", write(tmp_path / "r.jsonl", line), "-o", tmp_path / "cuts")
    assert files(tmp_path / "cuts") == ["waving/film_00-07.0_01-39.0.mp4"]
    assert "ends at 8.00 s, where its video ends, not at 99 s" in run.prose


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--top", "2"], ["x/film_00-01.0_00-01.2.mp4", "x/film_00-03.0_00-03.2.mp4"]),
        (["--top", "1", "--per-label"], ["x/film_00-03.0_00-03.2.mp4", "y/film_00-04.0_00-04.2.mp4"]),
    ],
)
def test_the_best_are_cut(options: list[str], expected: list[str], zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    scored = [("x", 1, 5.0), ("x", 2, 1.0), ("x", 3, 6.0), ("y", 4, 2.0)]
    segments = [segment(label, start, start + 0.2, score) for label, start, score in scored]
    zsar_here("cut", write(tmp_path / "r.json", localized(film.path, *segments)), "-o", tmp_path / "cuts", *options)
    assert files(tmp_path / "cuts") == expected


def test_a_copy_says_how_far_before_it_begins(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    results = write(tmp_path / "r.jsonl", hit(film.path, 1.0, 2.0, query="q"), hit(film.path, 0.0, 2.0, query="q"))
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", "--copy")
    (_, first), *_ = look(tmp_path / "cuts" / "q" / "film_00-01.0_00-02.0.mp4")
    assert first < 25
    assert f"_00-02.0.mp4: begins {1 - first / 25:.2f} s before what was asked, at a key frame" in run.stderr
    assert run.stderr.count("begins") == 1
    assert run.stderr.endswith("2 pieces: 2 cut\n")


# --- names ---


def test_names_stay_in_the_folder_and_apart(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("a/film.mp4", "b/film.mp4", "b/FILM.mp4", "b/a\x1b[2J.mp4"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).symlink_to(film.path)
    results = write(
        tmp_path / "r.json",
        localized("a/film.mp4", segment("../../x", 1, 1.2), segment("../../x", 1.01, 1.21), segment("a?", 1, 1.2)),
        localized("b/film.mp4", segment("../../x", 1, 1.2), segment("con", 1, 1.2), segment("A*", 1, 1.2)),
        localized("b/FILM.mp4", segment("../../x", 1, 1.2)),
        localized("b/a\x1b[2J.mp4", segment("\u202ex\n", 1, 1.2)),
    )
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", cwd=home)
    assert files(tmp_path / "cuts") == sorted(
        [
            "_.._x/film_00-01.0_00-01.2.mp4",
            "_.._x/film_00-01.0_00-01.2_2.mp4",
            "_.._x/film_2_00-01.0_00-01.2.mp4",
            "_.._x/FILM_3_00-01.0_00-01.2.mp4",
            "a_/film_00-01.0_00-01.2.mp4",
            "A__2/film_2_00-01.0_00-01.2.mp4",
            "_con/film_2_00-01.0_00-01.2.mp4",
            "_x_/a_[2J_00-01.0_00-01.2.mp4",
        ]
    )
    assert all(str(tmp_path / "cuts") in line for line in run.stdout.splitlines())
    assert sorted(os.listdir(tmp_path)) == ["cuts", "home", "r.json"]


def test_messages_escape_what_moves_a_cursor(zsar_here: Here, tmp_path: Path) -> None:
    results = write(tmp_path / "r.json", localized("no\x1b[2J.mp4", segment("\x1b[31mred", 1, 2)))
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", code=1)
    assert "\x1b" not in run.stderr + run.stdout
    assert r"no\x1b[2J.mp4: find failed: no such file or folder; relative paths begin at the current" in run.stderr


# --- how it ends ---


def test_one_bad_video_does_not_stop_the_others(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    animation = videos.animation(tmp_path / "a.gif").path
    spans = [segment("x", 1, 2), segment("x", 3, 4)]
    results = write(
        tmp_path / "r.json",
        localized(tmp_path / "gone.mp4", *spans),
        localized(bad, *spans),
        localized(animation, segment("x", 0, 0.3)),
        localized(film.path, segment("x", 1, 2), segment("x", 60, 61)),
    )
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", code=3)
    assert files(tmp_path / "cuts") == ["x/film_00-01.0_00-02.0.mp4"]
    assert run.stderr.count("find failed: no such file or folder\n") == 1  # an absolute path begins nowhere else
    assert run.stderr.count("bad.mp4: open failed") == 1
    assert "a.gif: cut failed: an animated image or a folder of images: only videos can be cut" in run.stderr
    assert "60 s to 61 s is outside of the video, which lasts 8.00 s" in run.stderr
    assert run.stderr.endswith("7 pieces: 1 cut, 6 failed\n")


def test_nothing_done_is_a_failure_and_leaves_no_folder_of_a_label(zsar_here: Here, tmp_path: Path) -> None:
    results = write(tmp_path / "r.json", localized("gone.mp4", segment("x", 1, 2)))
    zsar_here("cut", results, "-o", tmp_path / "cuts", code=1)
    assert files(tmp_path / "cuts") == [] and list((tmp_path / "cuts").iterdir()) == []
    run = zsar_here("cut", write(tmp_path / "r.json", localized("a.mp4")), "-o", tmp_path / "cuts", code=1)
    assert "there is nothing to cut: nothing was found" in run.stderr


@pytest.mark.parametrize("name", ["film_00-03.0_00-04.0.mp4", "film_00-03.0_00-04.0.part"])
def test_what_exists_is_refused_before_any_work(name: str, zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    results = write(tmp_path / "r.json", localized(film.path, segment("x", 1, 2), segment("x", 3, 4)))
    (tmp_path / "cuts" / "x").mkdir(parents=True)
    (tmp_path / "cuts" / "x" / name).write_text("mine")
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", code=1)
    assert f"{name} exists" in run.stderr
    assert files(tmp_path / "cuts") == [f"x/{name}"]
    assert (tmp_path / "cuts" / "x" / name).read_text() == "mine"


def test_a_copy_replaces_neither_mp4_nor_mkv(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    results = write(tmp_path / "r.json", localized(film.path, segment("x", 1, 2)))
    (tmp_path / "cuts" / "x").mkdir(parents=True)
    (tmp_path / "cuts" / "x" / "film_00-01.0_00-02.0.mkv").touch()
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", "--copy", code=1)
    assert "film_00-01.0_00-02.0.mkv exists" in run.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--per-label"], "give --top too"),
        (["--pad", "-1"], "must be 0 or more seconds"),
        (["--pad", "nan"], "must be 0 or more seconds"),
        (["--top", "0"], "--top"),
        (["--timeout", "0"], "time limit"),
    ],
)
def test_wrong_usage_is_refused(options: list[str], message: str, zsar_here: Here, tmp_path: Path) -> None:
    results = write(tmp_path / "r.json", localized("a.mp4", segment("x", 1, 2)))
    run = zsar_here("cut", results, "-o", tmp_path / "cuts", *options, code=2)
    assert message in run.prose
    assert not (tmp_path / "cuts").exists()


def test_a_folder_that_is_a_file_is_named(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    results = write(tmp_path / "r.json", localized(film.path, segment("x", 1, 2)))
    run = zsar_here("cut", results, "-o", results, code=1)
    assert "r.json/x" in run.stderr and "cannot be written" in run.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_whole_pieces_alone(
    number: int, code: int, zsar: Runner, film: Clip, tmp_path: Path
) -> None:
    results = write(tmp_path / "r.json", localized(film.path, segment("x", 1, 2), segment("x", 3, 4)))
    slow = """
import sys
if "-c" in sys.orig_argv[1:3]:
    import time
    import zsar_cli.video.cutting as c
    real = c.cut
    def cut(piece, alive):
        if piece.start == 3:
            open(piece.target, "w").write("half")
            time.sleep(60)
        return real(piece, alive)
    c.cut = cut
"""
    variables = preload(tmp_path / "site", slow)
    with zsar.start("cut", results, "-o", tmp_path / "cuts", variables=variables) as process:
        part = tmp_path / "cuts" / "x" / "film_00-03.0_00-04.0.part"
        for _ in range(600):
            if part.exists() and part.stat().st_size:
                break
            time.sleep(0.1)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert files(tmp_path / "cuts") == ["x/film_00-01.0_00-02.0.mp4"]
    assert "2 pieces: 1 cut, 1 not tried" in stderr and len(stdout.splitlines()) == 1


def test_pieces_are_read_by_others(zsar_here: Here, film: Clip, tmp_path: Path) -> None:
    decord = pytest.importorskip("decord")
    zsar_here("cut", write(tmp_path / "r.json", hit(film.path, 1.0, 2.0)), "-o", tmp_path / "cuts")
    (name,) = files(tmp_path / "cuts")
    assert name == "found/film_00-01.0_00-02.0.mp4"
    reader = decord.VideoReader(str(tmp_path / "cuts" / name))
    assert [videos.read_code(frame.asnumpy()) for frame in reader] == list(range(25, 50))
    assert reader.get_avg_fps() == 25
    with av.open(str(tmp_path / "cuts" / name)) as source:
        assert source.duration == 1_000_000
