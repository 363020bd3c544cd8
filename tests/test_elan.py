"""Annotations of ELAN documents, written by hand and by pympi."""

from __future__ import annotations

from pathlib import Path

import pytest

from zsar_cli.data.elan import Annotation, read_elan
from zsar_cli.errors import UsageError

MEDIA = '<MEDIA_DESCRIPTOR MEDIA_URL="{}" MIME_TYPE="video/mp4"/>'
SLOT = '<TIME_SLOT TIME_SLOT_ID="{}" TIME_VALUE="{}"/>'
ALIGNED = (
    '<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="{}" TIME_SLOT_REF2="{}">'
    "<ANNOTATION_VALUE>{}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
)
REFERRING = (
    '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a9" ANNOTATION_REF="a1">'
    "<ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
)
FILM = MEDIA.format("file:///data/a%20film.mp4")
SLOTS = SLOT.format("t1", 500) + SLOT.format("t2", 2500) + SLOT.format("t3", 4001) + '<TIME_SLOT TIME_SLOT_ID="t4"/>'
ACTIONS = ALIGNED.format("t1", "t2", "riding a bike") + ALIGNED.format("t2", "t3", " a &lt; b ")


def document(path: Path, media: str = FILM, **tiers: str) -> Path:
    body = "".join(f'<TIER TIER_ID="{name}">{content}</TIER>' for name, content in tiers.items())
    path.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<ANNOTATION_DOCUMENT FORMAT="3.0">'
        f"<HEADER>{media}</HEADER><TIME_ORDER>{SLOTS}</TIME_ORDER>{body}</ANNOTATION_DOCUMENT>",
        encoding="utf-8",
    )
    return path


def test_values_are_labels_and_slots_are_times(tmp_path: Path) -> None:
    file = document(tmp_path / "x.eaf", actions=ACTIONS, words=ALIGNED.format("t1", "t3", "太极拳"))
    actions = [Annotation("riding a bike", 0.5, 2.5), Annotation("a < b", 2.5, 4.001)]
    assert read_elan(file) == ("/data/a film.mp4", [*actions, Annotation("太极拳", 0.5, 4.001)])
    assert read_elan(file, "actions") == ("/data/a film.mp4", actions)
    assert read_elan(document(tmp_path / "x.eaf")) == ("/data/a film.mp4", [])


@pytest.mark.parametrize(
    "media",
    [
        '<MEDIA_DESCRIPTOR MEDIA_URL="file:///a/sound.wav" MIME_TYPE="audio/x-wav"/>' + MEDIA.format("file:///a/b.mp4"),
        MEDIA.format("file:///a/b.mp4") + MEDIA.format("file:///a/other view.mp4"),
        MEDIA.format("file:///C:\\films\\b.mp4"),
        MEDIA.format("b.mp4"),
        '<MEDIA_DESCRIPTOR MEDIA_URL="file:///a/b.mkv" MIME_TYPE="unknown"/>',
    ],
)
def test_the_first_video_is_meant(tmp_path: Path, media: str) -> None:
    assert read_elan(document(tmp_path / "x.eaf", media, actions=ACTIONS)).video == "b"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///data/a%20film.mp4", "/data/a film.mp4"),
        ("file:///data/50%25 off.mp4", "/data/50% off.mp4"),
        ("file:///C:/films/b.mp4", "C:/films/b.mp4"),
        ("films/b.mp4", "films/b.mp4"),
    ],
)
def test_the_path_of_the_video(tmp_path: Path, url: str, path: str) -> None:
    assert read_elan(document(tmp_path / "x.eaf", MEDIA.format(url), actions=ACTIONS)).path == path


def test_a_document_that_begins_within_its_video(tmp_path: Path) -> None:
    media = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///a/b.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="1500"/>'
    _, (first, _) = read_elan(document(tmp_path / "x.eaf", media, actions=ACTIONS))
    assert first == Annotation("riding a bike", 2.0, 4.0)


@pytest.mark.parametrize(
    ("media", "tiers", "message"),
    [
        ("", {"a": ACTIONS}, "links no media file"),
        (MEDIA.format(""), {"a": ACTIONS}, "its media file '' with TIME_ORIGIN '0' is none"),
        (FILM.replace("/>", ' TIME_ORIGIN="--1"/>'), {"a": ACTIONS}, "with TIME_ORIGIN '--1' is none"),
        (FILM, {"a": ACTIONS, "b": REFERRING}, r"x.eaf: tier 'b' has no times of its own, .* by --tier"),
        (
            FILM,
            {"a": ALIGNED.format("t3", "t4", "x")},
            r"tier 'a': the annotation 'a1' from 4001 to \? ms is not aligned",
        ),
        (FILM, {"a": ALIGNED.format("t1", "t9", "x")}, r"from 500 to \? ms is not aligned"),
        (FILM, {"a": ALIGNED.format("t2", "t1", "x")}, "from 2500 to 500 ms is not aligned"),
        (FILM, {"a": ALIGNED.format("t1", "t1", "x")}, "from 500 to 500 ms is not aligned"),
        (FILM, {"a": ALIGNED.format("t1", "t2", " ")}, "from 500 to 2500 ms has no value"),
    ],
)
def test_documents_that_cannot_be_used(tmp_path: Path, media: str, tiers: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_elan(document(tmp_path / "x.eaf", media, **tiers))


def test_a_tier_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x.eaf: has no tier 'c'; it has 'a', 'b'"):
        read_elan(document(tmp_path / "x.eaf", a=ACTIONS, b=""), "c")


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), "has a document type"),
        (f'<?xml version="1.0" encoding="UTF-16"?>{BOMB}'.encode("utf-16"), "is not text in UTF-8"),
        (b"<html></html>", "is no document of ELAN: it begins with <html>"),
        (b"<x>&undefined;</x>", "is not readable XML"),
        (b"", "is not readable XML"),
        (b"<a>" * 100_000, "is not readable XML"),
    ],
)
def test_files_that_are_no_documents(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.eaf").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_elan(tmp_path / "x.eaf")


def test_a_document_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x.eaf: cannot be read"):
        read_elan(tmp_path / "x.eaf")


def test_a_document_by_pympi(tmp_path: Path) -> None:
    pympi = pytest.importorskip("pympi")
    eaf = pympi.Eaf()
    eaf.add_linked_file("file:///data/film.mp4", mimetype="video/mp4")
    eaf.add_tier("actions")
    for start, end, label in ((0, 10, "a"), (10, 62500, "b & c")):
        eaf.add_annotation("actions", start, end, label)
    eaf.to_file(tmp_path / "x.eaf")
    assert read_elan(tmp_path / "x.eaf") == ("/data/film.mp4", [("a", 0.0, 0.01), ("b & c", 0.01, 62.5)])
