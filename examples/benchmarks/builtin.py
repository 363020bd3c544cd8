"""What each piece of label knowledge is worth, with frozen video features: the rows behind the README's table.

    python examples/benchmarks/builtin.py --manifest clips/manifest.tsv --labels clips/labels.txt
    python examples/benchmarks/builtin.py --manifest ... --labels ... \
        --model movinet_a0_stream_int8.tflite --seen-labels kinetics600_label_map.txt

The manifest is that of accuracy.py. Videos are read once, through the embedding cache of `--cache-dir`. Every row is a
way to score, with a coarse grid of settings. Printed for each, mean per class top-1 and top-5:

    middle   the median over the grid, which is what a setting chosen blindly gives
    nested   settings chosen by top-1 + top-5 / 2 on a random half of the CLASSES, measured on the other half;
             mean over `--splits` splits, both ways round; all labels always compete
    chosen   the setting that ships (or the middle of the grid), with a bootstrap interval over classes for top-1

"entries of tested labels left out" removes from the lexicon every entry that has the name of a tested label or a cosine
above 0.85 to one: what is lost there was memorised.

With `--wordings examples/benchmarks/wordings.tsv` (a column of labels, further columns of other wordings for them) the
shipped setting is compared with no lexicon in every wording instead, which says how much hangs on a happy choice of
words.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from accuracy import bootstrap, read_manifest
from torch import Tensor

from zsar_cli import LabelSet, ZeroShotClassifier, load
from zsar_cli.errors import InputError
from zsar_cli.text.encoder import encode_labels
from zsar_cli.text.lexicon import Entry, Lexicon, read_entries
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.compose import Vocabulary, compose, compose_through
from zsar_cli.transfer.relatedness import relatedness, top_softmax
from zsar_cli.transfer.scoring import TransferSettings, conse, score_labels

NEAR = 0.85
FOLDER = Path(__file__).parents[2] / "zsar_cli" / "lexicon"
unit = torch.nn.functional.normalize
Grid = Iterator[Tensor]


@dataclass(frozen=True)
class Bench:
    """Everything that rows score with: V videos, U labels, S seen classes, N entries."""

    visual: Tensor
    labels: tuple[str, ...]
    semantic: Tensor
    bank: PrototypeBank
    entries: tuple[Entry, ...]
    lexicon: Lexicon
    own: TransferSettings
    embed: Callable[[list[list[str]]], Tensor]

    def plain(self) -> Bench:
        """With classes told of by their names alone."""
        names = self.embed([[name] for name in self.bank.labels])
        return replace(self, bank=replace(self.bank, semantic=names, phrases=None))

    def mean_phrases(self) -> Bench:
        """With the mean of a class's phrases, but not the nearest of them."""
        return replace(self, bank=replace(self.bank, phrases=None))

    def left_out(self) -> Bench:
        """Without the entries of the tested labels."""
        names = {label.casefold() for label in self.labels}
        near = (self.lexicon.semantic @ self.semantic.T).amax(dim=1)
        kept = [
            index
            for index, entry in enumerate(self.entries)
            if near[index] <= NEAR and not names & {name.casefold() for name in entry.names}
        ]
        lexicon = replace(
            self.lexicon,
            names=tuple(self.lexicon.names[index] for index in kept),
            semantic=self.lexicon.semantic[kept],
        )
        return replace(self, lexicon=lexicon, entries=tuple(self.entries[index] for index in kept))

    def vocabulary(self) -> Vocabulary:
        """The lexicon, composed from the bank."""
        return Vocabulary.of(self.bank, self.lexicon.names, self.lexicon.semantic, self.own.top_k, self.own.temperature)

    def direct(self, semantic: Tensor | None = None, **changed: float) -> Tensor:
        """Scores without a lexicon, [V, U]."""
        settings = replace(self.own, **changed)
        given = self.semantic if semantic is None else semantic
        composed, _ = compose(self.bank, self.labels, given, settings.top_k, settings.temperature)
        return score_labels(self.visual, settings, self.bank, composed)

    def through(self, vocabulary: Vocabulary, name_by_entries: bool = True, **changed: float) -> Tensor:
        """Scores by way of a lexicon, [V, U]: what ships."""
        settings = replace(self.own, **changed)
        composed, _, _ = compose_through(
            self.bank, vocabulary, self.labels, self.semantic, settings.top_k, settings.temperature,
            nearest=settings.lexicon_nearest, nearest_temperature=settings.lexicon_temperature,
            share=settings.lexicon_share,
        )  # fmt: skip
        return score_labels(
            self.visual, settings, self.bank, composed, entries=vocabulary.entries if name_by_entries else None
        )


