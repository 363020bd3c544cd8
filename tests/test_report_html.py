"""The page of results: what is in it, and that nothing in it can do harm. How it works is for the browser to show."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Finished, Runner
from PIL import Image
from report_pages import RUN, data_of, failed, page_of, record, results, segment
from videos import read_code, rotated, write_video

from zsar_cli.errors import InputError, UsageError
from zsar_cli.report.html_report import BASE, EACH, gather, read_explanation
from zsar_cli.report.thumbnails import pictures_of

Here = Callable[..., Finished]
SCORES = (("archery", 0.6), ("swimming", 0.3), ("chess", 0.1))


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


class Elements(HTMLParser):
    """All elements with their attributes, and the text of styles and scripts."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.texts.setdefault(self.found[-1][0], []).append(data)


# --- what is in it ---


def test_records_of_classify_become_videos(tmp_path: Path) -> None:
    told = {"answer": "unknown", "unknown": 0.7, "doubtful": True, "reasons": ["far from everything"]}
    damaged = {"partial": {"share": 0.5, "reason": "truncated"}, "notes": ["one frame"]}
    page = page_of(tmp_path, record("a.mp4", *SCORES), record("b.mp4", *SCORES, **told), failed("c.mp4"),
                   record("d.mp4", ("archery", 1.0), **damaged))  # fmt: skip
    data = data_of(page)
    first, second, third, fourth = data["videos"]
    names = data["labels"]
    top = [[names.index("archery"), 0.6, 6.0, None], [names.index("swimming"), 0.3, 3.0, None]]
    assert first["path"] == "a.mp4" and names[first["answer"]] == "archery" and first["top"][:2] == top
    assert "doubtful" not in first and first["duration"] == 2.12
    assert second["answer"] == -1 and "unknown" not in names  # none of these
    assert second["doubtful"] and second["unsure"] == 0.7
    assert second["reasons"] == ["far from everything"]
    assert third["error"] == {"stage": "open", "reason": "the file is empty (0 bytes)", "decoder": "pyav"}
    assert "answer" not in third
    assert fourth["partial"] == damaged["partial"] and fourth["notes"] == ["one frame"]
    assert [run["run"] for run in data["runs"]] == [RUN]


def test_a_label_that_is_called_unknown_is_a_label(tmp_path: Path) -> None:
    report = gather([results(tmp_path / "a.jsonl", record("a.mp4", ("unknown", 0.9), answer="unknown"))], tmp_path)
    assert report.videos[0]["answer"] == report.labels["unknown"] == 0


def test_json_and_json_lines_and_probabilities_are_the_same(tmp_path: Path) -> None:
    one = record("a.mp4", *SCORES)
    one["predictions"][0]["probability"] = 0.8
    lines = results(tmp_path / "a.jsonl", one)
    bare = {key: value for key, value in one.items() if key not in ("run", "schema")}
    (tmp_path / "a.json").write_text(json.dumps({"schema": "zsar.result/2", "run": RUN, "results": [bare]}))
    report = gather([lines, tmp_path / "a.json"], tmp_path)
    assert report.videos[0] == report.videos[1]
    assert report.videos[0]["top"][0][3] == 0.8
    (run,) = report.runs.values()
    assert run["sources"] == [str(lines), str(tmp_path / "a.json")]


def test_runs_of_other_settings_are_told_apart(tmp_path: Path) -> None:
    other = {**RUN, "settings": {"transfer": "mean"}}
    report = gather([results(tmp_path / "a.jsonl", record("a.mp4", *SCORES), record("a.mp4", run=other))], tmp_path)
    assert [video["run"] for video in report.videos] == [0, 1]


def test_segments_are_a_timeline_and_only_the_best_of_very_many(tmp_path: Path) -> None:
    some = [segment("archery", 0, 4, 1.0), segment("swimming", 2, 6, 3.0)]
    many = [segment("archery", start, start + 1, start / 100) for start in range(130)]
    videos = (("a.mp4", some), ("b.mp4", many), ("c.mp4", []))
    source = results(tmp_path / "a.jsonl", *(record(name, *SCORES, segments=found) for name, found in videos))
    report = gather([source], tmp_path)
    short, long, empty = report.videos
    archery, swimming = report.labels["archery"], report.labels["swimming"]
    assert short["segments"] == [[archery, 0, 4, 1.0, 1.0, 2.0], [swimming, 2, 6, 3.0, 3.0, 4.0]]
    assert short["answer"] == swimming  # the best of the segments
    assert [one[1] for one in long["segments"]] == list(range(30, 130)) and long["more_segments"] == 30
    assert empty["segments"] == []


