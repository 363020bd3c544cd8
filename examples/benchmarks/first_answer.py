"""What the first answer costs: the whole command against the least that any program with this model has to do.

    python examples/benchmarks/first_answer.py video.mp4 --labels labels.txt

Turn after turn, each a process of its own: `bare` imports torch, decodes 16 frames with PyAV and runs the network of
the package that the weights are published for; `cold` is `zsar classify` with an empty cache; `again` the same on a
copy of the video with one byte more, so that the labels are known and the video is not; `known` is that once more.
Printed: medians of seconds, of CPU seconds of all processes, of the peak memory of the largest, and ratios to `bare`.
Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """
import sys, av, numpy as np, torch
from efficientnet_lite_pytorch import EfficientNet
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2
network = EfficientNet.from_name("efficientnet-lite2").eval()
network.load_state_dict(torch.load(EFFICIENTNET_LITE2.path, weights_only=True))
with av.open(sys.argv[1]) as file:
    frames = [frame.reformat(260, 260, "rgb24").to_ndarray() for frame in file.decode(video=0)]
pixels = torch.from_numpy(np.stack(frames[:: max(1, len(frames) // 16)][:16])).permute(0, 3, 1, 2).float()
with torch.inference_mode():
    print(network((pixels - 127) / 128).mean(dim=0).argmax().item())
"""


def main() -> None:
    """Run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("--labels", required=True)
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(options.turns):
        with tempfile.TemporaryDirectory() as home:
            other = Path(home) / Path(options.video).name
            other.write_bytes(Path(options.video).read_bytes() + b"\0")
            ask = [sys.executable, "-m", "zsar_cli", "classify", "--quiet", "--labels", options.labels]
            runs = {
                "bare": [sys.executable, "-c", BARE, options.video],
                "cold": [*ask, options.video],
                "again": [*ask, str(other)],
                "known": [*ask, str(other)],
            }
            for name, command in runs.items():
                found.setdefault(name, []).append(measure(command, home))
    print(f"{'':8}{'seconds':>10}{'CPU s':>10}{'peak MiB':>10}{'x bare':>10}{'in CPU s':>10}")
    bare = medians(found["bare"])
    for name, rows in found.items():
        row = medians(rows)
        print(f"{name:8}" + "".join(f"{number:10.2f}" for number in (*row, row[0] / bare[0], row[1] / bare[1])))


def medians(rows: list[tuple[float, float, float]]) -> list[float]:
    """Of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def measure(command: list[str], home: str) -> tuple[float, float, float]:
    """Seconds by the clock, CPU seconds, and MiB of the largest process."""
    begin = time.perf_counter()
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": home})
    _, status, usage = os.wait4(job.pid, 0)  # with what it waited for itself
    if status:
        sys.exit(f"{' '.join(command)} failed")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
