"""How well `zsar search` ranks videos: mean average precision, each label that occurs a query.

    python examples/benchmarks/search.py films.lib clips/manifest.tsv clips2/manifest.tsv

Manifests are tab-separated with the columns `path` (relative to the manifest) and `label`; the library holds their
videos. A video counts by its best moment. Printed is the mean over queries, with a 95% interval over queries, by the
similarity of moments and by their z averaged over the models, which for one model is the same order.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zsar_cli.engine.adding import spec_of
from zsar_cli.engine.classifier import Classifier
from zsar_cli.engine.loading import ClassifierSpec
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.engine.stored import to_tensor
from zsar_cli.labels import LabelSet
from zsar_cli.store.library import Library

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("manifests", type=Path, nargs="+")
    parser.add_argument("--seen-labels")
    options = parser.parse_args()
    library = Library(options.library)
    truth = {path: label for manifest in options.manifests for path, label in _read(manifest)}
    labels = LabelSet.from_names(sorted(set(truth.values())))
    relevant = np.array([[truth.get(path) == name for name in labels.names] for path in library.videos.paths])
    spec = ClassifierSpec(
        tuple(model.name for model in library.spec.models), seen_labels=options.seen_labels,
        embedding=EmbedSettings(library.spec.sampling),
    )  # fmt: skip
    with spec.build() as classifier:
        library.spec.require(spec_of(classifier, [model.width for model in library.spec.models]), library.folder)
        video, blended, parts = _scores(library, classifier, labels)
    each = sum((part - part.mean(axis=0)) / part.std(axis=0) for part in parts)
    print(f"{len(library.videos)} videos, {len(video)} windows, {len(labels)} queries: mean average precision")
    for name, windows in (("by similarity", blended), ("by mean z of the models", each)):
        best = np.full(relevant.shape, -np.inf)
        np.maximum.at(best, video, windows)
        found = np.array([_precision(best[:, query], relevant[:, query]) for query in range(len(labels))])
        chance = np.random.default_rng(0)
        means = [chance.choice(found, len(found)).mean() for _ in range(2000)]
        low, high = np.percentile(means, [2.5, 97.5])
        print(f"{name:<24} {100 * found.mean():5.1f} ({100 * low:.0f} .. {100 * high:.0f})")


def _read(manifest: Path) -> list[tuple[str, str]]:
    with open(manifest, encoding="utf-8", newline="") as file:
        return [(str((manifest.parent / row["path"]).absolute()), row["label"])
                for row in csv.DictReader(file, delimiter="\t")]  # fmt: skip


def _scores(library: Library, classifier: Classifier, labels: LabelSet) -> tuple[NDArray[np.int64], Array, list[Array]]:
    """Of all windows their videos [n], similarities [n, U], and those of each model alone."""
    labelled = classifier.prepare(labels)
    alone = [member.prepare(labels) for member in classifier.members]
    video, blended = [], []
    parts: list[list[Array]] = [[] for _ in alone]
    for block in library.blocks([model.fingerprint for model in library.spec.models]):
        rows = [to_tensor(vectors) for vectors in block.vectors]
        video.append(np.repeat(block.videos, block.counts))
        blended.append(classifier.score(rows, labelled).double().numpy())
        for part, member, own, ready in zip(parts, classifier.members, rows, alone, strict=True):
            part.append(member.score([own], ready).double().numpy())
    return np.concatenate(video), np.concatenate(blended), [np.concatenate(part) for part in parts]


def _precision(score: Array, relevant: NDArray[np.bool_]) -> float:
    """Average precision of a ranking."""
    hits = relevant[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


if __name__ == "__main__":
    main()