def before(bench: Bench) -> Grid:
    """Transfer and ConSE, no lexicon."""
    for top_k, temperature, weight in product((10, 20), (0.05, 0.1), (0.0, 0.5, 0.7, 1.0)):
        yield bench.direct(top_k=top_k, temperature=temperature, transfer_weight=weight, conse_weight=1 - weight)


def expanded_text(of: str) -> Callable[[Bench], Grid]:
    """T_u' = normalise(T_u + w R X), X the entries' names, motions or both, then as without a lexicon."""

    def rows(bench: Bench) -> Grid:
        motions = bench.embed([[entry.motion] for entry in bench.entries]) if of != "names" else bench.lexicon.semantic
        told = {"names": bench.lexicon.semantic, "motion": motions, "both": unit(bench.lexicon.semantic + motions)}[of]
        cosine = bench.semantic @ bench.lexicon.semantic.T
        for nearest, weight in product((1, 3, 5), (0.3, 0.6, 1.0)):
            yield bench.direct(unit(bench.semantic + weight * top_softmax(cosine, nearest, 0.05) @ told))

    return rows


def expanded_things(*of: str) -> Callable[[Bench], Grid]:
    """A + w R O: O relates the things (or places, clothes) of each entry to the names of the seen classes."""

    def rows(bench: Bench) -> Grid:
        things = [[text for key in of for text in getattr(entry, key)] for entry in bench.entries]
        different = sorted({text for group in things for text in group})
        names = bench.embed([[name] for name in bench.bank.labels])
        related = relatedness(bench.embed([[text] for text in different]), names, 3, 0.03)
        position = {text: index for index, text in enumerate(different)}
        none = torch.zeros(len(names))
        of_entry = torch.stack(
            [related[[position[text] for text in group]].mean(dim=0) if group else none for group in things]
        )
        cosine = bench.semantic @ bench.lexicon.semantic.T
        own = compose(bench.bank, bench.labels, bench.semantic, bench.own.top_k, bench.own.temperature)
        for nearest, weight in product((1, 3, 5), (0.2, 0.5, 1.0)):
            weights = own[1] + weight * top_softmax(cosine, nearest, 0.05) @ of_entry
            composed = replace(own[0], visual=unit(weights @ bench.bank.visual))
            yield score_labels(bench.visual, bench.own, bench.bank, composed)

    return rows


def nearest_votes(bench: Bench) -> Grid:
    """log sum over a label's entries of R exp(b cos(v, P_e)), with ConSE as it was."""
    entries = bench.vocabulary().entries
    seen = bench.own.logit_scale
    cosine = bench.semantic @ entries.semantic.T
    named = conse(bench.visual, bench.bank, bench.semantic, bench.own.top_k, seen) / bench.own.conse_scale
    to_entries = unit(bench.visual) @ entries.visual.T
    for nearest, scale, temperature in product((10, 30), (10, 25, 40), (0.05, 0.1)):
        shares = top_softmax(cosine, nearest, temperature)
        votes = torch.logsumexp(scale * to_entries[:, None] + torch.log(shares + 1e-12)[None], dim=2) / scale
        yield bench.own.transfer_weight * votes / bench.own.transfer_scale + bench.own.conse_weight * named


def shared(bench: Bench) -> Grid:
    """Composition by way of entries; ConSE as it was."""
    vocabulary = bench.vocabulary()
    for share, nearest, temperature in product((0.3, 0.5, 0.7, 1.0), (5, 10, 20), (0.05, 0.1)):
        how = {"lexicon_share": share, "lexicon_nearest": nearest, "lexicon_temperature": temperature}
        yield bench.through(vocabulary, False, **how)


def named(bench: Bench) -> Grid:
    """ConSE names a video by entries; composition as it was."""
    vocabulary = bench.vocabulary()
    for nearest, weight in product((5, 10, 20), (0.4, 0.5, 0.6, 0.7)):
        how = {"lexicon_nearest": nearest, "transfer_weight": weight, "conse_weight": 1 - weight}
        yield bench.through(vocabulary, lexicon_share=0.0, **how)


