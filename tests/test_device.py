"""What must hold on a device that this machine may lack: all of a step lies there, and bad numbers are left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from test_raw import STILL, Shades, networks
from test_training import CONFIG, SCORING, SHAPE, make_features, make_texts
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zsar_cli.errors import ZsarError
from zsar_cli.training.grids import ClipFeatures
from zsar_cli.training.loop import train
from zsar_cli.training.plan import Planner
from zsar_cli.training.start import Networks, initial_state
from zsar_cli.training.state import Compute
from zsar_cli.training.step import Loaded, Stepper
from zsar_cli.training.team import Team

META = torch.device("meta")
TRANSFERS = ("aten::_to_copy", "aten::copy_", "aten::_copy_from")


class Elsewhere(TorchDispatchMode):
    """Stands for a device: notes what mixes tensors of the CPU and of the device, and reads zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: list[str] = []
        self.there = self.reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        name = func._schema.name
        away = [one for one in tensors if one.device.type == "meta"]
        if away and name == "aten::_to_copy" and kwargs.get("device") == torch.device("cpu"):
            self.reads += 1
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        near = [one for one in tensors if one.device.type == "cpu" and one.ndim]
        if away and near and name not in TRANSFERS:
            self.mixed.append(name)
        self.there += bool(away)
        return func(*args, **kwargs)


@pytest.mark.parametrize("kind", ["grids", "raw"])
@pytest.mark.parametrize("parts", [1, 2])
def test_all_of_a_step_is_computed_on_the_device(kind: str, parts: int) -> None:
    source: Any = make_features() if kind == "grids" else Shades()
    made = Networks(SHAPE) if kind == "grids" else networks(STILL, False)
    config = replace(CONFIG, accumulation=parts)
    texts = make_texts()
    state = initial_state(source, texts, made, config, Compute(), Team())
    state.learner.to(META)
    stepper = Stepper(source, texts, config, Team(), Compute(META))
    plan = Planner(source.targets, texts.owner, config).plan(0)
    needed = plan.needed(range(config.batch))
    (inputs,) = source.inputs([(plan.clips[needed], plan.random[needed])])
    with Elsewhere() as seen:
        found = stepper.gradients(state, Loaded(plan, needed, inputs))
    assert seen.mixed == [] and seen.there > 500
    assert seen.reads == 1  # which pairs are the hardest
    assert {value.device.type for value in found.values()} == {"meta"}
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in state.learner.parameters())


class Poisoned(ClipFeatures):
    """Grids that are no numbers in some steps."""

    def inputs(self, asked: Any) -> Iterator[Tensor]:
        for step, grids in enumerate(super().inputs(asked), start=1):
            yield grids * float("nan") if step in BAD else grids


BAD = (2, 4, 5)


def test_a_step_with_bad_numbers_is_left_out_and_many_in_a_row_stop_training() -> None:
    features = make_features()
    poisoned = Poisoned(features.grids, features.targets)
    weights: list[Tensor] = []
    history: list[dict[str, float]] = []

    def report(record: Any, state: Any) -> None:
        history.append(dict(record))
        weights.append(state.learner.model.video_in.weight.detach().clone())

    result = train(poisoned, make_texts(), Networks(SHAPE), CONFIG, SCORING, report)
    assert [record["step"] for record in history] == [1, 2, 3, 4, 5, 6]
    assert [step for step, record in enumerate(history, start=1) if record.get("left_out")] == list(BAD)
    same = [torch.equal(*both) for both in pairwise(weights)]
    assert same == [True, False, True, True, False]
    assert result.state.left_out == 3 and all(value.isfinite().all() for value in result.model.parameters())
    with pytest.raises(ZsarError, match="2 steps in a row up to step 5 have numbers that are not finite; lower the"):
        train(poisoned, make_texts(), Networks(SHAPE), replace(CONFIG, patience=2), SCORING)


def test_half_precision_is_of_activations_alone() -> None:
    compute = Compute(torch.device("cpu"), torch.bfloat16)
    losses = []
    for how in (Compute(), compute):
        history: list[dict[str, float]] = []
        keep = lambda record, state, history=history: history.append(dict(record))  # noqa: E731
        result = train(make_features(), make_texts(), Networks(SHAPE), CONFIG, SCORING, keep, compute=how)
        assert {value.dtype for value in result.model.parameters()} == {torch.float32}
        losses.append([record["loss"] for record in history])
    assert losses[1] == pytest.approx(losses[0], rel=0.03) and losses[1] != losses[0]


def test_networks_are_compiled_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []

    def compiled(network: Any) -> Any:
        given.append(network)
        return network

    monkeypatch.setattr(torch, "compile", compiled)
    for asked in (False, True):
        train(make_features(), make_texts(), Networks(SHAPE), replace(CONFIG, steps=2, compile=asked), SCORING)
        assert len(given) == asked
