"""Accuracy of `zsar classify` over a manifest of labelled videos.

    python examples/benchmarks/accuracy.py --manifest clips/manifest.tsv --labels clips/labels.txt

The manifest is tab-separated with a header; its columns `path` (relative to the manifest) and `label` are used. The
ordinary command line is run, with any further options handed to it, so what is measured is what a user gets:

    python examples/benchmarks/accuracy.py --manifest ... --labels ... -- --windows 3 --precision bf16

Printed: mean-per-class and plain top-1 and top-5, with a bootstrap confidence interval over classes. A video that
fails counts as wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

RESAMPLES = 2000


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True, help="tab-separated file with path and label")
    parser.add_argument("--labels", type=Path, required=True, help="label file handed to zsar classify")
    parser.add_argument("--per-class", action="store_true", help="print each class's top-1 as well")
    parser.add_argument("options", nargs="*", help="further options of zsar classify, after --")
    arguments = parser.parse_args()
    truth = read_manifest(arguments.manifest)
    started = time.perf_counter()
    predicted = classify(list(truth), arguments.labels, arguments.options)
    seconds = time.perf_counter() - started
    ranks = {path: rank_of(label, predicted.get(path, [])) for path, label in truth.items()}
    report(truth, ranks, seconds, arguments.per_class)


def read_manifest(manifest: Path) -> dict[str, str]:
    """Label by path."""
    with open(manifest, encoding="utf-8", newline="") as file:
        return {str(manifest.parent / row["path"]): row["label"] for row in csv.DictReader(file, delimiter="\t")}


def classify(paths: list[str], labels: Path, options: list[str]) -> dict[str, list[str]]:
    """Labels of each path, best first, from the command line's JSON."""
    with tempfile.TemporaryDirectory() as folder:
        listing, result = Path(folder) / "paths.txt", Path(folder) / "result.json"
        listing.write_text("\n".join(paths), encoding="utf-8")
        command = [sys.executable, "-m", "zsar_cli", "classify", f"@{listing}", "--labels", str(labels)]
        command += ["--top-k", "1000000", "-o", str(result), *options]
        subprocess.run(command, check=False)
        if not result.exists():
            sys.exit("zsar classify wrote no result")
        records = json.loads(result.read_text(encoding="utf-8"))["results"]
    return {record["path"]: [item["label"] for item in record["predictions"]] for record in records}


def rank_of(label: str, names: list[str]) -> float:
    """0 for the best; infinite where the label is not there."""
    return names.index(label) if label in names else float("inf")


def report(truth: dict[str, str], ranks: dict[str, float], seconds: float, per_class: bool) -> None:
    """Print the table."""
    by_class: dict[str, list[float]] = defaultdict(list)
    for path, label in truth.items():
        by_class[label].append(ranks[path])
    print(f"{len(truth)} videos of {len(by_class)} classes, {seconds:.1f} s in all (less where the cache knew them)")
    print(f"{'':8}{'mean per class':>16}{'95% interval':>16}{'all videos':>12}")
    for top in (1, 5):
        shares = np.array([np.mean([rank < top for rank in of_class]) for of_class in by_class.values()])
        plain = np.mean([rank < top for rank in ranks.values()])
        low, high = bootstrap(shares)
        print(f"top-{top:<4}{shares.mean():>16.1%}{f'{low:.0%} .. {high:.0%}':>16}{plain:>12.1%}")
    if per_class:
        for label, of_class in sorted(by_class.items()):
            print(f"  {label:30} {np.mean([rank < 1 for rank in of_class]):5.0%} of {len(of_class)}")


def bootstrap(shares: np.ndarray) -> tuple[float, float]:
    """95% interval of the mean over classes, classes drawn anew with a fixed seed."""
    drawn = np.random.default_rng(0).choice(shares, size=(RESAMPLES, len(shares)))
    low, high = np.percentile(drawn.mean(axis=1), [2.5, 97.5])
    return float(low), float(high)


if __name__ == "__main__":
    main()