def both(bench: Bench) -> Grid:
    """Composition and ConSE by way of entries."""
    vocabulary = bench.vocabulary()
    for share, nearest, weight in product((0.3, 0.5, 0.7, 1.0), (5, 10, 20), (0.5, 0.6, 0.7)):
        how = {"lexicon_share": share, "lexicon_nearest": nearest}
        yield bench.through(vocabulary, **how, transfer_weight=weight, conse_weight=1 - weight)


def hubness(kind: str) -> Callable[[Bench], Grid]:
    """What ships, less what the entries, as if they were videos, give each label."""

    def rows(bench: Bench) -> Grid:
        vocabulary = bench.vocabulary()
        scores = bench.through(vocabulary)
        bank = replace(bench, visual=vocabulary.entries.visual).through(vocabulary)  # [N, U]
        for strength in (0.25, 0.5, 1.0):
            if kind == "mean":
                yield scores - strength * bank.mean(dim=0)
            elif kind == "nearest":
                yield scores - strength * bank.topk(200, dim=0).values.mean(dim=0)
            else:  # inverted softmax
                yield scores - torch.logsumexp(bank * strength, dim=0) / strength

    return rows


def background(bench: Bench) -> Grid:
    """A label against the entries round it: cos(v, P_u) - w mean over its k nearest entries of cos(v, P_e)."""
    entries = bench.vocabulary().entries
    scores = bench.through(bench.vocabulary())
    to_entries = unit(bench.visual) @ entries.visual.T / bench.own.transfer_scale
    cosine = bench.semantic @ entries.semantic.T
    for nearest, weight in product((10, 30, 100), (0.1, 0.2, 0.4)):
        yield scores - weight * to_entries @ top_softmax(cosine, nearest, 100.0).T


def rows_for(bench: Bench) -> list[tuple[str, Bench, Callable[[Bench], Grid], bool]]:
    """Name, what it scores with, its grid, and whether the chosen setting is what ships."""
    plain, means, left_out = bench.plain(), bench.mean_phrases(), bench.left_out()
    told = bench.bank.phrases is not None
    first = [("class names alone", plain, before, False)]
    if told:
        first += [("+ activities of the classes, as means", means, before, False)]
        first += [("+ their nearest phrase", bench, before, False)]
    return [
        *first,
        ("label text + names of near entries", bench, expanded_text("names"), False),
        ("label text + motion of near entries", bench, expanded_text("motion"), False),
        ("label text + names and motion", bench, expanded_text("both"), False),
        ("objects of near entries to class names", bench, expanded_things("objects"), False),
        ("places of near entries to class names", bench, expanded_things("places"), False),
        ("objects, places and clothing", bench, expanded_things("objects", "places", "clothing"), False),
        ("votes of near entries", bench, nearest_votes, False),
        ("composed by way of entries", bench, shared, False),
        ("videos named by entries (ConSE)", bench, named, False),
        ("composed and named by entries: SHIPS", bench, both, True),
        ("  the same, entries of tested labels left out", left_out, both, True),
        *([("  the same, no nearest phrase", means, both, True)] if told else []),
        ("  the same, class names alone", plain, both, True),
        ("SHIPS + hubness: less the mean over entries", bench, hubness("mean"), False),
        ("SHIPS + hubness: less the 200 nearest entries", bench, hubness("nearest"), False),
        ("SHIPS + hubness: inverted softmax over entries", bench, hubness("inverted"), False),
        ("SHIPS + entries as background of each label", bench, background, False),
    ]


def shares(scores: Tensor, truth: np.ndarray) -> np.ndarray:
    """Top-1 and top-5 of each class that has videos, [2, C]."""
    own = scores[torch.arange(len(truth)), torch.from_numpy(truth)][:, None]
    ranks = (scores > own).sum(dim=1).numpy()
    return np.array([[np.mean(ranks[truth == one] < top) for one in np.unique(truth)] for top in (1, 5)])


def nested(grid: np.ndarray, splits: int) -> np.ndarray:
    """[G, 2, C] -> top-1 and top-5 on the halves of the classes that the setting was not chosen on.

    Settings that tie are averaged.
    """
    rng = np.random.default_rng(0)
    wish = grid[:, 0] + grid[:, 1] / 2
    found = []
    for _ in range(splits):
        order = rng.permutation(grid.shape[2])
        half = len(order) // 2
        for chosen_on, measured_on in ((order[:half], order[half:]), (order[half:], order[:half])):
            value = wish[:, chosen_on].mean(axis=1)
            best = grid[value >= value.max() - 1e-9]
            found.append(best[:, :, measured_on].mean(axis=(0, 2)))
    return np.mean(found, axis=0)


