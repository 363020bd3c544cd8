"""Formats of segments, read back by parsers written here and by those of others."""

from __future__ import annotations

import html
import io
import json
import os
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_report import DONE, FAILED, RUN

from zsar_cli.errors import MissingExtraError, OutputError, UsageError
from zsar_cli.records import Segment
from zsar_cli.report.formats import (
    FORMATS,
    SEGMENT_FORMATS,
    check_format,
    check_paths,
    format_for,
    is_folder,
    open_folder,
    open_writer,
)

SEGMENTS = (
    Segment("riding a bike", 0.1 + 0.2, 2.5, 4.123456789, 1.5, 1.25),
    Segment("太极拳", 1.0, 7.2072072, 3.0, 0.5, 5.5),
    Segment('5 < 6 --> "7" & more', 3605.9996, 3725.0404, 2.5, 0.25, 3700.0),
)
TIMED = replace(DONE, segments=SEGMENTS)
NOTHING = replace(DONE, path="other.avi", segments=())
CAPTIONS = ("vtt", "srt", "audacity")
OF_ONE_VIDEO = (*CAPTIONS, "edl", "elan")
SUFFIXES = {"vtt": ".vtt", "srt": ".srt", "audacity": ".txt", "edl": ".edl", "elan": ".eaf"}


def written(format, tmp_path, *records):
    target = tmp_path / "result"
    with open_writer(format, target, overwrite=True, run=RUN) as writer:
        for record in records:
            writer.write(record)
    return target.read_bytes().decode()


def seconds(text):
    hours, minutes, rest = text.replace(",", ".").split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(rest)


def read_vtt(text):
    head, *blocks = text.strip().split("\n\n")
    assert head == "WEBVTT"
    for block in blocks:
        times, label = block.split("\n")
        found = re.fullmatch(r"(\d\d+:\d\d:\d\d\.\d{3}) --> (\d\d+:\d\d:\d\d\.\d{3})", times)
        assert "<" not in label and "-->" not in label
        yield seconds(found[1]), seconds(found[2]), html.unescape(label)


def read_srt(text):
    for number, block in enumerate(text.strip().split("\n\n") if text else (), start=1):
        index, times, label = block.split("\n")
        found = re.fullmatch(r"(\d\d+:\d\d:\d\d,\d{3}) --> (\d\d+:\d\d:\d\d,\d{3})", times)
        assert int(index) == number
        yield seconds(found[1]), seconds(found[2]), label


def read_audacity(text):
    for line in text.splitlines():
        start, end, label = line.split("\t")
        yield float(start), float(end), label


READERS = {"vtt": read_vtt, "srt": read_srt, "audacity": read_audacity}


@pytest.mark.parametrize("format", CAPTIONS)
def test_captions_come_back(tmp_path, format):
    back = list(READERS[format](written(format, tmp_path, TIMED)))
    assert [label for _, _, label in back] == [one.label for one in SEGMENTS]
    for (start, end, _), one in zip(back, SEGMENTS, strict=True):
        assert (start, end) == pytest.approx((one.start, one.end), abs=0.00051)
    assert list(READERS[format](written(format, tmp_path, NOTHING))) == []
    assert list(READERS[format](written(format, tmp_path, FAILED))) == []


def test_others_read_the_captions(tmp_path):
    webvtt, srt = pytest.importorskip("webvtt"), pytest.importorskip("srt")
    captions = webvtt.from_string(written("vtt", tmp_path, TIMED))
    subtitles = list(srt.parse(written("srt", tmp_path, TIMED)))
    for caption, subtitle, one in zip(captions, subtitles, SEGMENTS, strict=True):
        assert html.unescape(caption.text) == subtitle.content == one.label
        ends = (subtitle.start.total_seconds(), subtitle.end.total_seconds())
        assert (caption.start_in_seconds, caption.end_in_seconds) == tuple(map(int, ends))
        assert ends == pytest.approx((one.start, one.end), abs=0.00051)


