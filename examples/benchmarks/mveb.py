"""Zero-shot accuracy of any zsar model by the protocol of the Massive Video Embedding Benchmark (package `mteb`).

    python examples/benchmarks/mveb.py --dataset hmdb51 --videos hmdb51/ --list testsplit1.txt -- --model pe-core-b

For each class the one prompt "a video of X", where X is the class's name as the data set has it (of HMDB51 with spaces
in the place of underscores); accuracy over all videos; f1, precision and recall as means over classes and weighted.

The videos are your own copies, in a folder for each class; `--list` has the paths of the test videos in it, one a line
(more words on a line, such as class numbers, are left out). mteb takes official split 1 of HMDB51, the 51 classes with
sound of UCF101, and a sample of Kinetics: its own result files compare with a run here only over the same videos.

Not run here, for want of those videos and weights. To check a set-up: `mteb` reports 46.5% on HMDB51 for
microsoft/xclip-base-patch16, which `--model microsoft/xclip-base-patch16` should come near to.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

DATASETS = ("hmdb51", "ucf101", "kinetics400", "kinetics600")


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=DATASETS, required=True)
    parser.add_argument("--videos", type=Path, required=True, help="a folder with a folder for each class")
    parser.add_argument("--list", type=Path, help="the test videos, a path in that folder on each line; else all")
    parser.add_argument("options", nargs="*", help="further options of zsar classify, after --")
    arguments = parser.parse_args()
    truth = find_videos(arguments.videos, arguments.list)
    classes = sorted(folder.name for folder in arguments.videos.iterdir() if folder.is_dir())
    answers = classify(list(truth), labels_of(arguments.dataset, classes), arguments.options)
    pairs = [(label, answers.get(path, "")) for path, label in truth.items()]
    print(
        json.dumps(
            {"dataset": arguments.dataset, "videos": len(pairs), "classes": len(classes), **measures(pairs)}, indent=2
        )
    )


def find_videos(folder: Path, listing: Path | None) -> dict[str, str]:
    """Class by path."""
    if listing is None:
        files = [file for file in sorted(folder.glob("*/*")) if file.is_file()]
    else:
        files = [folder / line.split()[0] for line in listing.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not files:
        sys.exit(f"{listing or folder}: names no video")
    return {str(file): file.parent.name for file in files}


def labels_of(dataset: str, classes: Sequence[str]) -> list[dict[str, object]]:
    """A label for each class, with the one prompt of the protocol."""
    words = {name: name.replace("_", " ") if dataset == "hmdb51" else name for name in classes}
    return [{"name": name, "prompts": [f"a video of {words[name]}"]} for name in classes]


def classify(paths: Sequence[str], labels: Sequence[Mapping[str, object]], options: Sequence[str]) -> dict[str, str]:
    """The best label of each path, from the command line's JSON; a video that fails has none."""
    with tempfile.TemporaryDirectory() as folder:
        listing, names, result = (Path(folder) / name for name in ("paths.txt", "labels.yaml", "result.json"))
        listing.write_text("\n".join(paths), encoding="utf-8")
        names.write_text(yaml.safe_dump(list(labels), allow_unicode=True), encoding="utf-8")
        command = [sys.executable, "-m", "zsar_cli", "classify", f"@{listing}", "--labels", str(names)]
        subprocess.run([*command, "--top-k", "1", "-o", str(result), *options], check=False)
        if not result.exists():
            sys.exit("zsar classify wrote no result")
        records = json.loads(result.read_text(encoding="utf-8"))["results"]
    return {record["path"]: item["label"] for record in records for item in record["predictions"][:1]}


def measures(pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Accuracy, and of each class precision, recall and f1 (0 where nothing was found), their mean and weighted mean.

    Classes are those that occur, as truth or as an answer; the weight of one is how often it is the truth.
    """
    names = sorted({name for pair in pairs for name in pair if name})
    counts = {
        name: (
            sum(truth == name == answer for truth, answer in pairs),
            sum(answer == name for _, answer in pairs),
            sum(truth == name for truth, _ in pairs),
        )
        for name in names
    }
    rows = np.array([
        (right / said if said else 0.0, right / there if there else 0.0, 2 * right / (said + there))
        for right, said, there in counts.values()
    ])  # fmt: skip
    weights = np.array([there for _, _, there in counts.values()]) / len(pairs)
    found: dict[str, float] = {"accuracy": float(np.mean([truth == answer for truth, answer in pairs]))}
    for column, name in enumerate(("precision", "recall", "f1")):
        found[name] = float(rows[:, column].mean())
        found[f"{name}_weighted"] = float(rows[:, column] @ weights)
    return found


if __name__ == "__main__":
    main()
