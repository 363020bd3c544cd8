"""Explanations: the kind of each label, its mixture, and what cannot be told apart."""

from __future__ import annotations

import pytest
import torch

from zsar_cli.transfer import explanation
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.compose import compose
from zsar_cli.transfer.explanation import NEAR, UNRELATED, explain

SEEN = ("pull ups", "sailing", "texting")
BANK = PrototypeBank(SEEN, torch.eye(4)[:3], torch.eye(3), "model", "text")


def at(cosine: float, index: int = 0) -> torch.Tensor:
    """A unit vector with this cosine to one seen class and none to the others."""
    row = torch.zeros(4)
    row[index], row[3] = cosine, (1 - cosine**2) ** 0.5
    return row


@pytest.mark.parametrize(
    ("label", "cosine", "kind"),
    [
        ("Pull_Ups", 0.3, "seen"),  # reads the same, whatever else its texts say
        ("chin-ups", 1.0, "seen"),  # means the same to the encoder
        ("doing pull-ups", NEAR + 0.01, "near"),
        ("push-ups", NEAR - 0.01, "composed"),
        ("dips", UNRELATED + 0.01, "composed"),
        ("reading", UNRELATED - 0.01, "unrelated"),
    ],
)
@pytest.mark.parametrize("top_k", [1, 3])
def test_the_kind_follows_the_nearest_seen_class(label: str, cosine: float, kind: str, top_k: int) -> None:
    composed, weights = compose(BANK, [label], at(cosine)[None], top_k=top_k, temperature=0.5)
    (found,) = explain(BANK, composed, weights).labels
    assert found.kind == kind


def test_the_nearest_seen_class_is_named_with_its_cosine_whatever_the_weights() -> None:
    names, semantic = ("chin-ups", "Sailing"), torch.stack([at(0.9), at(0.9)])
    composed = PrototypeBank(names, semantic, torch.eye(3)[:2], "model", "text")
    weights = torch.tensor([[0.2, 0.8, 0.0], [0.2, 0.8, 0.0]])
    near, seen = explain(BANK, composed, weights, top=1).labels
    assert near.components[0].seen == "sailing"
    assert (near.kind, near.nearest, near.cosine) == ("near", "pull ups", pytest.approx(0.9))
    assert (seen.kind, seen.nearest, seen.cosine) == ("seen", "sailing", 0.0)  # it reads the same
    assert explain(BANK, composed, weights).to_dict()["labels"][0].keys() == {
        "label", "kind", "nearest", "cosine", "components"
    }  # fmt: skip


def test_counts_and_dictionary_agree_with_the_labels() -> None:
    semantic = torch.stack([at(1.0), at(0.9, 1), at(0.9, 2), at(0.6), at(0.1)])
    composed, weights = compose(BANK, ["pull ups", "a", "b", "c", "d"], semantic, top_k=2, temperature=0.1)
    told = explain(BANK, composed, weights).to_dict()
    assert [label["kind"] for label in told["labels"]] == ["seen", "near", "near", "composed", "unrelated"]
    assert told["counts"] == {"seen": 1, "near": 2, "composed": 1, "unrelated": 1}
    assert told["unrelated"] == ["d"]


def test_components_are_weights_and_cosines_heaviest_first() -> None:
    semantic = torch.tensor([[0.6, 0.7, 0.1, 0.0]])
    composed, weights = compose(BANK, ["rowing"], semantic, top_k=2, temperature=0.1)
    (label,) = explain(BANK, composed, weights, top=3).labels
    unit = semantic[0] / semantic.norm()
    share = torch.softmax(unit[[1, 0]] / 0.1, dim=0)
    assert [part.seen for part in label.components] == ["sailing", "pull ups"]
    assert [part.weight for part in label.components] == pytest.approx(share.tolist(), abs=1e-4)
    assert [part.cosine for part in label.components] == pytest.approx([0.7, 0.6], abs=1e-4)


def test_labels_with_one_mixture_are_alike() -> None:
    semantic = torch.nn.functional.normalize(torch.tensor([[1.0, 0, 0, 1], [1.0, 0, 0, 1.1], [0, 1.0, 0, 0]]), dim=1)
    composed, weights = compose(BANK, ["first", "second", "third"], semantic, top_k=1, temperature=0.1)
    (pair,) = explain(BANK, composed, weights).alike
    assert (pair.first, pair.second, pair.cosine) == ("first", "second", 1.0)


def test_pairs_are_those_of_the_whole_matrix_however_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    visual = torch.randn(40, 3, generator=torch.Generator().manual_seed(3))
    visual = torch.nn.functional.normalize(visual, dim=1)
    names = tuple(f"label {index}" for index in range(40))
    composed = PrototypeBank(names, torch.ones(40, 4) / 2, visual, "model", "text", "composed")
    cosines = (visual.double() @ visual.double().T).tolist()
    pairs = {(names[i], names[j]): cosines[i][j] for i in range(40) for j in range(i + 1, 40) if cosines[i][j] > 0.9}
    monkeypatch.setattr(explanation, "ROWS", 7)
    found = explain(BANK, composed, torch.ones(40, 3) / 3).alike
    assert found is not None and len(pairs) > 20
    assert {(pair.first, pair.second): pair.cosine for pair in found} == pytest.approx(pairs, abs=1e-4)
    assert [pair.cosine for pair in found] == sorted((pair.cosine for pair in found), reverse=True)

    monkeypatch.setattr(explanation, "MOST_PAIRS", 10)
    assert explain(BANK, composed, torch.ones(40, 3) / 3).alike == found[:10]
    monkeypatch.setattr(explanation, "COMPARED", 39)
    told = explain(BANK, composed, torch.ones(40, 3) / 3).to_dict()
    assert told["alike"] is None and len(told["labels"]) == 40


def test_names_are_read_once_however_many_labels_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    composed, weights = compose(BANK, [f"label {i}" for i in range(50)], torch.eye(4).repeat(13, 1)[:50], 2, 0.1)
    count = 0

    def counted(name: str) -> str:
        nonlocal count
        count += 1
        return name

    monkeypatch.setattr(explanation, "readable", counted)
    explain(BANK, composed, weights)
    assert count == 50 + len(SEEN)
