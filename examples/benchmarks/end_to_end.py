"""How near `zsar` comes to what the machine can do, and how far it is from a plain loop.

    python examples/benchmarks/end_to_end.py                                    sets of 240p x 10 s and 720p x 60 s
    python examples/benchmarks/end_to_end.py --sets 1080p --clips 4 --repeat 3

Makes its clips itself, of a moving scene with grain, a key frame every 250 frames. What is timed, turn after turn, is
done by one process that lives on and has everything loaded: nothing is cached between the turns.

    decode   the frames alone, by as many decode processes as `zsar` takes; thrown away
    model    the network alone, on those frames, by as many threads as `zsar` takes
    zsar     files to records
    naive    decord, PIL and the network of the package that its weights are published for, one file after the other

all but the last with the exact frames and with key frames (`--fast`), and by each `--runtime`. Printed: medians of
seconds by the clock and of CPU seconds of all processes (Linux), then ratios, which are what can be compared between
machines:

    of the limit   the slower of decode and model, over zsar
    of the cores   CPU seconds of decode and model, shared out over all processors, over zsar: where both run on
                   the same processors nothing can be faster than that
    of the CPU     CPU seconds of decode and model over those of zsar, which holds on a busy machine as well
    x naive        naive over zsar, and the same in CPU seconds
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line does; read when torch is loaded

import av
import decord
import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from zsar_cli import load
from zsar_cli.engine.classifier import Labelled, ZeroShotClassifier
from zsar_cli.engine.encoding import encode
from zsar_cli.engine.machine import processors
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError
from zsar_cli.labels import LabelSet
from zsar_cli.video.types import WindowBatch
from zsar_cli.video.workers import DecodePool
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

sys.path.insert(0, str(Path(__file__).parent))
from long_video import repeat

RATE, GOP, PIECE = 25, 250, 20  # frames per second; frames; seconds that are encoded, a longer clip repeats them
LABELS = ("skating", "cooking", "playing the flute", "riding a bike", "archery")


@dataclass(frozen=True)
class Kind:
    """What the clips of a set are like."""

    width: int
    height: int
    seconds: int
    bit_rate: int
    clips: int


KINDS = {
    "240p": Kind(320, 240, 10, 400_000, 40),
    "720p": Kind(1280, 720, 60, 3_000_000, 40),
    "1080p": Kind(1920, 1080, 600, 6_000_000, 4),
}


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=KINDS, default=["240p", "720p"])
    parser.add_argument("--clips", type=int, help="of each set; four different ones, again and again")
    parser.add_argument("--seconds", type=int, help="of each clip")
    parser.add_argument("--repeat", type=int, default=5, help="turns (default 5)")
    parser.add_argument("--naive", type=int, default=4, help="clips of the plain loop, counted for all (default 4)")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--runtime", nargs="+", default=["auto"], help="torch, openvino or both, side by side")
    parser.add_argument("--workers", type=int, help="decode processes")
    parser.add_argument("--threads", type=int, help="of torch")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.sets:
            kind = KINDS[name]
            paths = make_clips(
                Path(folder) / name, kind, arguments.clips or kind.clips, arguments.seconds or kind.seconds
            )
            print(f"\n{name}: {len(paths)} clips of {os.path.getsize(paths[0]) / 1e6:.1f} MB", flush=True)
            with contextlib.ExitStack() as stack:
                ways = {"naive": naive(paths[: arguments.naive], len(paths)), **ways_of(paths, arguments, stack)}
                report(measure(ways, arguments.repeat))


# --- the clips ---


def make_clips(folder: Path, kind: Kind, count: int, seconds: int) -> list[str]:
    """Paths of `count` clips, at most four of them different."""
    folder.mkdir()
    made = []
    for number in range(min(count, 4)):
        piece, clip = folder / f"piece{number}.mp4", folder / f"{number}.mp4"
        encode_piece(piece, kind, min(seconds, PIECE), number)
        repeat(piece, clip, max(seconds // PIECE, 1), min(seconds, PIECE))
        made.append(str(clip))
    return [made[number % len(made)] for number in range(count)]


def encode_piece(target: Path, kind: Kind, seconds: int, seed: int) -> None:
    """A wide scene that passes by, with a bright square before it and the grain of a camera."""
    width, height, side = kind.width, kind.height, kind.height // 3
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 8), dtype=np.uint8))
    scene = np.asarray(coarse.resize((2 * width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-8, 9, (2 * height, 2 * width), dtype=np.int16)
    with av.open(str(target), "w") as out:
        options = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0", "preset": "veryfast"}
        stream = out.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", kind.bit_rate
        for number in range(RATE * seconds):
            left = 2 * number % width
            picture = np.full((height * 3 // 2, width), 128, dtype=np.uint8)
            down, across = rng.integers(0, [height, width])
            grainy = scene[:, left : left + width] + grain[down : down + height, across : across + width]
            picture[:height] = np.clip(grainy, 16, 235)
            edge = 3 * number % (width - side)
            picture[side : 2 * side, edge : edge + side] = 200
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        out.mux(stream.encode())


# --- the ways ---


@dataclass
class Way:
    """Something to be timed. What it did counts `scale` times."""

    run: Callable[[], None]
    scale: float = 1.0


def naive(paths: Sequence[str], count: int) -> Way:
    """As one writes it first; a few clips stand for `count`."""
    network = EfficientNet.from_name("efficientnet-lite2").eval()
    network.load_state_dict(torch.load(EFFICIENTNET_LITE2.verified(), map_location="cpu", weights_only=True))

    @torch.inference_mode()
    def run() -> None:
        for path in paths:
            reader = decord.VideoReader(path)
            places = ((np.arange(16) + 0.5) * len(reader) / 16).astype(int)
            images = [shaped(Image.fromarray(image)) for image in reader.get_batch(places).asnumpy()]
            pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
            network.extract_features((pixels - 127) / 128).mean(dim=(0, 2, 3))

    return Way(run, count / len(paths))


def shaped(image: Image.Image, side: int = 260) -> np.ndarray:
    """The shorter side scaled, the centre cut out."""
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.array(image.crop((left, top, left + side, top + side)))


def ways_of(paths: Sequence[str], arguments: argparse.Namespace, stack: contextlib.ExitStack) -> dict[str, Way]:
    """Decoding, the model and all of `zsar`, with exact frames and with key frames."""
    ways = {}
    for runtime, fast in product(arguments.runtime, ("", " --fast")):
        settings = EmbedSettings({"exact": not fast}, workers=arguments.workers)
        how = {"precision": arguments.precision, "runtime": runtime, "embedding": settings}
        classifier = stack.enter_context(load("builtin", **how))
        suffix = fast if len(arguments.runtime) == 1 else f" {runtime}{fast}"
        pool = stack.enter_context(DecodePool(classifier.pipeline.workers, settings.timeout, classifier.pipeline.views))
        ways[f"decode{suffix}"] = Way(partial(decode, pool, paths))
        ways[f"model{suffix}"] = Way(partial(run_model, classifier, decode(pool, paths[:4]), len(paths)))
        ways[f"zsar{suffix}"] = Way(partial(run_zsar, classifier, paths, classifier.prepare(LabelSet.of(LABELS))))
    return ways


def decode(pool: DecodePool, paths: Sequence[str]) -> list[WindowBatch]:
    """The windows of a few clips; those of many are let go."""
    kept = []
    for _, event in pool.stream(paths):
        if isinstance(event, InputError):
            sys.exit(str(event))
        if event is not None and isinstance(event.content, WindowBatch) and len(kept) < 4:
            kept.append(event.content)
    return kept


def run_model(classifier: ZeroShotClassifier, batches: Sequence[WindowBatch], count: int) -> None:
    """Windows as they come of one clip, one clip after the other."""
    for number in range(count):
        batch = batches[number % len(batches)]
        frames, shown = torch.from_numpy(np.stack(batch.frames)), torch.from_numpy(batch.shown)
        encode(classifier.model, frames, shown, classifier.pipeline.batch_size)


def run_zsar(classifier: ZeroShotClassifier, paths: Sequence[str], labelled: Labelled) -> None:
    """All of it."""
    for record in classifier.classify_each(paths, labelled):
        if record.error is not None:
            sys.exit(str(record.error))


# --- the clock ---


def measure(ways: dict[str, Way], turns: int) -> dict[str, tuple[float, float]]:
    """Medians of seconds by the clock and of CPU seconds of each way, all in turn, after a turn that is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            clock, cpu = time.perf_counter(), cpu_seconds()
            way.run()
            spent = time.perf_counter() - clock, cpu_seconds() - cpu
            if turn:
                taken[name].append(tuple(way.scale * value for value in spent))
    return {name: tuple(map(statistics.median, zip(*each, strict=True))) for name, each in taken.items()}


def cpu_seconds() -> float:
    """Of this process and of those it started, the ended and the running ones (these on Linux alone)."""
    spent, tick = sum(os.times()[:4]), os.sysconf("SC_CLK_TCK")
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                spent += (int(fields[11]) + int(fields[12])) / tick
    return spent


def report(found: dict[str, tuple[float, float]]) -> None:
    """Seconds, then the ratios."""
    titles = ("seconds", "CPU s", "of the limit", "of the cores", "of the CPU", "x naive", "in CPU s")
    print(" " * 24 + "".join(f"{title:>13}" for title in titles))
    naive = found["naive"]
    for name, (clock, cpu) in found.items():
        numbers = [clock, cpu]
        if name.startswith("zsar"):
            alone = [found[name.replace("zsar", part)] for part in ("decode", "model")]
            spent = sum(one[1] for one in alone)
            numbers += [max(one[0] for one in alone) / clock, spent / processors() / clock, spent / cpu]
            numbers += [naive[0] / clock, naive[1] / cpu]
        print(f"{name:24}" + "".join(f"{number:13.2f}" for number in numbers), flush=True)


if __name__ == "__main__":
    main()
