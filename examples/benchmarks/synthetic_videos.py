"""From video files to a model from scratch: nothing is pre-trained but the sentence encoder of the labels.

    python examples/benchmarks/synthetic_videos.py --splits 3

The combinations of `synthetic.py` as .mp4 files: one shape of one colour moves one way over grey noise. Of 24 classes
6 are never trained on. For each split `zsar train --source raw` trains a narrow R(2+1)D-18 and the Transformer at once;
then `zsar classify` scores other videos of the unseen classes against all 24 names. Printed, mean per class:

    unseen    videos of the unseen classes, among the unseen names
    motion    the same videos between their own name and each with the same shape and colour that moves otherwise
    CPU s     of the training, all its processes
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import av
import numpy as np
from synthetic import COLOURS, DIRECTIONS, SHAPES, split

CLASSES = tuple(itertools.product(COLOURS, SHAPES, DIRECTIONS))
NAMES = tuple(f"a {colour} {shape} moving {direction}" for colour, shape, direction in CLASSES)
SIDE, FRAMES, RATE = 64, 24, 12  # pixels; of a file; per second
CONFIG = """
source: raw
backbone: {{name: r2plus1d_18, weights: random, width: {width}, size: 56, cells: 2, freeze_norm: false}}
clip: {{frames: 8, view: whole, flip: false}}
model: {{space: 128, width: 128, depth: 2, heads: 4, dropout: 0.0}}
train: {{steps: {steps}, batch: 32, learning_rate: 1.0e-3, prior_rate: 1.0, mixup: 0.0, reverse: 0.0, matching: 0.0}}
raw: {{backbone_rate: 1.0, layer_decay: 1.0, crop: 0.8, colour: 0.1}}
"""


def make_video(target: Path, colour: str, shape: str, direction: str, rng: np.random.Generator) -> None:
    """Two seconds in which the shape crosses much of the picture."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    radius = rng.uniform(7, 12)
    middle = SIDE / 2 + rng.uniform(-10, 10, 2)
    step = np.array(DIRECTIONS[direction]) * rng.uniform(1.2, 2.0)
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for time in range(FRAMES):
            row, column = middle + (time - (FRAMES - 1) / 2) * step
            down, across = np.abs(rows - row), np.abs(columns - column)
            inside = {
                "circle": down**2 + across**2 <= radius**2,
                "square": (down <= radius) & (across <= radius),
                "cross": ((down <= radius / 3) & (across <= radius)) | ((across <= radius / 3) & (down <= radius)),
            }[shape]
            image = np.where(inside[..., None], COLOURS[colour], 0.4) + rng.normal(0, 0.06, (SIDE, SIDE, 3))
            pixels = (255 * image.clip(0, 1)).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        out.mux(stream.encode(None))


def make_videos(folder: Path, count: int, rng: np.random.Generator) -> None:
    """A folder for each class."""
    for name, parts in zip(NAMES, CLASSES, strict=True):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            make_video(folder / name / f"{number}.mp4", *parts, rng)


def zsar(*arguments: str | Path) -> None:
    """One command, quiet; ends the script where it fails."""
    subprocess.run([sys.executable, "-m", "zsar_cli", *map(str, arguments), "--quiet"], check=True)


def per_class(right: Iterable[tuple[str, bool]]) -> float:
    """Mean over classes of the share that is right."""
    found: dict[str, list[bool]] = defaultdict(list)
    for name, one in right:
        found[name].append(one)
    return float(np.mean([np.mean(one) for one in found.values()]))


def of_motion(name: str) -> list[str]:
    """Names with the same shape and colour that move otherwise."""
    start = name.rsplit(" ", 1)[0]
    return [other for other in NAMES if other.startswith(f"{start} ") and other != name]


def measure(work: Path, number: int, unseen: int, config: str) -> Mapping[str, float]:
    """Train and score one split."""
    _, held = split(len(NAMES), unseen, number)
    names = [NAMES[index] for index in held.tolist()]
    run = work / f"split{number}"
    run.mkdir()
    (run / "unseen.txt").write_text("\n".join(names), encoding="utf-8")
    (run / "config.yaml").write_text(config, encoding="utf-8")
    (run / "labels.txt").write_text("\n".join(NAMES), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    zsar("train", work / "train", "-o", run / "run", "--unseen", run / "unseen.txt", "--config", run / "config.yaml")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    results = run / "results.jsonl"
    videos = [work / "test" / name for name in names]
    zsar("classify", *videos, "-l", run / "labels.txt", "--model", run / "run", "-k", len(NAMES), "-o", results)
    unseen_right, motion_right = [], []
    for line in results.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        truth = Path(record["path"]).parent.name
        similarity = {one["label"]: one["similarity"] for one in record["predictions"]}
        unseen_right.append((truth, max(names, key=similarity.__getitem__) == truth))
        motion_right += [(truth, similarity[truth] > similarity[other]) for other in of_motion(truth)]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"unseen": per_class(unseen_right), "motion": per_class(motion_right), "CPU s": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="of each class for training; 10 more for the test")
    parser.add_argument("--unseen", type=int, default=6)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--width", type=float, default=0.25, help="of the network, as a share of the published one")
    parser.add_argument("--splits", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work, rng = Path(folder), np.random.default_rng(0)
        make_videos(work / "train", args.clips, rng)
        make_videos(work / "test", max(1, args.clips // 4), rng)
        writer = csv.writer(sys.stdout)
        writer.writerow(["split", "unseen %", "motion %", "CPU s"])
        for number in range(args.splits):
            found = measure(work, number, args.unseen, CONFIG.format(width=args.width, steps=args.steps))
            shown = [100 * found["unseen"], 100 * found["motion"], found["CPU s"]]
            writer.writerow([number, *(f"{value:.1f}" for value in shown)])
            sys.stdout.flush()


if __name__ == "__main__":
    main()
