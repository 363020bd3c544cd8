"""How `zsar classify` and `zsar search` on a library grow with it: time and memory of whole processes.

    python examples/benchmarks/library.py --windows 10000 100000 1000000 --labels 1000

Each library holds random vectors in the space of the built-in model, `--per-video` windows a video. Its labels are made
of the words of the packaged lexicon; a first run embeds them, so that those which are timed know them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from zsar_cli.engine.adding import make_library
from zsar_cli.engine.loading import ClassifierSpec
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.store.library import LARGE, Library
from zsar_cli.store.shards import Entry, write_shard
from zsar_cli.text.lexicon import packaged_lexicon
from zsar_cli.video.types import Sampling, VideoFacts, VideoInfo


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--per-video", type=int, default=5)
    parser.add_argument("--labels", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        labels = _labels(folder / "labels.txt", options.labels)
        classify = ["-l", labels, "-o", "/dev/null", "-f", "jsonl"]
        _run(["classify", str(_library(folder / "first", 5, 5)), *classify], folder)
        print(f"{'windows':>9} {'command':>9} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9}   medians of {options.runs}")
        for windows in options.windows:
            library = _library(folder / str(windows), windows, options.per_video)
            for name, command in (
                ("classify", ["classify", str(library), *classify]),
                ("search", ["search", str(library), "someone playing the flute"]),
            ):
                _run(command, folder)  # the files are in memory from here on
                figures = np.median([_run(command, folder) for _ in range(options.runs)], axis=0)
                print(f"{windows:>9} {name:>9} {figures[0]:>8.2f} {figures[1]:>8.2f} {figures[2]:>9.0f}", flush=True)


def _labels(target: Path, count: int) -> str:
    target.write_text("\n".join(packaged_lexicon().names[:count]), encoding="utf-8")
    return str(target)


def _library(folder: Path, windows: int, per_video: int) -> Path:
    spec = ClassifierSpec(embedding=EmbedSettings({"window": 4.0, "stride": 2.0, "frame_rate": 25.0}))
    with spec.build() as classifier:
        library = make_library(folder, classifier)
    size = sum(width * 2 for _, width in library.spec.columns)
    step = LARGE // size // per_video
    for first in range(0, windows // per_video, step):
        last = min(first + step, windows // per_video)
        write_shard(library.shards, library.spec.columns, _entries(library, first, last, per_video))
    return folder


def _entries(library: Library, first: int, last: int, per_video: int) -> Iterator[Entry]:
    chance = np.random.default_rng(first)
    info = VideoInfo(1280, 720, 60.0, 25.0, "h264", "mov,mp4,m4a,3gp,3g2,mj2")
    sampling = Sampling(frames=16, window=4.0, stride=2.0)
    facts = json.dumps(asdict(VideoFacts("", info, sampling, "pyav", "18.1.0 (FFmpeg 8.0)")))
    starts = np.arange(per_video) * 2.0
    spans = np.stack([starts, starts + 4.0], axis=1)
    for number in range(first, last):
        shapes = [(per_video, width) for _, width in library.spec.columns]
        vectors = [chance.standard_normal(shape, np.float32).astype(np.float16) for shape in shapes]
        path = f"/archive/{number // 1000}/{number}.mp4"
        yield Entry(f"sampled:{number:064x}", path, "video", 1, 1, "float32", facts, None, spans, vectors)


def _run(arguments: Sequence[str], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds and peak MiB of a whole process."""
    start = time.perf_counter()
    environment = {**os.environ, "ZSAR_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "zsar_cli", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"zsar {' '.join(arguments)} ended with {status}")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
