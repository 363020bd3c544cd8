"""The training loop, the same for every source of clips, device and number of processes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zsar_cli.errors import UsageError, ZsarError
from zsar_cli.networks.rest import RestHead, RestModel
from zsar_cli.store.ahead import one_ahead
from zsar_cli.text.tokens import TextTokens
from zsar_cli.training.config import TrainConfig
from zsar_cli.training.plan import Planner
from zsar_cli.training.scoring import SAMPLE, Scorer, mean_per_class
from zsar_cli.training.sources import Source, evenly, only_classes
from zsar_cli.training.start import Networks, embed, initial_state
from zsar_cli.training.state import Compute, TrainState, schedule
from zsar_cli.training.step import Loaded, Stepper
from zsar_cli.training.team import Team
from zsar_cli.transfer.scoring import TransferSettings

__all__ = ["TrainResult", "split_classes", "train"]

Record = Mapping[str, float]
Classes = tuple[Source, TextTokens]


@dataclass(frozen=True)
class TrainResult:
    """What training returns.

    Args:
        state: after the last step; `averaged` has the weights of the selected one, in evaluation mode.
        step: the selected step.
    """

    state: TrainState
    step: int

    @property
    def model(self) -> RestModel:
        """Averaged weights."""
        return self.state.averaged.model

    @property
    def head(self) -> RestHead:
        """Averaged weights."""
        return self.state.averaged.head


def train(
    source: Source,
    texts: TextTokens,
    networks: Networks,
    config: TrainConfig,
    scoring: TransferSettings,
    report: Callable[[Record, TrainState], None] = lambda record, state: None,
    resume: dict[str, Any] | None = None,
    team: Team | None = None,
    compute: Compute | None = None,
) -> TrainResult:
    """Train. The same inputs give the same weights on one thread of a CPU.

    Args:
        source: the training clips; every class 0..S-1 has one.
        texts: of the same classes, at least one each.
        networks: what is trained, and where it starts.
        config: how.
        scoring: how the model will score (its scales are measured); used by validation.
        report: called after each step with its record: "step", "learning_rate", "loss", each objective, "accuracy",
            seconds of "waiting" for clips and of "computing", "left_out" where the step was, and now and then
            "validation": top-1 over the clips of held-out classes, mean per class, scored as the bundle will, with
            "best" 1.0 where it is better than all before. The place to show progress and to save the state.
        resume: such a saved state; the result equals that of an uninterrupted run.
        team: the processes to share the work with, each of which makes this same call; `config.batch` is that of one.
        compute: where and how; None is the CPU in float32.

    Raises:
        UsageError: a class without a clip or a text, or too few classes for what is asked.
        ZsarError: step after step has numbers that are not finite.
    """
    team, compute = team or Team(), compute or Compute()
    _check(source, texts, config)
    config = replace(config, batch=config.batch * team.count)
    with _seeded(config.seed, compute.device):
        (kept, kept_texts), held, networks = _split(source, texts, networks, config)
        state = initial_state(kept, kept_texts, networks, config, compute, team)
        if resume is not None:
            state.load_state_dict(resume)
        stepper = Stepper(kept, kept_texts, config, team, compute)
        rate = schedule(config)
        with contextlib.closing(_loaded(kept, kept_texts, stepper, state.step)) as coming:
            while state.step < config.steps:
                begun = time.perf_counter()
                loaded = next(coming)
                record = {"waiting": time.perf_counter() - begun}
                record |= _step(state, stepper, loaded, rate(state.step))
                record["computing"] = time.perf_counter() - begun - record["waiting"]
                if held and (state.step % config.evaluate_every == 0 or state.step == config.steps):
                    record["validation"] = _validate(state, (kept, kept_texts), held, scoring, team, compute)
                    record["best"] = float(state.keep_best(record["validation"]))
                report(record, state)
    if held:
        state.averaged.restore(state.best_weights)
    state.averaged.eval()
    return TrainResult(state, state.best_step if held else state.step)


def _loaded(source: Source, texts: TextTokens, stepper: Stepper, first: int) -> Generator[Loaded, None, None]:
    """What the steps from `first` on need; that of the next one is loaded while one is made."""
    planner = Planner(source.targets, texts.owner, stepper.config)
    own = range(stepper.rows[0].start, stepper.rows[-1].stop)
    coming: list[tuple[Any, Tensor]] = []

    def asked() -> Iterator[tuple[Tensor, Tensor]]:
        for plan in planner.plans(first):
            needed = plan.needed(own)
            coming.append((plan, needed))
            yield plan.clips[needed], plan.random[needed]

    def loaded() -> Iterator[Loaded]:
        for inputs in source.inputs(asked()):
            plan, needed = coming.pop(0)
            pinned = inputs.pin_memory() if stepper.compute.device.type == "cuda" else inputs
            yield Loaded(plan, needed, pinned)

    yield from one_ahead(loaded())


def _step(state: TrainState, stepper: Stepper, loaded: Loaded, rate: float) -> dict[str, float]:
    """One step; left out where a number is not finite. Says what it saw."""
    config, learner = stepper.config, state.learner
    statistics = learner.statistics()
    before = [one.clone() for one in statistics]
    found = stepper.gradients(state, loaded)
    stepper.team.average(statistics)
    state.scaler.unscale_(state.optimiser)
    norm = torch.nn.utils.clip_grad_norm_(learner.learned(), config.clip)
    names = list(found)
    numbers = torch.stack([*(found[name] for name in names), norm.float()]).tolist()
    state.step += 1
    finite = all(map(math.isfinite, numbers))
    if finite:
        for group in state.optimiser.param_groups:
            group["lr"] = config.learning_rate * group["share"] * rate
        state.scaler.step(state.optimiser)
        state.average(config.ema)
    else:
        for one, kept in zip(statistics, before, strict=True):
            one.copy_(kept)
    state.scaler.update()
    state.in_a_row = 0 if finite else state.in_a_row + 1
    state.left_out += not finite
    if state.in_a_row >= config.patience:
        raise ZsarError(
            f"training: {state.in_a_row} steps in a row up to step {state.step} have numbers that are not finite; "
            "lower the learning rate, or take --precision fp32"
        )
    record = {"step": state.step, "learning_rate": config.learning_rate * rate}
    if not finite:
        return {**record, "left_out": 1.0}
    return {**record, **dict(zip(names, numbers, strict=False))}


def _validate(
    state: TrainState, kept: Classes, held: Classes, scoring: TransferSettings, team: Team, compute: Compute
) -> float:
    """Mean per class top-1 on the held-out classes, among themselves."""
    learner = state.averaged
    training = learner.training
    learner.eval()
    sample = evenly(kept[0].targets, SAMPLE)
    v = embed(learner, kept[0], sample, team, compute)
    scorer = Scorer.of(learner.model, learner.head, v, kept[1], scoring)
    scores = scorer.scores(embed(learner, held[0], torch.arange(len(held[0].targets)), team, compute), held[1])
    learner.train(training)
    return mean_per_class(scores, held[0].targets)


@contextlib.contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Random numbers from a seed; behind it the caller's random state is what it was."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _split(
    source: Source, texts: TextTokens, networks: Networks, config: TrainConfig
) -> tuple[Classes, Classes | None, Networks]:
    """All classes and None, or the classes that train and those that validate, each renumbered from 0."""
    if not config.validation:
        return (source, texts), None, networks
    kept, held = split_classes(int(source.targets.max()) + 1, config)
    if networks.begun is not None:
        networks = replace(networks, begun=networks.begun.only(kept))
    return only_classes(source, texts, kept), only_classes(source, texts, held), networks


def split_classes(classes: int, config: TrainConfig) -> tuple[Tensor, Tensor]:
    """Which of the classes 0..classes-1 train and which validate, both sorted; the seed decides.

    Raises:
        UsageError: too few would be left to train on.
    """
    held = max(2, round(config.validation * classes)) if config.validation else 0
    if classes - held < 3:
        raise UsageError(f"train: holding {held} of {classes} classes out leaves too few; lower validation")
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(config.seed))
    return order[held:].sort()[0], order[:held].sort()[0]


def _check(source: Source, texts: TextTokens, config: TrainConfig) -> None:
    classes = int(source.targets.max()) + 1
    if classes < 3:
        raise UsageError(f"train: {classes} classes are too few to learn how classes relate; give 3 or more")
    clips = torch.bincount(source.targets, minlength=classes)
    described = torch.bincount(texts.owner, minlength=classes)
    for index in range(classes):
        if not clips[index] or not described[index]:
            raise UsageError(f"train: class {index} has {clips[index]} clips and {described[index]} texts; both need 1")
