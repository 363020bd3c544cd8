"""Zero-shot transfer between exercise movements: training-free against trained, split by split, on frozen features.

    python examples/benchmarks/rest_exercises.py --dataset exercise_movements \
        --labels examples/exercise_movements.csv --cache ~/.cache/zsar --splits 10

The data set is a folder per movement; the CSV has the columns folder, label and, optionally, descriptions separated
by "|". `--captions` also uses the file names of the training clips as their captions. Settings were chosen on splits
of the seeds 100 and up; report on the seeds from 0.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rest_features import features_of, load_features, run_config
from torch import Tensor

from zsar_cli.data.dataset import Item
from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.text.minilm import MINILM
from zsar_cli.text.tokens import TextTokens, TokenEncoder
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.inference import (
    blend,
    embed_clips,
    embed_texts,
    mean_per_class,
    seen_bank,
    text_scores,
    transfer_scores,
)
from zsar_cli.training.train import ClipFeatures, initial_state, only_classes, only_clips, train_on_features

SHAPE, CONFIG = run_config().shape, run_config().train
OBJECTIVES = ("discrimination", "alignment", "matching", "consistency", "episodic")


@dataclass(frozen=True)
class Data:
    """Features of all clips, texts of all classes, folder names of the classes."""

    features: ClipFeatures
    texts: TextTokens
    folders: tuple[str, ...]


def split_classes(seed: int, classes: int, unseen: int) -> tuple[Tensor, Tensor]:
    """Seen and unseen classes of a split, both sorted."""
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    return order[unseen:].sort()[0], order[:unseen].sort()[0]


def scores(
    model: RestModel, head: RestHead, seen: tuple[ClipFeatures, TextTokens], grids: Tensor, texts: TextTokens
) -> dict[str, Tensor]:
    """Scores [N, U] of clips over the labels of `texts` by transfer, by direct text matching, and by both."""
    labels = texts.select(texts.clip < 0)
    v, t = embed_clips(model, grids), embed_texts(model, labels.tokens, labels.keep)
    transfer = transfer_scores(v, t, labels.owner, seen_bank(model, head.prototypes, seen[0].grids, seen[1]))
    direct = text_scores(v, t, labels.owner)
    return {"transfer": transfer, "text": direct, "both": blend(transfer, direct)}


def untrained(features: ClipFeatures, texts: TextTokens) -> tuple[RestModel, RestHead]:
    """The closed-form start with the Transformer switched off: the training-free baseline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = initial_state(features, texts, replace(SHAPE, gate=0.0, text_gate=0.0), CONFIG)
    return state.model.eval(), state.head


def trained(config: TrainConfig) -> Callable[[ClipFeatures, TextTokens], tuple[RestModel, RestHead]]:
    """A function that trains with `config` and returns the model and its head."""

    def run(features: ClipFeatures, texts: TextTokens) -> tuple[RestModel, RestHead]:
        result = train_on_features(features, texts, SHAPE, config)
        return result.model, result.head

    return run


Method = Callable[[ClipFeatures, TextTokens], tuple[RestModel, RestHead]]


def unseen_accuracy(data: Data, method: Method, seeds: Sequence[int], unseen: int) -> dict[str, list[float]]:
    """Mean per class top-1 on the unseen classes, for each way of scoring a list over splits."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        seen, held = split_classes(seed, len(data.folders), unseen)
        train, test = (only_classes(data.features, data.texts, part) for part in (seen, held))
        model, head = method(*train)
        for name, score in scores(model, head, train, test[0].grids, test[1]).items():
            found.setdefault(name, []).append(mean_per_class(score, test[0].targets))
    return found


def oracle_accuracy(data: Data, seeds: Sequence[int], unseen: int) -> list[float]:
    """The same with class means of the unseen clips themselves, each clip left out of its own class's mean."""
    found = []
    for seed in seeds:
        seen, held = split_classes(seed, len(data.folders), unseen)
        train, (test, _) = (only_classes(data.features, data.texts, part) for part in (seen, held))
        v = embed_clips(untrained(*train)[0], test.grids)
        member = F.one_hot(test.targets, unseen).float()
        sums = (member.T @ v)[None] - member[:, :, None] * v[:, None]
        found.append(mean_per_class((F.normalize(sums, dim=2) * v[:, None]).sum(dim=2), test.targets))
    return found


