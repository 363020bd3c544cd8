"""How well `zsar localize` finds actions in films that are joined from labelled clips, beside two naive ways.

    python examples/benchmarks/films.py clips/manifest.tsv clips2/manifest.tsv
    python examples/benchmarks/films.py clips/manifest.tsv --model movinet.tflite --seen-labels kinetics600.txt

Manifests are tab-separated with the columns `path` (relative to the manifest) and `label`. Each clip is used once, in
a film of 6 to 10; a third of the labels is not asked for, and their clips are context in which nothing is to be found.
Black lies between some clips, and every clip keeps its own frame rate. With --films the films, and the truth as
ActivityNet's JSON, are kept in a folder.

With --stream the films of each half are joined to one instead, in three orders, and `zsar localize --stream` is
compared with `zsar localize` on that, a line for each half; with --longer every third action lasts so many times as
long, by its windows again and again.

Printed: mAP at tIoU 0.5 and over 0.3:0.1:0.7, and F1 at 0.5 of all segments, on one half of the films with what was
chosen on the other. The naive ways: the best label of every window, equal neighbours merged; and one threshold for all
labels and films on similarity, chosen for the best mAP.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from numpy.typing import NDArray

from zsar_cli.data.timed import Timed, read_truth
from zsar_cli.engine.loading import load
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.engine.shots import cuts_of
from zsar_cli.evaluation.localization import THUMOS, mean_average_precision, tiou
from zsar_cli.labels import LabelSet
from zsar_cli.transfer.scenes import scene_borders
from zsar_cli.transfer.segments import SegmentSettings, cells, find_segments
from zsar_cli.transfer.shots import at_cuts
from zsar_cli.transfer.stream import SegmentStream

WIDTH, HEIGHT, LONGEST = 320, 240, 12.0  # pixels; seconds of a clip
THRESHOLDS = np.arange(-1.0, 6.01, 0.25)  # of similarity
Array = NDArray[np.float64]


class Film(NamedTuple):
    """Windows of one film: similarity [N, U], spans [N, 2], embeddings [N, D]; what happens in it, and its cuts [C]."""

    name: str
    similarity: Array
    spans: Array
    visual: Array
    truth: tuple[Timed, ...]
    cuts: Array


Way = Callable[[Film, Sequence[str]], list[Timed]]


def main() -> None:
    """Make the films, embed them once, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--films", type=Path, help="folder to keep the films in, and to take them from next time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seen-labels", type=Path)
    parser.add_argument("--window", type=float, default=4.0)
    parser.add_argument("--stride", type=float, default=2.0)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--longer", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.films or Path(scratch)
        if not (folder / "truth.json").exists():
            folder.mkdir(exist_ok=True)
            make_films(given.manifests, folder, random.Random(given.seed))
        films, labels = embedded(folder, given)
        if given.stream:
            report_stream(films, labels, given.longer)
        else:
            report(films, labels)


# --- films ---