@pytest.mark.parametrize("format", OF_ONE_VIDEO)
def test_formats_of_one_video_refuse_two(format):
    check_paths(format, ["a/x.mp4"])
    with pytest.raises(UsageError, match="holds one video, and 2 were given"):
        check_paths(format, ["a/x.mp4", "b.mp4"])


def test_activitynet_results_come_back(tmp_path):
    document = json.loads(written("activitynet", tmp_path, TIMED, FAILED, NOTHING))
    assert set(document) == {"version", "external_data", "results"}
    assert list(document["results"]) == ["a b", "bad\nname", "other"]
    assert document["results"]["other"] == document["results"]["bad\nname"] == []
    for found, one in zip(document["results"]["a b"], SEGMENTS, strict=True):
        assert set(found) == {"label", "score", "segment"} and found["label"] == one.label
        assert (*found["segment"], found["score"]) == pytest.approx((one.start, one.end, one.similarity), abs=1e-6)
    assert json.loads(written("activitynet", tmp_path))["results"] == {}


def test_equal_ids_are_refused_by_both_paths():
    check_paths("activitynet", ["a/x.mp4", "a/y.mp4", "a/x.y.mp4"])
    with pytest.raises(UsageError, match=r"a/x\.mp4 and b/x\.avi would both be 'x'"):
        check_paths("activitynet", ["a/x.mp4", "c.mp4", "b/x.avi"])
    for format in (*FORMATS, "labelstudio", "fiftyone"):
        check_paths(format, ["a/x.mp4", "b/x.avi"])


def test_label_studio_tasks_come_back(tmp_path):
    without = replace(NOTHING, facts=replace(DONE.facts, info=replace(DONE.facts.info, frame_rate=None)))
    task, failed, empty, unknown = json.loads(written("labelstudio", tmp_path, TIMED, FAILED, NOTHING, without))
    rate = DONE.facts.info.frame_rate
    (prediction,) = task["predictions"]
    assert task["data"] == {"video": "clips/a b.mp4"} and prediction["model_version"] == RUN.fingerprint
    assert len({region["id"] for region in prediction["result"]}) == 3
    for region, one in zip(prediction["result"], SEGMENTS, strict=True):
        assert (region["from_name"], region["to_name"], region["type"]) == ("videoLabels", "video", "timelinelabels")
        assert region["value"]["timelinelabels"] == [one.label]
        ((first, last),) = [(each["start"], each["end"]) for each in region["value"]["ranges"]]
        assert 1 <= first <= last and type(first) is type(last) is int
        # Frame f is on the screen from (f - 1) / rate to f / rate.
        assert ((first - 1) / rate, last / rate) == pytest.approx((one.start, one.end), abs=0.501 / rate)
    assert empty["predictions"][0]["result"] == []
    assert failed == {"data": {"video": "bad\nname.mp4", "error": "decode failed: no frame, none"}}
    assert unknown["data"]["error"] == "its frame rate is not known" and "predictions" not in unknown
    assert json.loads(written("labelstudio", tmp_path)) == []


def test_fiftyone_detections_come_back(tmp_path):
    document = json.loads(written("fiftyone", tmp_path, TIMED, FAILED, NOTHING))
    assert set(document) == {"labels"}  # without "classes" a label is its text, not a number
    assert all(map(os.path.isabs, document["labels"]))
    timed, failed, nothing = document["labels"].values()
    assert next(iter(document["labels"])) == os.path.abspath("clips/a b.mp4")
    assert failed is None and nothing == []
    for found, one in zip(timed, SEGMENTS, strict=True):
        assert set(found) == {"label", "timestamps", "confidence"} and found["label"] == one.label
        assert (*found["timestamps"], found["confidence"]) == pytest.approx((one.start, one.end, one.score), abs=1e-6)
    assert json.loads(written("fiftyone", tmp_path)) == {"labels": {}}


