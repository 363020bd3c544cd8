"""Zero-shot transfer between classes of a data set: training-free against trained, split by split, on frozen features.

    python examples/benchmarks/rest_exercises.py --dataset exercise_movements \
        --names examples/exercise_movements.csv --cache ~/.cache/zsar --splits 10
    zsar library add videos.lib videos/ --model movinet-a0-stream
    python examples/benchmarks/rest_exercises.py --dataset videos.tsv --library videos.lib --splits 3 --unseen 54

The data set is a folder per movement with a CSV of the columns folder, label and, optionally, descriptions separated
by "|", or a table of path and label. Without `--library` clips are grids of frozen features, with it the embeddings in
a library, the mean over the windows of a video. Scores are made as `zsar classify` makes them; "both" are its settings
for a trained model. Settings were chosen on splits of the exercises of the seeds 100 and up; report on those from 0.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rest_features import load_features, run_config
from torch import Tensor

from zsar_cli.data.dataset import Dataset, Item, read_dataset
from zsar_cli.networks.rest import RestConfig
from zsar_cli.store.library import Library
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
from zsar_cli.training.stored import choose_model, take_windows
from zsar_cli.training.team import Team

CONFIG, SCORING = run_config().train, run_config().scoring
WAYS = {"transfer": (1.0, 0.0), "text": (0.0, 1.0), "both": (SCORING.transfer_weight, SCORING.text_weight)}


@dataclass(frozen=True)
class Data:
    """Features of all clips, texts of all classes."""

    features: ClipFeatures
    texts: TextTokens
    shape: RestConfig  # of the Transformer on them

    @property
    def classes(self) -> int:
        """How many."""
        return int(self.features.targets.max()) + 1


def split_classes(seed: int, classes: int, unseen: int) -> tuple[Tensor, Tensor]:
    """Seen and unseen classes of a split, both sorted."""
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    return order[unseen:].sort()[0], order[:unseen].sort()[0]


def untrained(features: Source, texts: TextTokens, shape: RestConfig) -> Learner:
    """The closed-form start with the Transformer switched off: the training-free baseline."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        still = Networks(replace(shape, gate=0.0, text_gate=0.0))
        state = initial_state(features, texts, still, CONFIG, Compute(), Team())
    return state.learner.eval()


def embedded(learner: Learner, source: Source) -> Tensor:
    """Unit rows of all clips."""
    return embed(learner, source, torch.arange(len(source.targets)), Team(), Compute())


Method = Callable[[Source, TextTokens, RestConfig], Learner]


def trained(config: TrainConfig) -> Method:
    """A function that trains with `config`."""
    return lambda source, texts, shape: train(source, texts, Networks(shape), config, SCORING).state.averaged


def unseen_accuracy(data: Data, method: Method, seeds: Sequence[int], unseen: int) -> dict[str, list[float]]:
    """Mean per class top-1 on the unseen classes, for each way of scoring a list over splits."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        seen, held = split_classes(seed, data.classes, unseen)
        (clips, texts), test = (only_classes(data.features, data.texts, part) for part in (seen, held))
        learner = method(clips, texts, data.shape)
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
        v = embedded(untrained(*clips, data.shape), test)
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
        learner = method(rest, data.texts, data.shape)
        scorer = Scorer.of(learner.model, learner.head, embedded(learner, rest), data.texts, SCORING)
        score[out] = scorer.scores(embedded(learner, left), data.texts)
    return mean_per_class(score, targets)


def load_embeddings(data: Dataset, library: Path) -> tuple[list[Item], Tensor]:
    """The videos that the library knows, and the means of their windows, float32 [N, 1, 1, 1, 1, D]."""
    opened = Library(library)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "windows.npy"
        stored = take_windows(opened, choose_model(opened, None), data.items, file)
        windows = torch.from_numpy(np.load(file)).float()
    for failure in stored.failures:
        print(failure)
    items = list(dict.fromkeys(stored.items))
    rows = [[row for row, one in enumerate(stored.items) if one == item] for item in items]
    return items, torch.stack([windows[mine].mean(dim=0) for mine in rows])


def read_data(
    dataset: Path, names: Path | None, cache: Path, encoder: TokenEncoder, library: Path | None = None
) -> Data:
    """Features (from the cache where it is there) or embeddings, and texts as `zsar train` reads them."""
    data, config = read_dataset(dataset, names), run_config()
    if library is None:
        (videos, grids), shape = load_features(data, cache), config.shape
    else:
        videos, grids = load_embeddings(data, library)
        shape = replace(config.model, features=grids.shape[-1], posture=0)
    targets = torch.tensor([data.classes.names.index(item.label) for item in videos])
    return Data(ClipFeatures(grids, targets), encoder.tokens([label_texts(label) for label in data.classes]), shape)


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
    parser.add_argument("--names", type=Path)
    parser.add_argument("--library", type=Path, help="train on its embeddings, in place of grids of frozen features")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "zsar", help="where features are kept")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    parser.add_argument("--unseen", type=int, default=6)
    parser.add_argument("--steps", type=int, default=CONFIG.steps)
    parser.add_argument("--ablation", action="store_true", help="leave one objective out at a time")
    parser.add_argument("--folds", action="store_true", help="accuracy on held-out clips of seen classes")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = read_data(args.dataset, args.names, args.cache, minilm(), args.library)
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