def make_films(manifests: Sequence[Path], folder: Path, rng: random.Random) -> None:
    """Write film-00.mp4 and so on, truth.json and labels.txt."""
    clips = [clip for manifest in manifests for clip in read_manifest(manifest)]
    names = sorted({label for _, label in clips})
    context = set(rng.sample(names, len(names) // 3))
    (folder / "labels.txt").write_text("\n".join(name for name in names if name not in context), encoding="utf-8")
    rng.shuffle(clips)
    database = {}
    while clips:
        count = min(len(clips), rng.randint(6, 10))
        part, clips = clips[:count], clips[count:]
        name = f"film-{len(database):02}"
        happens = write_film(folder / f"{name}.mp4", part, rng)
        annotations = [
            {"label": label, "segment": [start, end]} for label, start, end in happens if label not in context
        ]
        database[name] = {"subset": "test", "annotations": annotations}
    (folder / "truth.json").write_text(json.dumps({"database": database}, indent=1), encoding="utf-8")


def read_manifest(manifest: Path) -> list[tuple[Path, str]]:
    """Paths and labels."""
    with open(manifest, encoding="utf-8", newline="") as file:
        return [(manifest.parent / row["path"], row["label"]) for row in csv.DictReader(file, delimiter="\t")]


def write_film(target: Path, clips: Iterable[tuple[Path, str]], rng: random.Random) -> list[tuple[str, float, float]]:
    """Clip after clip; returns when each is shown, in seconds."""
    happens, now = [], 0.0
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "26", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for path, label in clips:
            begin = now
            for image, shown in frames_of(path):
                put(out, stream, image, begin + shown)
                now = begin + shown
            now += 0.04
            happens.append((label, begin, now))
            if rng.random() < 0.4:
                for _ in range(rng.randint(20, 40)):
                    put(out, stream, np.zeros((HEIGHT, WIDTH, 3), np.uint8), now)
                    now += 0.1
        out.mux(stream.encode(None))
    return happens


def frames_of(path: Path) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """Frames in the shape of the film, and the seconds since the first."""
    titles = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}  # 19 does so by itself
    with av.open(str(path), **titles) as source:
        first = last = None
        for frame in source.decode(video=0):
            if frame.time is None or (last is not None and frame.time < last + 0.002):
                continue
            first, last = frame.time if first is None else first, frame.time
            if last - first >= LONGEST:
                return
            yield letterboxed(frame), last - first


def letterboxed(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """The whole frame in the middle of a black one."""
    scale = min(WIDTH / frame.width, HEIGHT / frame.height)
    width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    left, top = (WIDTH - width) // 2, (HEIGHT - height) // 2
    shaped = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    image[top : top + height, left : left + width] = shaped
    return image


def put(out: av.container.OutputContainer, stream: av.VideoStream, image: NDArray[np.uint8], now: float) -> None:
    """One frame, shown from `now` on."""
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame.pts, frame.time_base = round(now * 1000), Fraction(1, 1000)
    out.mux(stream.encode(frame))


# --- comparison ---


def embedded(folder: Path, given: argparse.Namespace) -> tuple[list[Film], tuple[str, ...]]:
    """Similarity of each window of each film to each label that is asked for."""
    labels, truth = LabelSet.read(folder / "labels.txt"), read_truth(folder / "truth.json")
    settings = EmbedSettings({"window": given.window, "stride": given.stride})
    films = []
    with load(
        given.model, seen_labels=given.seen_labels, precision=given.precision, embedding=settings,
        cache_dir=folder / "cache",
    ) as classifier:  # fmt: skip
        labelled = classifier.prepare(labels)
        paths = [str(folder / f"{name}.mp4") for name in truth]
        cuts = cuts_of(classifier.pipeline, paths)
        for name, item, shots in zip(truth, classifier.embed(paths), cuts, strict=True):
            if isinstance(item, Exception):
                raise item
            if isinstance(shots, Exception):
                raise shots
            similarity = classifier.window_similarity(item, labelled).double().numpy()
            windows, spans = item[0].windows.double().numpy(), item[0].spans.numpy()
            films.append(Film(name, similarity, spans, windows, truth[name], shots))
    return films, labels.names


def report(films: Sequence[Film], labels: Sequence[str]) -> None:
    """Each way on the one half of the films with what was chosen on the other, and the reverse."""
    halves = films[0::2], films[1::2]
    seconds = sum(film.spans[-1, 1] for film in films)
    segments = sum(len(film.truth) for film in films)
    print(f"{len(films)} films, {seconds / 60:.0f} min, {len(labels)} labels, {segments} segments")
    print(f"{'':24}{'mAP@0.5':>10}{'mAP@0.3:0.7':>13}{'F1@0.5':>8}{'segments':>10}")
    thresholds = [max(THRESHOLDS, key=lambda value: measure(half, labels, threshold_at(value))[0]) for half in halves]
    show("best label per window", [measure(half, labels, best_label) for half in halves])
    show("one threshold", [measure(halves[0], labels, threshold_at(thresholds[1])),
                           measure(halves[1], labels, threshold_at(thresholds[0]))])  # fmt: skip
    show("zsar localize", [measure(half, labels, found) for half in halves])
    show("zsar localize --shots", [measure(half, labels, found_in_shots) for half in halves])


def report_stream(films: Sequence[Film], labels: Sequence[str], longer: int) -> None:
    """Both ways on films of a half joined to one."""
    print(f"{'':38}{'mAP@0.5':>10}{'mAP@0.3:0.7':>13}{'F1@0.5':>8}{'segments':>10}")
    for number, half in enumerate((films[0::2], films[1::2]), start=1):
        orders = [random.Random(seed).sample(half, len(half)) for seed in range(3)]
        whole = [joined([lengthened(film, longer) for film in order]) for order in orders]
        name = f"half {number}, {len(whole[0].spans)} windows:"
        show(f"{name:24}{'whole':14}", [measure([film], labels, found) for film in whole])
        show(f"{name:24}{'--stream':14}", [measure([film], labels, found_in_stream) for film in whole])
        print(f"{name:24}first segment after windows {', '.join(str(first_closed(film, labels)) for film in whole)}")


def lengthened(film: Film, times: int) -> Film:
    """Every third action lasts so many times as long: its windows come again and again."""
    if times == 1:
        return film
    middles, truth, chosen, position = film.spans.mean(axis=1), [], list[int](), 0
    for number, one in enumerate(sorted(film.truth, key=lambda one: one.start)):
        inside = np.flatnonzero((middles >= one.start) & (middles < one.end)).tolist()
        if inside:
            chosen += range(position, inside[0])
            begin, position = len(chosen), inside[-1] + 1
            chosen += inside * (1 if number % 3 else times)
            truth.append((one.label, begin, len(chosen)))
    chosen += range(position, len(middles))
    starts = (film.spans[1, 0] - film.spans[0, 0]) * np.arange(len(chosen))
    spans = np.stack([starts, starts + film.spans[0, 1] - film.spans[0, 0]], axis=1)
    borders = cells(spans)
    happens = tuple(Timed(label, borders[first], borders[end]) for label, first, end in truth)
    return Film(film.name, film.similarity[chosen], spans, film.visual[chosen], happens, np.zeros(0))


def joined(films: Sequence[Film]) -> Film:
    """One after the other."""
    ends = np.cumsum([0.0, *(film.spans[-1, 1] for film in films)]).tolist()
    return Film(
        "joined",
        np.concatenate([film.similarity for film in films]),
        np.concatenate([film.spans + end for film, end in zip(films, ends, strict=False)]),
        np.concatenate([film.visual for film in films]),
        tuple(
            one._replace(start=one.start + end, end=one.end + end)
            for film, end in zip(films, ends, strict=False)
            for one in film.truth
        ),
        np.zeros(0),
    )


def show(name: str, measures: Sequence[tuple[float, ...]]) -> None:
    """The mean of both halves."""
    precision, mean, f1, count = np.mean(measures, axis=0)
    print(f"{name:24}{100 * precision:>10.1f}{100 * mean:>13.1f}{100 * f1:>8.1f}{count:>10.0f}")


def measure(films: Sequence[Film], labels: Sequence[str], way: Way) -> tuple[float, float, float, float]:
    """mAP at 0.5, its mean over 0.3:0.1:0.7, F1 at 0.5, number of segments."""
    results = {film.name: way(film, labels) for film in films}
    truth = {film.name: film.truth for film in films}
    precision = mean_average_precision(results, truth)
    count = sum(map(len, results.values()))
    right = sum(matched(results[film.name], film.truth) for film in films)
    f1 = 2 * right / max(1, count + sum(len(film.truth) for film in films))
    return precision.mean_at(0.5), precision.mean_over(THUMOS), f1, float(count)


def matched(results: Sequence[Timed], truth: Sequence[Timed]) -> int:
    """How many true segments one result of their label overlaps by half or more."""
    return sum(bool((tiou(true, [one for one in results if one.label == true.label]) >= 0.5).any()) for true in truth)


def found(film: Film, labels: Sequence[str], shots: bool = False) -> list[Timed]:
    """As the command does, with its defaults."""
    how = SegmentSettings()
    scenes, borders = scene_borders([film.visual], how.change), cells(film.spans)
    if shots:
        scenes, borders = at_cuts(scenes, borders, film.cuts, near=(film.spans[0, 1] - film.spans[0, 0]) / 2)
    segments = find_segments(film.similarity, borders, scenes, labels, how)
    return [Timed(one.label, one.start, one.end, one.similarity) for one in segments]


def found_in_shots(film: Film, labels: Sequence[str]) -> list[Timed]:
    """As the command does with --shots."""
    return found(film, labels, shots=True)


def found_in_stream(film: Film, labels: Sequence[str]) -> list[Timed]:
    """As the command does with --stream."""
    stream = SegmentStream(labels, SegmentSettings())
    rows = zip(film.visual, film.similarity, film.spans.tolist(), strict=True)
    segments = [one for visual, values, span in rows for one in stream.add(visual, values, *span)]
    return [Timed(one.label, one.start, one.end, one.similarity) for one in (*segments, *stream.end())]


def first_closed(film: Film, labels: Sequence[str]) -> int:
    """How many windows --stream reads until it writes a segment."""
    stream = SegmentStream(labels, SegmentSettings())
    rows = zip(film.visual, film.similarity, film.spans.tolist(), strict=True)
    return next((stream.count for visual, values, span in rows if stream.add(visual, values, *span)), len(film.spans))


def best_label(film: Film, labels: Sequence[str]) -> list[Timed]:
    """The best label of every window, equal neighbours merged; scored by its mean share."""
    shares = torch.softmax(2 * torch.from_numpy(film.similarity), dim=1).numpy()
    borders, best = cells(film.spans), shares.argmax(axis=1)
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
    return [
        Timed(labels[best[first]], borders[first], borders[end], float(shares[first:end, best[first]].mean()))
        for first, end in itertools.pairwise(edges)
    ]


def threshold_at(threshold: float) -> Way:
    """Runs of windows of at least that similarity."""

    def way(film: Film, labels: Sequence[str]) -> list[Timed]:
        borders, results = cells(film.spans), []
        for column, label in enumerate(labels):
            above = film.similarity[:, column] >= threshold
            edges = np.flatnonzero(np.diff(np.concatenate([[False], above, [False]]).astype(int)))
            for first, end in edges.reshape(-1, 2).tolist():
                score = float(film.similarity[first:end, column].mean())
                results.append(Timed(label, borders[first], borders[end], score))
        return results

    return way


if __name__ == "__main__":
    main()