def test_moments_of_a_search_are_segments_under_its_words(tmp_path: Path) -> None:
    def hit(path: str, start: float, z: float) -> dict[str, object]:
        times = {"start": start, "end": start + 2.0, "similarity": 5.0, "z": z}
        return {
            "schema": "zsar.search/1",
            "path": path,
            **times,
            "query": "a flute",
            "search": {"words": "a flute"},
            "run": RUN,
        }

    hits = results(tmp_path / "a.jsonl", hit("a.mp4", 7, 3.0), hit("b.mp4", 0, 2.0), hit("a.mp4", 1, 1.0))
    report = gather([hits], tmp_path)
    first, second = report.videos
    assert [one[1:4] for one in first["segments"]] == [[1, 3, 1.0], [7, 9, 3.0]]
    assert second["path"] == "b.mp4" and list(report.labels) == ["a flute"]
    assert next(iter(report.runs.values()))["search"] == {"words": "a flute"}


def test_files_are_linked_from_the_folder_of_the_page(tmp_path: Path) -> None:
    odd = "50% #1?: ü\udcff.mp4"
    source = results(tmp_path / "a.jsonl", record(tmp_path / "films" / odd), record("x\ud800.mp4"))
    first, second = gather([source], tmp_path / "pages").videos
    assert first["place"] == "../films/50%25%20%231%3F%3A%20%C3%BC%FF.mp4"
    assert "place" not in second  # no file can have that name


def test_what_explains_the_labels_is_read(tmp_path: Path) -> None:
    part = {"seen": "hunting bow", "weight": 0.99, "cosine": 0.9}
    label = {"label": "archery", "kind": "near", "nearest": "hunting bow", "cosine": 0.906, "components": [part]}
    document = {"schema": "zsar.explanation/2", "labels": [label], "alike": None}
    file = tmp_path / "why.json"
    file.write_text(json.dumps(document))
    told = {"label": "archery", "kind": "near", "nearest": "hunting bow", "cosine": 0.91}
    assert read_explanation(file) == {"labels": [{**told, "parts": [["hunting bow", 0.99]]}], "alike": []}
    for wrong in ({**document, "schema": "zsar.explanation/9"}, {**document, "labels": [{}]}, [1]):
        file.write_text(json.dumps(wrong))
        with pytest.raises(UsageError, match=r"why\.json: is .*explain"):
            read_explanation(file)


# --- what it can do ---


