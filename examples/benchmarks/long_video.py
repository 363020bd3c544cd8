"""What the length of a file costs: memory, and the time until its first windows are there.

    python examples/benchmarks/long_video.py --hours 3 -- --window 4 --stride 4 --precision bf16
    python examples/benchmarks/long_video.py --command localize -- --stream --format jsonl
    python examples/benchmarks/long_video.py --command add --hours 1 --height 720 --of *.mp4 -- --window 2 --fast

Makes two files of moving shapes and grain, 240 lines high unless --height says otherwise, of 30 seconds and of that
many hours, by copying the packets of one encoded piece, and runs `zsar classify`, or another command, on each with the
options behind `--`. With --of the piece is made of the beginnings of videos of yours, one after the other. A key frame
comes every 2 seconds. Printed for each: the peak of the resident memory of all processes of the job together, seconds
until the first windows were encoded, seconds in all, times real time. With --workers 1 behind `--` both files are read
by one process; without it several share the long one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, cycle, islice
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType

RATE, PIECE = 25, 30  # frames per second; seconds of the piece that is repeated
# Says when the first windows are encoded; the rest is the ordinary command line.
FIRST = """
import sys, time
from zsar_cli.engine import pipeline
begin, take = time.time(), pipeline.Pipeline.encode
def timed(self, model, batch):
    pipeline.Pipeline.encode = take
    rows = take(self, model, batch)
    print(f"first {time.time() - begin:.1f}", file=sys.stderr, flush=True)
    return rows
pipeline.Pipeline.encode = timed
from zsar_cli.__main__ import main
main()
"""


def main() -> None:
    """Make, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--height", type=int, default=240, help="lines; 4 : 3")
    parser.add_argument("--command", choices=("classify", "localize", "add"), default="classify")
    parser.add_argument("--of", nargs="+", metavar="VIDEO", help="footage in the place of shapes; 16 : 9")
    parser.add_argument("options", nargs="*", help="of the command, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        piece = Path(folder) / "piece.mp4"
        if arguments.of:
            encode_footage(piece, arguments.height, arguments.of)
        else:
            encode(piece, arguments.height)
        rows = []
        for seconds in (PIECE, round(arguments.hours * 3600 / PIECE) * PIECE):
            target = Path(folder) / f"{seconds}.mp4"
            repeat(piece, target, seconds // PIECE)
            rows.append((seconds, *measure(target, arguments.command, arguments.options)))
    print(f"{'seconds':>8}{'peak MiB':>10}{'first s':>9}{'all s':>8}{'x real time':>12}")
    for seconds, peak, first, taken in rows:
        print(f"{seconds:>8}{peak:>10.0f}{first:>9.1f}{taken:>8.1f}{seconds / taken:>12.1f}")
    print(f"peak memory, long over short: {rows[1][1] / rows[0][1]:.2f}")


def encode(target: Path, height: int) -> None:
    """A piece in which something moves."""
    width, third = height * 4 // 3, height // 3
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (height, 2 * width, 3), dtype=np.uint8) // 8 * 8
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"g": "50", "bf": "0", "preset": "veryfast", "qp": "34"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(RATE * PIECE):
            left = number % width
            image = np.ascontiguousarray(scene[:, left : left + width])
            edge = (3 * number) % (width - 40)
            image[third : 2 * third, edge : edge + 40] = (250, 60, 10)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        out.mux(stream.encode(None))


def encode_footage(target: Path, height: int, videos: Sequence[str]) -> None:
    """A piece of what videos show, again and again until it is long enough, at a quality that films are kept in."""
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"g": "50", "sc_threshold": "0", "crf": "21"})
        stream.width, stream.height, stream.pix_fmt = height * 16 // 9, height, "yuv420p"
        frames = chain.from_iterable(map(_frames, cycle(videos)))
        for number, frame in enumerate(islice(frames, RATE * PIECE)):
            scaled = frame.reformat(stream.width, stream.height, "yuv420p")
            scaled.pts, scaled.time_base, scaled.pict_type = number, Fraction(1, RATE), PictureType.NONE
            out.mux(stream.encode(scaled))
        out.mux(stream.encode(None))


def _frames(video: str) -> Iterator[av.VideoFrame]:
    with av.open(video) as source:
        yield from source.decode(video=0)


def repeat(piece: Path, target: Path, times: int, seconds: int = PIECE) -> None:
    """The piece, which lasts `seconds`, again and again, packet by packet."""
    with av.open(str(piece)) as source, av.open(str(target), "w") as out:
        own = source.streams.video[0]
        stream = out.add_stream_from_template(own)
        length = int(seconds / own.time_base)
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.is_keyframe) for packet in source.demux(own) if packet.size
        ]
        for turn in range(times):
            for data, pts, dts, key in packets:
                packet = av.Packet(data)
                packet.pts, packet.dts, packet.is_keyframe = pts + turn * length, dts + turn * length, key
                packet.time_base, packet.stream = own.time_base, stream
                out.mux(packet)


def measure(video: Path, name: str, options: list[str]) -> tuple[float, float, float]:
    """Peak MiB of the whole tree of processes, seconds until the first windows, seconds in all."""
    command = [name, str(video), "--label", "skating", "--label", "cooking", "--no-cache"]
    if name == "add":
        command = ["library", "add", str(video.with_suffix(".lib")), str(video)]
    begin, peak, first = time.perf_counter(), 0.0, float("nan")
    with tempfile.TemporaryFile("w+") as log:
        started = [sys.executable, "-c", FIRST, *command, *options]
        job = subprocess.Popen(started, stderr=log, stdout=subprocess.DEVNULL)
        while job.poll() is None:
            peak = max(peak, resident(job.pid))
            time.sleep(0.05)
        taken = time.perf_counter() - begin
        log.seek(0)
        text = log.read()
    for line in text.splitlines():
        first = float(line.split()[1]) if line.startswith("first ") else first
    if job.returncode:
        sys.exit(text)
    return peak, first, taken


def resident(root: int) -> float:
    """MiB of a process and all below it (Linux)."""
    parents: dict[int, list[int]] = {}
    sizes: dict[int, int] = {}
    programs: dict[int, bytes] = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            program = (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        number = int(status.parent.name)
        parents.setdefault(int(fields["PPid"]), []).append(number)
        sizes[number], programs[number] = int(fields.get("VmRSS", "0 kB").split()[0]), program
    tree, todo = 0, [root]
    while todo:
        number = todo.pop()
        tree += sizes.get(number, 0)
        # A process that is not yet the program that it will be has the memory of its parent.
        todo += [child for child in parents.get(number, []) if programs[child] != programs.get(number)]
    return tree / 1024


if __name__ == "__main__":
    main()
