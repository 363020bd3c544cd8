"""Zero-shot transfer between exercise movements: training-free against trained, split by split, on frozen features.

    python examples/benchmarks/rest_exercises.py --dataset exercise_movements \
        --names examples/exercise_movements.csv --cache ~/.cache/zsar --splits 10

The data set is a folder per movement; the CSV has the columns folder, label and, optionally, descriptions separated
by "|". Scores are made as `zsar classify` makes them; "both" are its settings for a trained model. Settings were chosen
on splits of the seeds 100 and up; report on the seeds from 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rest_features import load_features, run_config
from torch import Tensor

from zsar_cli.data.dataset import read_dataset
from zsar_cli.text.encoder import label_texts
from zsar_cli.text.minilm import minilm
from zsar_cli.text.tokens import TextTokens, TokenEncoder
from zsar_cli.training.config import OBJECTIVES, TrainConfig
from zsar_cli.training.grids import ClipFeatures
from zsar_cli.training.loop import train
from zsar_cli.training.scoring import Scorer, mean_per_class
from zsar_cli.training.sources import Source, only_classes
from zsar_cli.training.start import Networks, embed, initial_state
from zsar_cli.training.state import Compute, Learner
from zsar_cli.training.team import Team

SHAPE, CONFIG, SCORING = run_config().shape, run_config().train, run_config().scoring
WAYS = {"transfer": (1.0, 0.0), "text": (0.0, 1.0), "both": (SCORING.transfer_weight, SCORING.text_weight)}


@dataclass(frozen=True)
class Data:
    """Features of all clips, texts of all classes."""

    features: ClipFeatures
    texts: TextTokens

    @property
    def classes(self) -> int:
        """How many."""
        return int(self.features.targets.max()) + 1


def split_classes(seed: int, classes: int, unseen: int) -> tuple[Tensor, Tensor]:
    """Seen and unseen classes of a split, both sorted."""
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    return order[unseen:].sort()[0], order[:unseen].sort()[0]


def untrained(features: Source, texts: TextTokens) -> Learner:
    """The closed-form start with the Transformer switched off: the training-free baseline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        still = Networks(replace(SHAPE, gate=0.0, text_gate=0.0))
        state = initial_state(features, texts, still, CONFIG, Compute(), Team())
    return state.learner.eval()


def embedded(learner: Learner, source: Source) -> Tensor:
    """Unit rows of all clips."""
    return embed(learner, source, torch.arange(len(source.targets)), Team(), Compute())


Method = Callable[[Source, TextTokens], Learner]


def trained(config: TrainConfig) -> Method:
    """A function that trains with `config`."""
    return lambda source, texts: train(source, texts, Networks(SHAPE), config, SCORING).state.averaged


def unseen_accuracy(data: Data, method: Method, seeds: Sequence[int], unseen: int) -> dict[str, list[float]]:
    """Mean per class top-1 on the unseen classes, for each way of scoring a list over splits."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        seen, held = split_classes(seed, data.classes, unseen)
        (clips, texts), test = (only_classes(data.features, data.texts, part) for part in (seen, held))
        learner = method(clips, texts)
        scorer = Scorer.of(learner.model, learner.head, embedded(learner, clips), texts, SCORING)
        v = embedded(learner, test[0])
        for name, weights in WAYS.items():
            score = scorer.weighed(*weights).scores(v, test[1])
            found.setdefault(name, []).append(mean_per_class(score, test[0].targets))
    return found


def oracle_accuracy(data: Data, seeds: Sequence[int], unseen: int) -> list[float]:
    """The same with class means of the unseen clips themselves, each clip left out of its own class's mean."""
    found = []
    for seed in seeds:
        seen, held = split_classes(seed, data.classes, unseen)
        clips, (test, _) = (only_classes(data.features, data.texts, part) for part in (seen, held))
        v = embedded(untrained(*clips), test)
        member = F.one_hot(test.targets, unseen).float()
        sums = (member.T @ v)[None] - member[:, :, None] * v[:, None]
        found.append(mean_per_class((F.normalize(sums, dim=2) * v[:, None]).sum(dim=2), test.targets))
    return found


def seen_accuracy(data: Data, method: Method, folds: int = 5) -> float:
    """Mean per class top-1 over all classes on held-out clips."""
    targets = data.features.targets
    fold = torch.zeros_like(targets)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(0))
    for index in range(data.classes):
        rows = order[targets[order] == index]
        fold[rows] = torch.arange(len(rows)) % folds
    score = torch.zeros(len(targets), data.classes)
    for index in range(folds):
        out = fold == index
        rest, left = (data.features.only(some.nonzero()[:, 0], targets[some]) for some in (~out, out))
        learner = method(rest, data.texts)
        scorer = Scorer.of(learner.model, learner.head, embedded(learner, rest), data.texts, SCORING)
        score[out] = scorer.scores(embedded(learner, left), data.texts)
    return mean_per_class(score, targets)


def read_data(dataset: Path, names: Path, cache: Path, encoder: TokenEncoder) -> Data:
    """Features (from the cache where it is there), and texts as `zsar train` reads them."""
    data = read_dataset(dataset, names)
    videos, grids = load_features(data, cache)
    targets = torch.tensor([data.classes.names.index(item.label) for item in videos])
    return Data(ClipFeatures(grids, targets), encoder.tokens([label_texts(label) for label in data.classes]))


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
    parser.add_argument("--names", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="a folder as ZSAR_CACHE_DIR: features are kept in it")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--unseen", type=int, default=6)
    parser.add_argument("--steps", type=int, default=CONFIG.steps)
    parser.add_argument("--ablation", action="store_true", help="leave one objective out at a time")
    parser.add_argument("--folds", action="store_true", help="accuracy on held-out clips of seen classes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = read_data(args.dataset, args.names, args.cache, minilm())
    config = replace(CONFIG, steps=args.steps)
    seeds = range(args.seed, args.seed + args.splits)
    if args.splits:
        print(f"{data.classes} classes, {args.unseen} unseen (chance {100 / args.unseen:.1f}), {args.splits} splits")
        show("own videos, one left out", {"oracle": oracle_accuracy(data, seeds, args.unseen)})
        show("training-free", unseen_accuracy(data, untrained, seeds, args.unseen))
        show("trained", unseen_accuracy(data, trained(config), seeds, args.unseen))
    for name in OBJECTIVES if args.ablation else ():
        without = replace(config, **{name: 0.0})
        show(f"trained without {name}", unseen_accuracy(data, trained(without), seeds, args.unseen))
    for name, method in (("training-free", untrained), ("trained", trained(config))) if args.folds else ():
        print(f"{name:28s}seen classes, held-out clips: {100 * seen_accuracy(data, method):.1f}", flush=True)


if __name__ == "__main__":
    main()