@pytest.mark.parametrize(
    ("rate", "timecode"),
    [(None, 25.0), (14.9, 25.0), (23.976, 24000 / 1001), (25.0, 25.0), (29.98, 30000 / 1001), (60.0, 60.0)],
)
def test_edit_decision_lists_come_back(tmp_path, rate, timecode):
    cmx_3600 = pytest.importorskip("otio_cmx3600_adapter.cmx_3600")
    record = replace(TIMED, facts=replace(DONE.facts, info=replace(DONE.facts.info, frame_rate=rate)))
    timeline = cmx_3600.read_from_string(written("edl", tmp_path, record), rate=timecode)
    assert timeline.name == f"a b.mp4, timecode at {timecode:.5g} frames per second"
    (track,) = timeline.tracks
    for clip, one in zip(track, SEGMENTS, strict=True):
        found, comments = clip.source_range, clip.metadata["cmx_3600"]["comments"]
        assert clip.name == "a b.mp4" and list(comments) == [f"COMMENT: {one.label}"]
        ends = found.start_time.to_seconds(), found.end_time_exclusive().to_seconds()
        assert ends == pytest.approx((one.start, one.end), abs=0.501 / timecode)
    for record in (FAILED, NOTHING):
        assert not list(cmx_3600.read_from_string(written("edl", tmp_path, record), rate=timecode).tracks)


def test_another_parser_reads_an_edit_decision_list(tmp_path):
    pytest.importorskip("otio_cmx3600_adapter")
    events = list(pytest.importorskip("pycmx").parse_cmx3600(io.StringIO(written("edl", tmp_path, TIMED))).events)
    found = [(edit.source_in, edit.source_out, edit.clip_name) for event in events for edit in event.edits]
    # 3605.9996 s are 108071.9 frames at 30000 / 1001 a second; in an hour drop frame leaves out 108 numbers.
    assert found == [
        ("00:00:00;09", "00:00:02;15", "a b.mp4"),
        ("00:00:01;00", "00:00:07;06", "a b.mp4"),
        ("01:00:06;00", "01:02:05;02", "a b.mp4"),
    ]


def test_a_segment_shorter_than_a_frame_is_a_frame_of_an_edit_decision_list(tmp_path):
    cmx_3600 = pytest.importorskip("otio_cmx3600_adapter.cmx_3600")
    text = written("edl", tmp_path, replace(TIMED, segments=(Segment("a", 1.0, 1.001, 1.0, 1.0, 1.0),)))
    ((only,),) = cmx_3600.read_from_string(text, rate=30000 / 1001).tracks
    assert only.source_range.duration.value == 1


def test_elan_documents_come_back(tmp_path):
    pympi = pytest.importorskip("pympi")
    again = Segment("riding a bike", 5.0, 5.0003, 2.0, 0.5, 5.0)
    record = replace(TIMED, segments=(*SEGMENTS[:2], again, SEGMENTS[2]))
    text = written("elan", tmp_path, record)
    document = pympi.Eaf(tmp_path / "result")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>') and 'DATE="1970-' in text
    (media,) = document.get_linked_files()
    place = Path("clips/a b.mp4").absolute().as_posix()
    assert (media["MEDIA_URL"], media["MIME_TYPE"]) == (f"file:///{place.lstrip('/')}", "video/mp4")
    assert list(document.get_tier_names()) == [one.label for one in SEGMENTS]
    for one in SEGMENTS:
        spans = document.get_annotation_data_for_tier(one.label)
        found = [(start / 1000, end / 1000, value) for start, end, value in spans]
        assert found[0] == (pytest.approx(one.start, abs=0.00051), pytest.approx(one.end, abs=0.00051), one.label)
        assert found[1:] == ([(5.0, 5.001, again.label)] if one.label == again.label else [])
    for record in (FAILED, NOTHING):
        written("elan", tmp_path, record)
        assert list(pympi.Eaf(tmp_path / "result").get_tier_names()) == []