def seen_accuracy(data: Data, method: Method, folds: int = 5) -> float:
    """Mean per class top-1 over all classes on held-out clips, by nearest learned prototype."""
    targets = data.features.targets
    fold = torch.zeros_like(targets)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    for index in range(len(data.folders)):
        rows = order[targets[order] == index]
        fold[rows] = torch.arange(len(rows)) % folds
    score = torch.zeros(len(targets), len(data.folders))
    for index in range(folds):
        model, head = method(*only_clips(data.features, data.texts, (fold != index).nonzero()[:, 0]))
        rows = (fold == index).nonzero()[:, 0]
        score[rows] = embed_clips(model, data.features.grids[rows]) @ F.normalize(head.prototypes.detach(), dim=1).T
    return mean_per_class(score, targets)


def cross_accuracy(
    data: Data, method: Method, folders: Sequence[Path], encoder: TokenEncoder, cache: Path
) -> dict[str, float]:
    """Trained on all classes, clips of other folders among these folders' names: the mean per class top-1."""
    texts = encoder.tokens([[folder.name.replace("_", " ")] for folder in folders])
    items = [Item(str(path), folder.name, str(path)) for folder in folders for path in sorted(folder.iterdir())]
    names, grids = features_of(items, cache, run_config().clip.classify_frames)
    order = [folder.name for folder in folders]
    targets = torch.tensor([order.index(Path(name).parent.name) for name in names])
    model, head = method(data.features, data.texts)
    found = scores(model, head, (data.features, data.texts), grids, texts)
    return {name: mean_per_class(score, targets) for name, score in found.items()}


def read_data(args: argparse.Namespace, encoder: TokenEncoder) -> Data:
    """Features (from the cache where it is there), and texts as asked for."""
    with open(args.labels, encoding="utf-8", newline="") as file:
        rows = {row["folder"]: row for row in csv.DictReader(file)}
    paths, grids = load_features(args.dataset, args.cache)
    folders = tuple(sorted({path.split("/")[0] for path in paths}))
    targets = torch.tensor([folders.index(path.split("/")[0]) for path in paths])
    groups = [[rows[folder]["label"]] for folder in folders]
    if args.descriptions:
        groups = [
            [*group, *rows[folder]["descriptions"].split("|")] for group, folder in zip(groups, folders, strict=True)
        ]
    stems = [Path(path).stem.replace("_", " ") for path in paths]
    captions = list(zip(targets.tolist(), stems, strict=True)) if args.captions else []
    return Data(ClipFeatures(grids, targets), encoder.tokens(groups, captions), folders)


def show(name: str, found: dict[str, list[float]]) -> None:
    """One line of the table, in per cent: mean +- standard deviation over splits, for each way of scoring."""
    cells = []
    for way, values in found.items():
        percent = 100 * torch.tensor(values)
        cells.append(f"{way} {percent.mean():.1f} +- {percent.std(correction=0):.1f}")
    print(f"{name:28s}{'   '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="a folder as ZSAR_CACHE_DIR: features are kept in it")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--unseen", type=int, default=6)
    parser.add_argument("--steps", type=int, default=CONFIG.steps)
    parser.add_argument("--descriptions", action="store_true")
    parser.add_argument("--captions", action="store_true")
    parser.add_argument("--ablation", action="store_true", help="leave one objective out at a time")
    parser.add_argument("--folds", action="store_true", help="accuracy on held-out clips of seen classes")
    parser.add_argument("--cross", type=Path, nargs="*", default=[], help="folders of other clips, named as labels")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    encoder = TokenEncoder(MINILM.verified().parent, "minilm")
    data = read_data(args, encoder)
    config = replace(CONFIG, steps=args.steps)
    seeds = range(args.seed, args.seed + args.splits)
    if args.splits:
        print(
            f"{len(data.folders)} classes, {args.unseen} unseen (chance {100 / args.unseen:.1f}), {args.splits} splits"
        )
        show("own videos, one left out", {"oracle": oracle_accuracy(data, seeds, args.unseen)})
        show("training-free", unseen_accuracy(data, untrained, seeds, args.unseen))
        show("trained", unseen_accuracy(data, trained(config), seeds, args.unseen))
    for name in OBJECTIVES if args.ablation else ():
        without = replace(config, **{name: 0.0})
        show(f"trained without {name}", unseen_accuracy(data, trained(without), seeds, args.unseen))
    for name, method in (("training-free", untrained), ("trained", trained(config))):
        if args.folds:
            print(f"{name:28s}seen classes, held-out clips: {100 * seen_accuracy(data, method):.1f}", flush=True)
        if args.cross:
            show(
                f"{name}, other clips",
                {k: [v] for k, v in cross_accuracy(data, method, args.cross, encoder, args.cache).items()},
            )


if __name__ == "__main__":
    main()
