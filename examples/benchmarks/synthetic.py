"""A compositional data set made in code: names of unseen combinations, composed from words that were seen.

    python examples/benchmarks/synthetic.py

A clip shows one shape of one colour moving one way ('a red circle moving left'): 2 colours x 3 shapes x 4 directions =
24 classes, of which some combinations are never trained on. Grids are plain pixels, averaged over cells: there is no
pre-trained backbone. Labels are embedded word by word by fixed random vectors: whatever relates two labels to videos
is learned from the clips.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zsar_cli.networks.rest import RestConfig
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.grids import ClipFeatures
from zsar_cli.training.loop import train
from zsar_cli.training.scoring import Scorer, mean_per_class
from zsar_cli.training.settings import RunConfig
from zsar_cli.training.sources import only_classes
from zsar_cli.training.start import Networks, embed, initial_state
from zsar_cli.training.state import Compute, Learner
from zsar_cli.training.team import Team

COLOURS = {"red": (1.0, 0.1, 0.1), "blue": (0.1, 0.2, 1.0)}
SHAPES = ("circle", "square", "cross")
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
FRAMES, SIDE, CELLS = 4, 32, 4
SHAPE = RestConfig(
    features=3 * (SIDE // CELLS) ** 2,
    text_features=32,
    space=64,
    width=64,
    depth=2,
    heads=4,
    dropout=0.0,
    gate=1.0,
    text_gate=0.1,
)
CONFIG = TrainConfig(
    steps=300, batch=64, learning_rate=2e-3, prior_rate=1.0, mixup=0.0, matching=0.0, consistency=0.0, ema=0.95,
    smoothing=0.0,
)  # fmt: skip
SCORING = RunConfig(train=CONFIG).scoring  # half transfer, half text: what `zsar train` gives a model
WAYS = {"transfer": (1.0, 0.0), "direct text": (0.0, 1.0), "both": (SCORING.transfer_weight, SCORING.text_weight)}


@dataclass(frozen=True)
class Synthetic:
    """Clips, texts and names of all combinations."""

    features: ClipFeatures
    texts: TextTokens
    names: tuple[str, ...]


def make_clip(colour: str, shape: str, direction: str, generator: torch.Generator) -> Tensor:
    """Pixels [T, G, G, C] in 0..1 with noise: every cell's own pixels are its C = 3 * 8 * 8 channels."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    radius = 4 + 2 * torch.rand(1, generator=generator)
    middle = SIDE / 2 + 8 * (torch.rand(2, generator=generator) - 0.5)
    step = torch.tensor(DIRECTIONS[direction]) * (3 + torch.rand(1, generator=generator))
    frames = []
    for time in range(FRAMES):
        row, column = (middle + (time - (FRAMES - 1) / 2) * step).tolist()
        down, across = (rows - row).abs(), (columns - column).abs()
        inside = {
            "circle": down.square() + across.square() <= radius.square(),
            "square": (down <= radius) & (across <= radius),
            "cross": ((down <= radius / 3) & (across <= radius)) | ((across <= radius / 3) & (down <= radius)),
        }[shape]
        image = inside[..., None] * torch.tensor(COLOURS[colour])
        frames.append(image + 0.1 * torch.randn(SIDE, SIDE, 3, generator=generator))
    size = SIDE // CELLS
    cells = torch.stack(frames).unflatten(2, (CELLS, size)).unflatten(1, (CELLS, size))  # [T, G, p, G, p, 3]
    return cells.transpose(2, 3).flatten(3)


def make_synthetic(clips: int, seed: int = 0) -> Synthetic:
    """`clips` clips of every combination; words become fixed random vectors."""
    generator = torch.Generator().manual_seed(seed)
    classes = list(itertools.product(COLOURS, SHAPES, DIRECTIONS))
    names = tuple(f"a {colour} {shape} moving {direction}" for colour, shape, direction in classes)
    words = sorted({word for name in names for word in name.split()})
    vectors = torch.randn(len(words), SHAPE.text_features, generator=generator)
    tokens = torch.stack([vectors[[words.index(word) for word in name.split()]] for name in names])
    grids = torch.stack([make_clip(*c, generator) for c in classes for _ in range(clips)])
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool)
    owner = torch.arange(len(names))
    return Synthetic(
        ClipFeatures(grids[:, None], owner.repeat_interleave(clips)), TextTokens(tokens, keep, owner), names
    )


def split(count: int, unseen: int, seed: int) -> tuple[Tensor, Tensor]:
    """Seen and unseen combinations, every word of the unseen ones among the seen."""
    classes = list(itertools.product(range(len(COLOURS)), range(len(SHAPES)), range(len(DIRECTIONS))))
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(count, generator=generator)
        seen, held = order[unseen:].sort()[0], order[:unseen].sort()[0]
        if all(
            {classes[i][part] for i in held.tolist()} <= {classes[i][part] for i in seen.tolist()} for part in range(3)
        ):
            return seen, held


def accuracy(data: Synthetic, unseen: int, seed: int, config: TrainConfig) -> dict[str, float]:
    """Mean per class top-1 on unseen combinations: chance, transfer without training, then each of `WAYS`."""
    seen, held = split(len(data.names), unseen, seed)
    (clips, texts), (others, unseen_texts) = (only_classes(data.features, data.texts, part) for part in (seen, held))

    def by_way(learner: Learner) -> dict[str, float]:
        v, w = (embed(learner, some, torch.arange(len(some.targets)), Team(), Compute()) for some in (clips, others))
        scorer = Scorer.of(learner.model, learner.head, v, texts, SCORING)
        return {
            name: mean_per_class(scorer.weighed(*weights).scores(w, unseen_texts), others.targets)
            for name, weights in WAYS.items()
        }

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        still = Networks(replace(SHAPE, gate=0.0, text_gate=0.0))
        start = initial_state(clips, texts, still, config, Compute(), Team())
    untrained = by_way(start.learner.eval())["transfer"]
    result = train(clips, texts, Networks(SHAPE), config, SCORING)
    return {"chance": 1 / unseen, "no training": untrained, **by_way(result.state.averaged)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="of each combination")
    parser.add_argument("--unseen", type=int, default=6)
    parser.add_argument("--steps", type=int, default=CONFIG.steps)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = make_synthetic(args.clips)
    print(f"{len(data.names)} classes, {args.unseen} unseen, {args.clips} clips each")
    for seed in range(args.seed, args.seed + args.splits):
        found = accuracy(data, args.unseen, seed, replace(CONFIG, steps=args.steps))
        print(f"split {seed}: " + ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items()), flush=True)


if __name__ == "__main__":
    main()
