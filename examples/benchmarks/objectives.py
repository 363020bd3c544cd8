"""What each objective of training is worth, and whether the joint pass should re-rank: one table.

    python examples/benchmarks/objectives.py                         # the made-up combinations of synthetic.py
    python examples/benchmarks/objectives.py --dataset exercise_movements --names examples/exercise_movements.csv \
        --cache ~/.cache/zsar --splits 10                            # those of rest_exercises.py

Every line is mean per class top-1 on 6 unseen classes by the scorer that ships, mean +- standard deviation over
splits, and the same of the difference to training with every objective (of the indented lines: to the line above them).
"reranked" adds w times the logit of the joint pass to the scores of the first k labels, both in units of their spread
over labels; k and w of a split are those that are best on all other splits. "joint pass alone" ranks all labels by that
logit.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import rest_exercises
import synthetic
import torch
from torch import Tensor

from zsar_cli.networks.rest import RestConfig, RestModel
from zsar_cli.text.minilm import minilm
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import OBJECTIVES, TrainConfig
from zsar_cli.training.grids import ClipFeatures
from zsar_cli.training.loop import train
from zsar_cli.training.scoring import Scorer, mean_per_class
from zsar_cli.training.sources import Source, only_classes
from zsar_cli.training.start import Networks
from zsar_cli.transfer.scoring import TransferSettings

UNSEEN = 6
FIRST, WEIGHTS = (2, 3, 6), (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)  # k and w


@dataclass(frozen=True)
class Bench:
    """A data set, how it is split, and how one trains on it."""

    features: ClipFeatures
    texts: TextTokens
    split: Callable[[int], tuple[Tensor, Tensor]]
    shape: RestConfig
    config: TrainConfig
    scoring: TransferSettings


@dataclass(frozen=True)
class Outcome:
    """Of one split: scores and logits of the joint pass [N, U], the right labels [N], the mean of the matching
    objective over the last 20 steps, and CPU seconds of training."""

    scores: Tensor
    logits: Tensor | None
    targets: Tensor
    loss: float
    seconds: float

    def accuracy(self, scores: Tensor) -> float:
        """In per cent."""
        return 100 * mean_per_class(scores, self.targets)


def made_up() -> Bench:
    """The combinations, trained with every objective."""
    data, config = synthetic.make_synthetic(clips=40), replace(synthetic.CONFIG, matching=0.5, consistency=0.5)
    count = len(data.names)
    return Bench(
        data.features, data.texts, lambda seed: synthetic.split(count, UNSEEN, seed), synthetic.SHAPE, config,
        synthetic.SCORING,
    )  # fmt: skip


def exercises(dataset: Path, names: Path, cache: Path) -> Bench:
    """The movements, trained as the model that is part of the package."""
    data = rest_exercises.read_data(dataset, names, cache, minilm())
    return Bench(
        data.features, data.texts, lambda seed: rest_exercises.split_classes(seed, data.classes, UNSEEN),
        data.shape, rest_exercises.CONFIG, rest_exercises.SCORING,
    )  # fmt: skip


def outcome(bench: Bench, config: TrainConfig, seed: int, joint: bool) -> Outcome:
    """Train on the seen classes of a split and score the clips of the others."""
    (clips, texts), (others, names) = (only_classes(bench.features, bench.texts, part) for part in bench.split(seed))
    history: list[float] = []
    start = time.process_time()
    result = train(
        clips, texts, Networks(bench.shape), config, bench.scoring,
        lambda record, state: history.append(record.get("matching", 0.0)),
    )  # fmt: skip
    seconds = time.process_time() - start
    v, w = (rest_exercises.embedded(result.state.averaged, some) for some in (clips, others))
    scorer = Scorer.of(result.model, result.head, v, texts, bench.scoring)
    logits = joint_logits(result.model, others, names) if joint else None
    losses = history[-20:]
    return Outcome(scorer.scores(w, names), logits, others.targets, sum(losses) / len(losses), seconds)


@torch.no_grad()
def joint_logits(model: RestModel, clips: Source, texts: TextTokens) -> Tensor:
    """[N, U]: of each clip with each label, mean over views of the clip and texts of the label."""
    grids = torch.cat(list(clips.plain(torch.arange(len(clips.targets)))))
    columns = []
    for label in range(UNSEEN):
        passes = [
            torch.cat([one_label(model, part, texts, row) for part in torch.split(grids[:, view], 64)])
            for row in (texts.owner == label).nonzero()[:, 0].tolist()
            for view in range(grids.shape[1])
        ]
        columns.append(torch.stack(passes).mean(dim=0))
    return torch.stack(columns, dim=1)


def one_label(model: RestModel, grids: Tensor, texts: TextTokens, row: int) -> Tensor:
    """[B, T, G, G, C] and one text -> [B]."""
    tokens, keep = (part[row].expand(len(grids), *part.shape[1:]) for part in (texts.tokens, texts.keep))
    return model.match(grids.float(), tokens, keep)


def spread_out(values: Tensor) -> Tensor:
    """[N, U], each row without its mean, in units of the spread over labels of all."""
    centred = values - values.mean(dim=1, keepdim=True)
    return centred / centred.square().mean().sqrt().clamp(min=1e-9)


def reranked(found: Outcome, first: int, weight: float) -> float:
    """Accuracy when the first labels are put in another order by the joint pass."""
    assert found.logits is not None
    scores = spread_out(found.scores)
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.topk(first, dim=1).indices, True)
    far = 2 * (scores.abs().amax() + weight * spread_out(found.logits).abs().amax())  # they stay before all others
    return found.accuracy(torch.where(chosen, scores + weight * spread_out(found.logits) + far, scores))


def nested(found: Sequence[Outcome]) -> list[float]:
    """Accuracy of each split with the k and w that are best on all the others."""
    grid = {(k, w): [reranked(one, k, w) for one in found] for k in FIRST for w in WEIGHTS}
    chosen = [max(grid.values(), key=lambda values: sum(values) - values[split]) for split in range(len(found))]
    return [values[split] for split, values in enumerate(chosen)]


def show(name: str, values: Sequence[float], base: Sequence[float], trained: Sequence[Outcome] = ()) -> None:
    """One line of the table, with the CPU seconds of training where something was trained for it."""
    found, change = torch.tensor(values), torch.tensor(values) - torch.tensor(base)
    cells = [f"{part.mean():{sign}.1f} +- {part.std(correction=0):.1f}" for part, sign in ((found, ""), (change, "+"))]
    seconds = f"  {sum(one.seconds for one in trained):.0f} CPU s" if trained else ""
    print(f"{name:32s}{cells[0]:>14s}{cells[1]:>16s}{seconds}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--names", type=Path)
    parser.add_argument("--cache", type=Path, help="a folder as ZSAR_CACHE_DIR: features are kept in it")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--steps", type=int)
    args = parser.parse_args()
    torch.set_num_threads(1)
    bench = made_up() if args.dataset is None else exercises(args.dataset, args.names, args.cache)
    every = bench.config if args.steps is None else replace(bench.config, steps=args.steps)
    seeds = range(args.splits)
    base: list[float] = []
    for name, config in (("", every), (", 32 pairs, weight 2", replace(every, match_pairs=32, matching=2.0))):
        found = [outcome(bench, config, seed, joint=True) for seed in seeds]
        plain = [one.accuracy(one.scores) for one in found]
        base = base or plain
        show(f"all{name}", plain, base, found)
        print(f"  matching loss, last 20 steps     {', '.join(f'{one.loss:.3f}' for one in found)} (chance 0.693)")
        show("  joint pass alone", [one.accuracy(one.logits) for one in found if one.logits is not None], plain)
        show("  reranked", nested(found), plain)
    for name in OBJECTIVES:
        found = [outcome(bench, replace(every, **{name: 0.0}), seed, joint=False) for seed in seeds]
        show(f"without {name}", [one.accuracy(one.scores) for one in found], base, found)


if __name__ == "__main__":
    main()