def open_bench(arguments: argparse.Namespace) -> tuple[Bench, np.ndarray]:
    """Videos, labels and knowledge, and the label of each video by its index."""
    classifier = load(arguments.model, seen_labels=arguments.seen_labels, cache_dir=arguments.cache_dir)
    assert isinstance(classifier, ZeroShotClassifier) and classifier.bank is not None
    text, labels = classifier.model.text, LabelSet.read(arguments.labels)
    truth = read_manifest(arguments.manifest)
    visual, kept = [], []
    for label, item in zip(truth.values(), classifier.embed(truth), strict=True):
        if isinstance(item, InputError):
            raise SystemExit(str(item))
        visual.append(item.clips.mean(dim=0))
        kept.append(labels.names.index(label))
    entries = tuple(entry for file in sorted(FOLDER.glob("*.yaml")) for entry in read_entries(file))
    lexicon = classifier.lexicon
    assert lexicon is not None and lexicon.names == tuple(entry.action for entry in entries)

    def embed(groups: list[list[str]]) -> Tensor:
        rows = text.encode([one for group in groups for one in group])
        assert len(rows) == len(groups)
        return rows

    bench = Bench(
        torch.stack(visual), labels.names, encode_labels(text, labels.labels), classifier.bank, entries, lexicon,
        classifier.transfer, embed,
    )  # fmt: skip
    return bench, np.array(kept)


def print_wordings(bench: Bench, truth: np.ndarray, file: Path) -> None:
    """The shipped setting with and without the lexicon, in each wording and on average."""
    with open(file, encoding="utf-8", newline="") as lines:
        table = list(csv.reader(lines, delimiter="\t"))
    told = {row[0]: row for row in table[1:]}
    if missing := [label for label in bench.labels if label not in told]:
        raise SystemExit(f"{file} has no row for '{missing[0]}'")
    print(f"{'top-1 / top-5, mean per class':40}" + "".join(f"{name:>16}" for name in table[0]) + f"{'mean':>16}")
    worded = []
    for column in range(len(table[0])):
        names = tuple(told[label][column] for label in bench.labels)
        worded.append(replace(bench, labels=names, semantic=bench.embed([[name] for name in names])))
    for name, score in (
        ("no lexicon, class names alone", lambda one: one.plain().direct()),
        ("no lexicon", Bench.direct),
        ("default", lambda one: one.through(one.vocabulary())),
        ("entries of tested labels left out", lambda one: one.left_out().through(one.left_out().vocabulary())),
    ):
        found = np.array([shares(score(one), truth).mean(axis=1) for one in worded])
        print(f"{name:40}" + "".join(f"{_pair(values):>16}" for values in [*found, found.mean(axis=0)]), flush=True)


def main() -> None:
    """Score every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--seen-labels", type=Path)
    parser.add_argument("--cache-dir", type=Path, help="keep embeddings of videos and texts here")
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--wordings", type=Path, help="tab-separated: labels, then other wordings for them")
    arguments = parser.parse_args()
    bench, truth = open_bench(arguments)
    if arguments.wordings is not None:
        print_wordings(bench, truth, arguments.wordings)
        return
    without = len(bench.left_out().lexicon)
    print(
        f"{len(truth)} videos of {len(np.unique(truth))} classes, {len(bench.labels)} labels, "
        f"{len(bench.lexicon)} entries ({without} without those of the labels), {arguments.splits} splits"
    )
    print(f"{'top-1 / top-5, mean per class':50}{'grid':>5}{'middle':>13}{'nested':>13}{'chosen':>13}{'95%':>10}")
    for name, given, score, ships in rows_for(bench):
        grid = np.stack([shares(scores, truth) for scores in score(given)])
        means = grid.mean(axis=2)
        middle = np.median(means, axis=0)
        chosen = shares(given.through(given.vocabulary()), truth) if ships else None
        line = f"{name:50}{len(grid):>5}{_pair(middle):>13}{_pair(nested(grid, arguments.splits)):>13}"
        if chosen is not None:
            low, high = bootstrap(chosen[0])
            line += f"{_pair(chosen.mean(axis=1)):>13}{f'{low:.0%}..{high:.0%}':>10}"
        print(line, flush=True)


def _pair(values: np.ndarray) -> str:
    return f"{100 * values[0]:.1f} / {100 * values[1]:.1f}"


if __name__ == "__main__":
    main()
