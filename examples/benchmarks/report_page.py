"""How a page of many videos behaves: its size, when it is first painted, how many frames a second it scrolls with.

    python examples/benchmarks/report_page.py --videos 5000

Needs playwright and a Chromium. Every video has a picture as large as the page may grow for it.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from zsar_cli.report.html_report import BASE, EACH, gather

SECONDS = 4
# Scrolls at so many pixels a second; gives the milliseconds between frames.
SCROLL = """([seconds, speed]) => new Promise(done => {
  const rows = document.getElementById("rows"), times = [], first = performance.now();
  rows.scrollTop = 0;
  const frame = now => {
    times.push(now);
    rows.scrollTop = (now - first) / 1000 * speed;
    if (now - first < seconds * 1000) requestAnimationFrame(frame);
    else done(times.slice(1).map((time, at) => time - times[at]));
  };
  requestAnimationFrame(frame);
})"""


def make(folder: Path, count: int) -> Path:
    """A page of videos with five labels each, of sixty."""
    chance, labels = random.Random(0), [f"doing action number {number}" for number in range(60)]
    with open(folder / "results.jsonl", "w", encoding="utf-8") as file:
        for number in range(count):
            found = [(name, 0.5 / (rank + 1)) for rank, name in enumerate(chance.sample(labels, 5))]
            predictions = [{"label": name, "score": score, "similarity": 9 * score} for name, score in found]
            facts = {"width": 320, "height": 240, "duration": chance.uniform(2, 600)}
            told = {"unknown": chance.random(), "doubtful": chance.random() < 0.1, "notes": ["one frame"]}
            line = {
                "path": f"archive/{number % 97:02}/video_{number:05}.mp4",
                "predictions": predictions,
                "video": facts,
            }
            file.write(json.dumps({**line, **told, "error": None, "segments": None}) + "\n")
    report = gather([folder / "results.jsonl"], folder)
    room = (BASE + EACH * count - len(report.page())) // count - 120
    report.pictures = [[_picture(number, room * 3 // 4), 176, 132, [1.0]] for number in range(count)]
    for number, video in enumerate(report.videos):
        video["picture"] = number
    report.write(folder / "report.html", overwrite=True)
    return folder / "report.html"


def _picture(seed: int, size: int) -> str:
    """A JPEG of about so many bytes."""
    image = np.kron(np.random.default_rng(seed).integers(0, 256, (11, 8, 3)), np.ones((12, 22, 1))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=60)
    return base64.b64encode(file.getvalue()[:-2] + bytes(max(0, size - file.tell())) + b"\xff\xd9").decode()


def measure(page: Page, file: Path) -> None:
    """Prints what was seen."""
    started = time.monotonic()
    page.goto(file.as_uri())
    page.wait_for_selector("#row-0")
    seen = time.monotonic() - started
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
    print(f"first contentful paint {paint / 1000:.2f} s, first row there {seen:.2f} s")
    for speed in (1_000, 5_000, 50_000):
        gaps = page.evaluate(SCROLL, [SECONDS, speed])
        worst, rows = max(gaps), page.locator(".row").count()
        rate = 1000 * len(gaps) / sum(gaps)
        print(f"{speed:>6} pixels/s: {rate:.0f} frames/s, longest gap {worst:.0f} ms, {rows} rows at the end")
    started = time.monotonic()
    page.fill("#text", "video_04 number_7")
    page.wait_for_timeout(0)
    print(f"a filter: {time.monotonic() - started:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=5000)
    count = parser.parse_args().videos
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as engine:
        file = make(Path(folder), count)
        size, most = file.stat().st_size, BASE + EACH * count
        print(f"{count} videos: {size / 1e6:.2f} MB, {size / most:.2f} of what it may have")
        browser = engine.chromium.launch(executable_path=found, args=["--no-sandbox"])
        measure(browser.new_page(viewport={"width": 1440, "height": 900}), file)
        browser.close()


if __name__ == "__main__":
    main()