@pytest.mark.parametrize(
    ("format", "package", "module"),
    [("edl", "otio-cmx3600-adapter", "otio_cmx3600_adapter.cmx_3600"), ("elan", "pympi-ling", "pympi.Elan")],
)
def test_a_missing_package_is_named_before_any_work(monkeypatch, format, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"zsar_cli.report.{format}_format", raising=False)
    with pytest.raises(MissingExtraError, match=rf"pip install {package} \(the extra '{format}'"):
        check_paths(format, ["a.mp4"])


@pytest.mark.parametrize("format", SEGMENT_FORMATS)
def test_they_are_for_segments_alone(tmp_path, format):
    assert check_format(format, segments=True) == format
    with pytest.raises(UsageError, match="segments are written by zsar localize"):
        check_format(format)
    with pytest.raises(ValueError, match="this format holds segments"):
        written(format, tmp_path, DONE)


@pytest.mark.parametrize("format", SEGMENT_FORMATS)
def test_no_character_acts(tmp_path, format):
    text = written(format, tmp_path, replace(TIMED, segments=(Segment("a\u202eb", 0.0, 1.0, 1.0, 1.0, 0.5),)))
    assert "\u202e" not in text and "202e" in text


def test_suffixes():
    assert format_for(Path("a.vtt"), segments=True) == "vtt" and format_for(Path("a.SRT"), segments=True) == "srt"
    assert format_for(Path("a.edl"), segments=True) == "edl" and format_for(Path("a.eaf"), segments=True) == "elan"
    assert format_for(Path("a.json"), segments=True) == "json"
    with pytest.raises(UsageError, match="its suffix names no format"):
        format_for(Path("a.vtt"))


# --- a folder of files ---


@pytest.mark.parametrize("format", OF_ONE_VIDEO)
def test_a_folder_takes_a_file_per_video(format, tmp_path):
    records = [TIMED, FAILED, NOTHING]
    assert is_folder(format, tmp_path) and not is_folder(format, tmp_path / "none") and not is_folder(format, None)
    check_paths(format, [record.path for record in records], tmp_path)
    with open_folder(format, tmp_path, overwrite=False, run=RUN) as writer:
        for record in records:
            writer.write(record)
            assert not list(tmp_path.glob("*.part"))  # whole as soon as its video is done
    assert (writer.summary.done, writer.summary.failed) == (2, 1)
    kept = {path.stem: path for path in tmp_path.iterdir()}
    assert sorted(kept) == ["a b", "other"] and {path.suffix for path in kept.values()} == {SUFFIXES[format]}
    for record in (TIMED, NOTHING):
        with open_writer(format, tmp_path / "alone", overwrite=True, run=RUN) as alone:
            alone.write(record)
        assert kept[Path(record.path).stem].read_bytes() == (tmp_path / "alone").read_bytes()


def test_a_folder_is_none_for_a_format_of_many_videos(tmp_path):
    assert not any(is_folder(format, tmp_path) for format in (*FORMATS, "activitynet", "labelstudio", "fiftyone"))


def test_files_of_a_folder_that_cannot_be_are_refused_before_any_work(tmp_path):
    with pytest.raises(UsageError, match=rf"a/x\.mp4 and b/X\.avi would both be {re.escape(str(tmp_path))}.X\.vtt"):
        check_paths("vtt", ["a/x.mp4", "b/X.avi"], tmp_path)
    (tmp_path / "y.srt").write_text("mine")
    with pytest.raises(OutputError, match=r"y\.srt exists; --overwrite replaces it"):
        check_paths("srt", ["x.mp4", "y.mp4"], tmp_path)
    check_paths("srt", ["x.mp4", "y.mp4"], tmp_path, overwrite=True)
    check_paths("vtt", ["x.mp4", "y.mp4"], tmp_path)
