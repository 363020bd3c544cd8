"""What training on many clips costs: memory, seconds to the first step and a step, for several numbers of clips.

    python examples/benchmarks/training_scale.py --clips 10000 200000

The clips, of 400 classes, are grids of 8 frames of 3 x 3 cells of 1280 channels in two views, as `zsar train` keeps
them, in files of zeros with holes: they take no space, but are read as any other. Each number of clips has a process of
its own. Seconds are those of the CPU, of all threads, which the load of the machine changes little.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import torch

from zsar_cli.networks.rest import RestConfig
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.grids import ClipFeatures, Grids
from zsar_cli.training.loop import train
from zsar_cli.training.settings import RunConfig
from zsar_cli.training.start import Networks
from zsar_cli.training.state import TrainState

GRID = (2, 8, 3, 3, 1280)  # views, frames, cells, channels
CLASSES, SHARDS = 400, 8


def sparse(folder: Path, clips: int) -> list[Path]:
    """Shards of `clips` clips altogether."""
    files = []
    for shard, rows in enumerate(np.array_split(np.arange(clips), SHARDS)):
        files.append(folder / f"{shard}.npy")
        np.lib.format.open_memmap(files[-1], "w+", np.float16, (len(rows), *GRID))
    return files


def measure(clips: int, steps: int, batch: int) -> None:
    """Train and print a line."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    texts = TextTokens(torch.randn(CLASSES, 8, 384), torch.ones(CLASSES, 8, dtype=torch.bool), torch.arange(CLASSES))
    times: list[float] = []

    def report(record: Mapping[str, float], state: TrainState) -> None:
        times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        source = ClipFeatures(Grids.mapped(sparse(Path(folder), clips)), torch.arange(clips) % CLASSES)
        config = TrainConfig(steps=steps, batch=batch)
        begun = time.process_time()
        train(source, texts, Networks(RestConfig(features=GRID[-1])), config, RunConfig().scoring, report)
    each = [after - before for before, after in pairwise(times)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{clips:9,d} clips: {times[0] - begun:5.1f} CPU seconds to the end of the first step, then {median(each):.3f} "
        f"a step (median of {len(each)}), {peak:.2f} GB at most",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 200_000])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    for clips in args.clips:
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(clips, args.steps, args.batch))
        process.start()
        process.join()


if __name__ == "__main__":
    main()