def test_nothing_in_the_results_becomes_a_part_of_the_page(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script><!--<img src=x onerror=alert(1)>\u2028\u202e'\"&lt;\udcff{{style}}"
    page = page_of(tmp_path, record(hostile, (hostile, 1.0), notes=[hostile]), failed("b.mp4", hostile))
    data = data_of(page)
    assert data["videos"][0]["path"] == hostile and data["labels"] == [hostile]
    assert data["videos"][1]["error"]["reason"] == hostile
    elements = Elements(page)
    assert [tag for tag, _ in elements.found].count("script") == 2
    assert "img" not in {tag for tag, _ in elements.found}
    assert "\u2028" not in page.read_text("utf-8") and "alert(1)</" not in page.read_text("utf-8")


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    elements = Elements(page_of(tmp_path, record("a.mp4", *SCORES)))
    for tag, attributes in elements.found:
        assert not {"src", "href", "style"} & attributes.keys(), tag
        assert not [name for name in attributes if name.startswith("on")], tag
    (policy,) = [one["content"] for _, one in elements.found if one.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in str(policy).split("; "))
    (style,), (_, script) = elements.texts["style"], elements.texts["script"]
    for name, text in (("style-src", style), ("script-src", script)):
        assert rules.pop(name) == f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    assert rules == {"default-src": "'none'", "img-src": "data:", "media-src": "'self' file:",
                     "base-uri": "'none'", "form-action": "'none'"}  # fmt: skip


def test_the_script_makes_no_html_of_text() -> None:
    folder = Path(gather.__code__.co_filename).parent / "html"
    scripts = "".join(file.read_text("utf-8") for file in folder.glob("*.js"))
    assert len(list(folder.glob("*.js"))) > 1
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", scripts) == []


# --- pictures ---


def test_a_picture_is_a_key_frame_in_the_shape_of_its_video(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", gop=12, options={"sc_threshold": "0"})
    turned = rotated(tmp_path / "b.mp4", 90, size=(96, 160))
    (_, wide), (_, tall) = pictures_of([str(video.path), str(turned.path)], 1, 10_000, 2, 60.0)
    assert not isinstance(wide, InputError) and not isinstance(tall, InputError)
    assert (wide.width, wide.height) == (176, 140) and (tall.width, tall.height) == (105, 176)
    (time,) = wide.times
    image = np.asarray(Image.open(io.BytesIO(wide.jpeg)))
    assert read_code(image) == video.shown(time) and read_code(image) % 12 == 0
    assert read_code(np.asarray(Image.open(io.BytesIO(tall.jpeg)))) in turned.codes


def test_a_strip_has_frames_side_by_side_with_their_times(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", gop=12, options={"sc_threshold": "0"})
    ((_, strip),) = pictures_of([str(video.path)], 12, 20_000, 1, 60.0)
    assert not isinstance(strip, InputError)
    assert len(strip.times) == 5  # the video has no more key frames
    image = np.asarray(Image.open(io.BytesIO(strip.jpeg)))
    frames = np.split(image, len(strip.times), axis=1)
    assert [read_code(frame) for frame in frames] == [video.shown(time) for time in strip.times]
    ((_, small),) = pictures_of([str(video.path)], 12, 100, 1, 60.0)
    assert not isinstance(small, InputError) and len(small.jpeg) < len(strip.jpeg) and small.width == 64


def test_a_bad_file_has_a_reason_in_the_place_of_its_picture(zsar_here: Here, tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    names = ("good.mp4", "bad.mp4", "gone.mp4")
    results(tmp_path / "a.jsonl", *(record(name, *SCORES) for name in names), failed("failed.mp4"))
    finished = zsar_here("report", "a.jsonl", "-o", "a.html", "--workers", "1", cwd=tmp_path)
    assert "2 of 3 thumbnails could not be made" in finished.prose
    assert "a.html: 4 videos, 1 failed" in finished.prose
    data = data_of(tmp_path / "a.html")
    good, bad, gone, unread = data["videos"]
    jpeg, width, height, times = data["pictures"][good["picture"]]
    assert Image.open(io.BytesIO(base64.b64decode(jpeg))).size == (width, height) and len(times) == 1
    assert bad["no_picture"].startswith("open: ") and gone["no_picture"] == "find: no such file or folder"
    assert not {"picture", "no_picture"} & unread.keys()
    zsar_here("report", "a.jsonl", "-o", "b.html", "--no-thumbnails", cwd=tmp_path)
    assert data_of(tmp_path / "b.html")["pictures"] == []


def test_a_page_keeps_to_its_size(tmp_path: Path) -> None:
    """The pictures take what the rest leaves."""
    path = tmp_path / "noise.mp4"
    write_video(path, size=(320, 240), gop=1)
    labels = [(f"a label of some length {number}", 0.9 - number / 100) for number in range(5)]
    segments = [segment(labels[number % 5][0], number, number + 1.5) for number in range(100)]
    source = results(tmp_path / "a.jsonl", *(record(path, *labels, segments=segments) for _ in range(3)))
    report = gather([source], tmp_path)
    report.add_pictures(1, 60.0, lambda failed: None)
    assert report.videos[0]["picture"] == report.videos[2]["picture"] == 0
    assert len(report.page()) <= BASE + 3 * EACH


# --- refusals ---


def test_the_same_results_give_the_same_page(zsar_here: Here, tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4")
    results(tmp_path / "a.jsonl", record("good.mp4", *SCORES))
    for name in ("a", "b"):
        zsar_here("report", "a.jsonl", "-o", f"{name}.html", "-q", cwd=tmp_path)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    before = (tmp_path / "a.html").read_bytes()
    assert "--overwrite replaces it" in zsar_here("report", "a.jsonl", "-o", "a.html", cwd=tmp_path, code=1).prose
    assert (tmp_path / "a.html").read_bytes() == before
    zsar_here("report", "a.jsonl", "-o", "a.html", "--overwrite", "--no-thumbnails", cwd=tmp_path)
    assert (tmp_path / "a.html").read_bytes() != before


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "path,label,start,end\n", "a.csv: there is nothing in it to report"),
        ("a.csv", "path,answer,similarity,start,end\nb.mp4,x,far,,\n", "a.csv, line 2: its similarity is 'far'"),
        ("a.jsonl", "", "there is nothing in it to report"),
        ("a.json", '{"results": {"id": []}}', "names no files"),
        (
            "a.jsonl",
            '{"path": "b.mp4", "predictions": [{"score": 1}]}\n',
            "the record of b.mp4 is none that zsar writes",
        ),
        ("a.jsonl", '{"path": "b.mp4", "segments": [{"label": "x", "start": 1}]}\n', "the record of b.mp4 is none"),
        ("a.jsonl", '{"path": "b.mp4", "predictions": 3}\n', "the record of b.mp4 is none"),
        ("a.jsonl", '{"path": "b.mp4", "run": {"settings": NaN}}\n', "hold a number that is not finite"),
    ],
)
def test_what_is_no_result_is_refused(zsar_here: Here, tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    finished = zsar_here("report", name, "-o", "a.html", "--no-thumbnails", cwd=tmp_path, code=2)
    assert message in finished.prose
    assert not (tmp_path / "a.html").exists()


def test_a_page_has_a_name_for_browsers(zsar_here: Here, tmp_path: Path) -> None:
    results(tmp_path / "a.jsonl", record("a.mp4", *SCORES))
    finished = zsar_here("report", "a.jsonl", "-o", "a.jsonl", "--overwrite", cwd=tmp_path, code=2)
    assert "a.jsonl: a report is a page for a browser; name it a.html" in finished.prose
