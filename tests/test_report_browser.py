"""The page of results in a browser: what a person does with it, and that nothing leaves it.

Only with ZSAR_TEST_BROWSER=1: on two processors beside other tests the processes of Chromium have, more than once, kept
the kernel of a virtual machine busy for ever as they ended.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runner import LABELS, Finished, Runner
from report_pages import RUN, failed, page_of, record, results, segment
from videos import write_video

playwright = pytest.importorskip("playwright.sync_api")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.uses_browser,
    pytest.mark.skipif(os.environ.get("ZSAR_TEST_BROWSER") != "1", reason="needs ZSAR_TEST_BROWSER=1"),
    pytest.mark.skipif(BROWSER is None, reason=f"there is no {', '.join(BROWSERS)}"),
]

Here = Callable[..., Finished]
Opens = Callable[..., Any]
SCORES = (("archery", 0.6), ("swimming", 0.3), ("chess", 0.1))


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--no-zygote"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Opens]:
    """Opens pages; at the end none of them may have complained, or asked for what is not a file beside it."""
    complaints: list[str] = []
    asked: list[str] = []
    pages: list[Any] = []

    def open_page(file: Path, **how: Any) -> Any:
        page = browser.new_page(**how)
        pages.append(page)
        page.set_default_timeout(10_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def names(page: Any) -> list[str]:
    """Of the rows that are there, from top to bottom."""
    rows = """rows => rows.toSorted((a, b) => a.offsetTop - b.offsetTop)
                         .map(row => row.querySelector(".names b").textContent)"""
    found: list[str] = page.locator(".row").evaluate_all(rows)
    return found


def corrections(page: Any, target: Path) -> list[list[str]]:
    """The rows of the table that a page hands out, which is kept at `target`."""
    with page.expect_download() as download:
        page.locator("#save").click()
    assert download.value.suggested_filename == "corrections.csv"
    download.value.save_as(target)
    with open(target, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def three(tmp_path: Path) -> Path:
    """A page of a sure video, a doubtful one and one that failed."""
    unsure = {"doubtful": True, "reasons": ["two labels alike"], "unknown": 0.9, "answer": "unknown"}
    return page_of(
        tmp_path,
        record(tmp_path / "b.mp4", *SCORES, unknown=0.1),
        record(tmp_path / "a.mp4", ("chess", 0.5), ("swimming", 0.4), **unsure),
        failed(tmp_path / "c.mp4"),
    )


def test_rows_filters_and_order(opened: Opens, tmp_path: Path) -> None:
    page = opened(three(tmp_path))
    assert names(page) == ["b.mp4", "a.mp4", "c.mp4"]
    assert page.locator("#counts").inner_text() == "3 videos · 1 doubtful · 1 failed"
    row = page.locator(".row").nth(1).inner_text()
    assert "none of these" in row and "? doubtful" in row and "0.50" in row
    assert "the file is empty" in page.locator(".row").nth(2).inner_text()
    page.get_by_role("button", name="Video", exact=True).click()
    assert names(page) == ["a.mp4", "b.mp4", "c.mp4"]
    page.get_by_role("button", name="Sure", exact=True).click()
    assert names(page) == ["b.mp4", "a.mp4", "c.mp4"]
    assert page.locator("[data-key=sure]").get_attribute("aria-sort") == "descending"
    page.get_by_label("Only this state").select_option("Doubtful")
    assert names(page) == ["a.mp4"]
    page.get_by_label("Only this state").select_option("Failed")
    assert names(page) == ["c.mp4"]
    page.locator("#clear").click()
    page.get_by_label("Only this label").select_option("archery")
    assert names(page) == ["b.mp4"]
    page.locator("#clear").click()
    page.keyboard.press("/")
    page.keyboard.type("alike TWO")
    assert names(page) == ["a.mp4"] and page.locator("#found").inner_text() == "1 of 3 videos"


def test_keys_correct_no_video_that_a_filter_hides(opened: Opens, tmp_path: Path) -> None:
    page = opened(three(tmp_path))
    assert page.locator("#detail h2").inner_text() == "b.mp4"
    page.keyboard.press("/")
    page.keyboard.type("a.mp4")
    page.keyboard.press("Escape")
    assert page.locator("#detail h2").inner_text() == "a.mp4"
    page.keyboard.press("/")
    page.keyboard.type(" nothing")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    assert names(page) == [] and page.locator("#detail").inner_text() == ""
    assert page.locator("#save").is_hidden()


def test_right_answers_travel_from_the_browser_to_zsar_evaluate(opened: Opens, zsar_here: Here, tmp_path: Path) -> None:
    for name in ("a, b", "=c", "d"):
        write_video(tmp_path / f"{name}.mp4", frames=20)
    first, second, *_ = LABELS
    scores = ((first, 0.5), (second, 0.4))
    source = results(tmp_path / "r.jsonl", *(record(f"{name}.mp4", *scores) for name in ("a, b", "=c", "d")))
    zsar_here("report", source.name, "-o", "page.html", "--no-thumbnails", cwd=tmp_path)
    page = opened(tmp_path / "page.html")
    page.keyboard.press("2")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("1")
    page.keyboard.press("j")
    page.keyboard.press("c")
    page.keyboard.type('=cmd "x", or so')
    page.keyboard.press("Enter")
    assert page.locator(".row .right").count() == 3
    table = tmp_path / "elsewhere" / "corrections.csv"
    rows = corrections(page, table)
    assert rows == [["path", "label"], [str(tmp_path / "a, b.mp4"), second], [str(tmp_path / "=c.mp4"), first],
                    [str(tmp_path / "d.mp4"), "'=cmd \"x\", or so"]]  # fmt: skip
    zsar_here("evaluate", table, "--protocol", "all", "-o", tmp_path / "e.json", cwd=tmp_path)
    videos = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))["videos"]
    assert [(one["path"], one["truth"], one["error"]) for one in videos] == [
        (str(tmp_path / "a, b.mp4"), second, None),
        (str(tmp_path / "=c.mp4"), first, None),
        (str(tmp_path / "d.mp4"), '=cmd "x", or so', None),
    ]
    page.keyboard.press("x")
    assert corrections(page, table) == rows[:3]


def test_corrections_outlast_the_page(opened: Opens, tmp_path: Path) -> None:
    page = opened(three(tmp_path))
    page.keyboard.press("2")
    page.reload()
    assert page.locator(".row .right").all_inner_texts() == ["✓ swimming"]


def film(tmp_path: Path) -> Path:
    """A page of a video with segments, which lies beside it."""
    write_video(tmp_path / "film.webm", "libvpx", frames=100, gop=25)
    found = [segment("archery", 0, 1.5), segment("swimming", 1, 2, 1.0), segment("archery", 2.5, 3.5, 3.0)]
    video = {"width": 160, "height": 128, "duration": 4.0, "codec": "vp8", "container": "webm"}
    return page_of(tmp_path, record("film.webm", *SCORES, segments=found, video=video))


def test_a_click_on_the_timeline_plays_from_there(
    opened: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = opened(film(tmp_path))
    buttons = page.locator(".segment")
    assert buttons.count() == 3 and page.locator(".track i").count() == 3
    said = "archery, 0:02.5 \u2013 0:03.5, score 3.00, similarity 3.00"
    one = page.get_by_role("button", name=said)
    one.hover()
    assert page.locator("#tip").inner_text() == said
    one.click()
    player = page.locator("#detail video")
    for _ in range(100):  # the policy of the page does not let playwright wait for an expression
        if (time := player.evaluate("video => video.currentTime")) >= 2.5:
            break
        page.wait_for_timeout(100)
    assert 2.5 <= time < 4.5
    page.keyboard.press("2")  # of this segment: archery is 1
    page.wait_for_selector(".segment.corrected")
    rows = corrections(page, tmp_path / "c.csv")
    assert rows == [["path", "label", "start", "end"], [str(tmp_path / "film.webm"), "swimming", "2.5", "3.5"]]


def test_a_segment_is_offered_the_labels_of_its_time(
    opened: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = opened(film(tmp_path))
    page.locator(".segment[aria-label^=swimming]").click()
    choices = [" ".join(one.split()) for one in page.locator("button.choice").all_inner_texts()]
    assert choices == ["1 swimming 1.00", "2 archery 2.00", "3 chess \u2013"]


def test_a_file_that_cannot_be_played_is_said_to_be_so(
    opened: Opens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = film(tmp_path)
    (tmp_path / "film.webm").write_bytes(b"no video")
    page = opened(file)
    page.locator(".segment").first.click()
    page.wait_for_selector("text=The browser cannot play this file")
    assert page.locator("#detail .stage .picture").count() == 1


HOSTILE = {
    "tag": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "quotes": "\"'`><b>&lt;",
    "turned": "\u202egpj.4pm",
    "long": "x" * 300,
    "bytes": "\udcff\udc80.mp4",
    "ends": "</script>\u2028",
}


def test_hostile_names_are_shown_and_do_nothing(opened: Opens, tmp_path: Path) -> None:
    told = {"doubtful": True, "notes": list(HOSTILE.values()), "reasons": list(HOSTILE.values())}
    records = [record(name, (f"label {name}", 0.6), ("b", 0.5), **told) for name in HOSTILE.values()]
    settings = {**RUN, "settings": {name: name for name in HOSTILE.values()}}
    long = record("d", (HOSTILE["tag"], 1.0), segments=[segment(HOSTILE["tag"], 0, 1)], run=settings)
    page = opened(page_of(tmp_path, *records, *(failed(name, name) for name in HOSTILE.values()), long))
    page.set_viewport_size({"width": 1400, "height": 1400})
    shown = names(page)
    assert shown[1] == HOSTILE["quotes"] and shown[3] == HOSTILE["long"]
    assert shown[2] == "\\u202egpj.4pm" and shown[4] == "\\udcff\\udc80.mp4"
    assert page.locator(".row .video").first.get_attribute("title") == HOSTILE["tag"]
    for row in page.locator(".row").all():
        row.click()
    assert HOSTILE["tag"] in page.locator("#detail .timeline").inner_text()
    for tab in ("labels", "pairs", "failures", "settings"):
        page.locator(f"#tab-{tab}").click()
        assert page.locator(f"#{tab}").is_visible()
        assert "<script>alert(1)</script>" in page.locator(f"#{tab}").inner_text()
    assert page.locator("main img, main script").count() == 0
    assert page.locator("#settings dt", has_text="settings.\\u202egpj.4pm").count() == 1


def test_labels_pairs_and_settings(opened: Opens, tmp_path: Path) -> None:
    other = {**RUN, "model": {"name": "another", "fingerprint": "d"}}
    records = [record(f"{number}.mp4", ("archery", 0.5 - number / 10), ("chess", 0.25)) for number in range(3)]
    page = opened(page_of(tmp_path, *records, record("e.mp4", ("swimming", 0.9), ("chess", 0.1), run=other)))
    page.locator("#tab-labels").click()
    assert page.locator("#labels h2").inner_text() == "archery"
    cards = page.locator("#labels .card")
    assert [card.inner_text().split("\n")[0] for card in cards.all()] == ["0.mp4", "1.mp4", "2.mp4"]
    page.locator("#labels [aria-selected=true]").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#labels h2").inner_text() == "swimming"
    page.keyboard.press("ArrowUp")
    assert page.locator("#labels h3").all_inner_texts() == ["Surest", "Most doubtful"]
    page.locator("#tab-pairs").click()
    page.get_by_role("button", name="Show 3 videos").click()
    assert names(page) == ["0.mp4", "1.mp4", "2.mp4"]
    page.locator("#clear").click()
    page.get_by_label("Only this run").select_option("1")
    assert names(page) == ["e.mp4"]
    page.locator("#tab-settings").click()
    assert page.locator("#settings article").count() == 2
    assert "another" in page.locator("#settings article").nth(1).inner_text()


def test_what_composes_a_label_and_which_are_alike(opened: Opens, tmp_path: Path) -> None:
    told = {
        "label": "archery",
        "kind": "near",
        "nearest": "hunting bow",
        "cosine": 0.91,
        "parts": [["hunting bow", 0.99]],
    }
    explanation = {"labels": [told], "alike": [["archery", "__proto__", 0.95]]}
    records = [record(f"{name}.mp4", (name, 0.9), ("chess", 0.1)) for name in ("archery", "constructor", "__proto__")]
    page = opened(page_of(tmp_path, *records, explanation=explanation))
    page.locator("#tab-labels").click()
    for name in ("constructor", "__proto__", "archery"):
        page.get_by_role("option", name=name).click()
        assert page.locator("#labels h2").inner_text() == name
        assert page.locator("#labels .scores").count() == (name == "archery")
    assert page.locator("#labels .scores").inner_text().split() == ["hunting", "bow", "0.99"]
    page.locator("#tab-pairs").click()
    assert page.locator("#pairs tr").nth(1).inner_text().split() == ["__proto__", "archery", "0", "0.950"]


def test_thousands_of_videos_are_few_rows_at_a_time(opened: Opens, tmp_path: Path) -> None:
    page = opened(page_of(tmp_path, *(record(f"{number:04}.mp4", *SCORES) for number in range(5000))))
    page.keyboard.press("End")
    page.wait_for_selector("text=4999.mp4")
    assert names(page)[-1] == "4999.mp4" and len(names(page)) < 40
    page.keyboard.press("Home")
    page.wait_for_selector("#row-0")
    page.locator("#rows").evaluate("rows => { rows.scrollTop = rows.scrollHeight / 2; }")
    page.wait_for_selector("text=2500.mp4")
    assert len(names(page)) < 40
    assert page.locator("#table").get_attribute("aria-rowcount") == "5001"


def test_light_dark_and_as_the_system(opened: Opens, tmp_path: Path) -> None:
    page = opened(three(tmp_path), color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    assert page.get_by_label("Theme: auto").is_visible()
    page.keyboard.press("t")
    page.get_by_label("Theme: dark").wait_for()
    assert page.evaluate(colour) == dark
    page.keyboard.press("t")
    page.get_by_label("Theme: light").wait_for()
    page.wait_for_function(f"{colour} !== {dark!r}")
    page.reload()
    page.wait_for_function(f"{colour} !== {dark!r}")


def test_names_and_roles_for_screen_readers(opened: Opens, tmp_path: Path) -> None:
    page = opened(three(tmp_path))
    assert page.get_by_role("grid", name="Videos").is_visible()
    assert page.get_by_role("grid").get_by_role("row").count() == 4
    assert page.get_by_role("grid").get_by_role("columnheader").count() == 6
    assert page.locator("[aria-selected=true].row").get_attribute("id") == "row-0"
    active = page.locator("#table").get_attribute("aria-activedescendant")
    assert active == "row-0"
    page.keyboard.press("n")  # the next doubtful one
    assert page.locator("#table").get_attribute("aria-activedescendant") == "row-1"
    page.locator("#tab-videos").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Labels").get_attribute("aria-selected") == "true"
    nameless = page.locator("button, select, input").evaluate_all(
        "all => all.filter(one => !(one.ariaLabel || one.textContent.trim())).map(one => one.outerHTML)"
    )
    assert nameless == []
