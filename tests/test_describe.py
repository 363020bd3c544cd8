"""Two results with equal descriptions were made alike: whatever changes a result changes its description."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from fake_model import FakeModel

from zsar_cli import LabelSet, ZeroShotClassifier
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Sampling

LABELS = LabelSet.from_names(["jumping", "sleeping"])
BASE: dict[str, Any] = {
    "transfer": TransferSettings(top_k=2),
    "embedding": EmbedSettings(),
    "scale": 1.0,
    "added": None,
}


def described(scale: float, added: float | None, fingerprint: str = "fake-1", **settings: Any) -> dict[str, Any]:
    model = FakeModel(fingerprint)
    bank = model.bank()
    turned = replace(bank, visual=torch.nn.functional.normalize(bank.visual + torch.eye(16)[:4] * (scale - 1), dim=1))
    more = None if added is None else replace(bank.select(["left"]), visual=turned.visual[:1] * added)
    return ZeroShotClassifier(model, turned, added=more, **settings).describe(LABELS).to_dict()


def changes() -> dict[str, dict[str, Any]]:
    """One change of everything that decides a result."""
    found: dict[str, dict[str, Any]] = {}
    for field in fields(TransferSettings):
        own = getattr(BASE["transfer"], field.name)
        other = "max" if field.name == "aggregate" else own + 1
        found[field.name] = {"transfer": replace(BASE["transfer"], **{field.name: other})}
    others = {
        "windows": 5,
        "frames": 7,
        "window": 2.0,
        "stride": 1.0,
        "frame_step": 0.1,
        "exact": False,
        "frame_rate": 9.0,
    }
    assert set(others) == {field.name for field in fields(Sampling)}
    for name, value in others.items():
        sampling = {name: value, **({"window": 2.0, "windows": 1} if name == "stride" else {})}
        found[f"sampling {name}"] = {"embedding": EmbedSettings(sampling)}
    found["decoder"] = {"embedding": EmbedSettings(decoder="decord")}
    found["bank"] = {"scale": 2.0}
    found["added"] = {"added": 1.0}
    found["another added"] = {"added": -1.0}
    found["model"] = {"fingerprint": "fake-2"}
    return found


CHANGES = changes()


def test_every_change_gives_a_description_of_its_own() -> None:
    everything = {name: described(**{**BASE, **change}) for name, change in CHANGES.items()}
    everything["nothing"] = described(**BASE)
    for (first, one), (second, other) in itertools.combinations(everything.items(), 2):
        assert one != other, f"{first} and {second} cannot be told apart"


def test_equal_settings_give_equal_descriptions() -> None:
    for change in CHANGES.values():
        assert described(**{**BASE, **change}) == described(**{**BASE, **change})


@pytest.mark.parametrize("change", ["workers", "timeout", "batch_size", "hashes"])
def test_what_changes_no_result_changes_no_description(change: str) -> None:
    value = "full" if change == "hashes" else 3
    assert described(**{**BASE, "embedding": EmbedSettings(**{change: value})}) == described(**BASE)


def test_labels_and_the_weights_of_several_models_are_described() -> None:
    def pair(weights: tuple[float, float], labels: LabelSet = LABELS) -> dict[str, Any]:
        models = [FakeModel("one"), FakeModel("two")]
        models[1].name = "other"
        return (
            Ensemble([ZeroShotClassifier(model, model.bank()) for model in models], weights).describe(labels).to_dict()
        )

    assert pair((1, 2)) == pair((2, 4)) != pair((2, 1))
    assert pair((1, 2)) != pair((1, 2), LabelSet.from_names(["jumping"]))
