"""CPU cost of reading 16 frames from one video, by each way there is, side by side in one run.

    python examples/benchmarks/decoding.py                 a made video: 3 minutes, 1280x720, key frame every 250
    python examples/benchmarks/decoding.py my_video.mp4

CPU seconds of this process (all threads), the median of --repeat runs; the ratio is to the default way. `wrong` counts
frames that differ visibly from those of a plain decode of the whole file at the same instants.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from zsar_cli.video.reader import read_video
from zsar_cli.video.sampling import frames_shown, sample_times
from zsar_cli.video.types import Geometry, Sampling

GEOMETRY = Geometry(size=224, resize=224)
EXACT, FAST = Sampling(frames=16), Sampling(frames=16, exact=False)
VISIBLE = 12.0  # mean difference of 8-bit values above which a frame is another frame


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, nargs="?", help="any video file; one is made if none is given")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each way (default 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(arguments.video or make_video(Path(folder) / "made.mp4"))
        ways: dict[str, Callable[[], np.ndarray]] = {
            "pyav, exact (default)": lambda: read_video(path, EXACT, GEOMETRY).frames,
            "pyav, key frames (--fast)": lambda: read_video(path, FAST, GEOMETRY).frames,
            "decord (--decoder decord)": lambda: read_video(path, EXACT, GEOMETRY, "decord").frames,
            "plain decode of all frames": lambda: decode_all(path),
        }
        truth = decode_all(path)
        print(f"{'way':30}{'CPU s':>8}{'ratio':>8}{'wrong':>8}")
        base = 0.0
        for name, way in ways.items():
            seconds, frames = cpu_seconds(way, arguments.repeat)
            base = base or seconds
            wrong = int((np.abs(frames.astype(float) - truth).mean(axis=(1, 2, 3)) > VISIBLE).sum())
            print(f"{name:30}{seconds:8.2f}{seconds / base:8.2f}{wrong:>5}/16")


def cpu_seconds(way: Callable[[], np.ndarray], repeat: int) -> tuple[float, np.ndarray]:
    """Median over runs, after one that is not counted."""
    frames, seconds = way(), []
    for _ in range(repeat):
        started = time.process_time()
        frames = way()
        seconds.append(time.process_time() - started)
    return statistics.median(seconds), frames


def decode_all(path: str) -> np.ndarray:
    """The frames of EXACT by decoding every frame in order and shaping those that are wanted."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        starts = np.array(sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None))
    seconds = (starts - starts[0]) * float(stream.time_base)
    duration = float(seconds[-1] + np.diff(seconds).mean())
    shown = starts[frames_shown(seconds, sample_times(duration, EXACT))]
    found = {}
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        for frame in container.decode(stream):
            if frame.pts in shown:
                scale = GEOMETRY.size / min(frame.width, frame.height)
                width, height = round(frame.width * scale), round(frame.height * scale)
                image = frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
                top, left = (height - GEOMETRY.size) // 2, (width - GEOMETRY.size) // 2
                found[frame.pts] = image[top : top + GEOMETRY.size, left : left + GEOMETRY.size]
    return np.stack([found[pts] for pts in shown])


def make_video(path: Path, seconds: int = 180, rate: int = 30, size: tuple[int, int] = (1280, 720)) -> Path:
    """A drifting texture under noise: every frame differs, and the codec has something to do."""
    rng = np.random.default_rng(0)
    width, height = size
    texture = (rng.random((height // 8, width // 2)) * 255).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    noise = rng.integers(0, 12, (8, height, width), dtype=np.uint8)
    with av.open(str(path), "w") as out:
        options = {"preset": "veryfast", "g": "250", "keyint_min": "250", "sc_threshold": "0"}
        stream = out.add_stream("libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * rate):
            left = index * 3 % (texture.shape[1] - width)
            picture = texture[:, left : left + width] // 2 + noise[index % 8]
            frame = av.VideoFrame.from_ndarray(np.dstack([picture] * 3), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
