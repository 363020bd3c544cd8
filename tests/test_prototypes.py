"""Banks: composition, merging, refusal, and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zsar_cli.errors import OutputError, PrototypeError
from zsar_cli.transfer.bank import FORMAT, PrototypeBank
from zsar_cli.transfer.compose import compose, compose_beside
from zsar_cli.transfer.scoring import TransferSettings, score_labels


def bank(labels: tuple[str, ...] = ("canoe", "kite", "drum"), seed: int = 0, **fields: str) -> PrototypeBank:
    generator = torch.Generator().manual_seed(seed)
    semantic, visual = (torch.randn(len(labels), size, generator=generator) for size in (6, 4))
    unit = torch.nn.functional.normalize
    return PrototypeBank(labels, unit(semantic), unit(visual), **{"model": "m-1", "text_encoder": "t-1", **fields})


def test_composed_prototypes_are_the_weighted_sum_of_seen_ones() -> None:
    seen = bank()
    semantic = torch.nn.functional.normalize(torch.ones(1, 6))
    composed, weights = compose(seen, ["paddling"], semantic, top_k=2, temperature=0.3)
    expected = sum(float(weights[0, index]) * seen.visual[index] for index in range(3))
    torch.testing.assert_close(composed.visual[0], expected / expected.norm())
    assert composed.kind == "composed"
    assert (weights > 0).sum() == 2


def test_a_label_that_reads_like_a_seen_class_is_its_prototype() -> None:
    seen = bank(("hang gliding", "kite", "drum"))
    anything = torch.nn.functional.normalize(torch.ones(2, 6))
    composed, weights = compose(seen, ["HangGliding", "Kite"], anything, top_k=3, temperature=0.3)
    assert weights.tolist() == [[1, 0, 0], [0, 1, 0]]
    torch.testing.assert_close(composed.visual, seen.visual[:2])


def test_a_bank_of_other_widths_is_refused_by_name() -> None:
    own, narrow = bank(), replace(bank(), semantic=bank().semantic[:, :-1])
    few = replace(bank(("flute", "oboe")), visual=bank(("flute", "oboe")).visual[:, 1:])
    semantic = torch.nn.functional.normalize(torch.ones(1, 6))
    with pytest.raises(PrototypeError, match="has 5 semantic columns, the model's embeddings have 6; make it anew"):
        compose(narrow, ["x"], semantic, 2, 0.1)
    composed, weights = compose(own, ["x"], semantic, 2, 0.1)
    with pytest.raises(PrototypeError, match="has 3 visual columns, the model's embeddings have 4"):
        compose_beside(composed, weights, few, 2, 0.1)
    with pytest.raises(PrototypeError, match="has 4 visual columns, the model's embeddings have 9"):
        score_labels(torch.ones(1, 9), TransferSettings(), own, composed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual": torch.ones(3, 4, dtype=torch.int64)}, "numbers of the type torch.int64; float32 is expected"),
        ({"visual": torch.ones(3, 0)}, r"it holds \[3, 0\] numbers"),
        ({"labels": '{"a": 1}'}, "its labels are no list of names"),
        ({"labels": "[1, 2, 3]"}, "its labels are no list of names"),
        ({"labels": "[]"}, "its labels are no list of names"),
        ({"labels": "[" * 10**5}, "lacks a part of a prototype file"),
        ({"kind": "guessed"}, "has the kind 'guessed'; allowed: seen, composed, class means"),
    ],
)
def test_a_file_with_parts_of_another_type_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    tensors = {"semantic": bank().semantic, "visual": bank().visual}
    texts = {"format": FORMAT, "kind": "seen", "labels": '["a", "b", "c"]', "model": "m", "text_encoder": "t"}
    for name, value in change.items():
        (tensors if isinstance(value, torch.Tensor) else texts)[name] = value  # type: ignore[assignment,index]
    save_file(tensors, tmp_path / "bank.safetensors", texts)
    with pytest.raises(PrototypeError, match=message):
        PrototypeBank.read(tmp_path / "bank.safetensors")


def test_other_floating_numbers_are_read_as_float32(tmp_path: Path) -> None:
    replace(bank(), visual=bank().visual.double(), semantic=bank().semantic.half()).write(tmp_path / "bank.safetensors")
    read = PrototypeBank.read(tmp_path / "bank.safetensors")
    assert read.visual.dtype == read.semantic.dtype == torch.float32


def test_banks_stand_beside_each_other() -> None:
    own, other = bank(), bank(("kite", "flute"), seed=9)
    both = own.beside(other)
    assert both.labels == ("canoe", "kite", "drum", "kite (added)", "flute")
    torch.testing.assert_close(both.visual[3:], other.visual)
    torch.testing.assert_close(both.semantic[:3], own.semantic)


def test_an_added_bank_speaks_for_what_it_knows_and_no_more() -> None:
    own, added = bank(), bank(("flute", "oboe"), seed=9)
    far = torch.nn.functional.normalize(-added.semantic.sum(dim=0, keepdim=True), dim=1)
    semantic = torch.cat([added.semantic[:1], far])
    names = ["playing the flute", "something else"]
    alone, own_weights = compose(own, names, semantic, 2, 0.1)
    both, weights = compose_beside(alone, own_weights, added, 2, 0.1)
    gate = 0.4 / (1 + np.exp(-(1 - 0.75) / 0.05))  # the cosine of a class to itself is 1
    expected = alone.visual[0].numpy() + gate * added.visual[0].numpy()
    np.testing.assert_allclose(both.visual[0].numpy(), expected / np.linalg.norm(expected), atol=1e-5)
    torch.testing.assert_close(both.visual[1], alone.visual[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(weights[0, :3] * (1 + gate), own_weights[0])
    np.testing.assert_allclose(weights[0, 3:].numpy(), [gate / (1 + gate), 0], atol=1e-6)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert weights[1, 3:].sum() < 1e-4


def test_phrases_are_checked_selected_and_written(tmp_path: Path) -> None:
    unit = torch.nn.functional.normalize
    phrases = unit(torch.randn(3, 2, 6, generator=torch.Generator().manual_seed(5)), dim=2)
    told = replace(bank(), phrases=phrases)
    chosen = told.select(["drum", "canoe"])
    assert chosen.phrases is not None and torch.equal(chosen.phrases, phrases[[2, 0]])
    told.write(tmp_path / "bank.safetensors")
    read = PrototypeBank.read(tmp_path / "bank.safetensors")
    assert read.phrases is not None and torch.equal(read.phrases, phrases)
    assert told.beside(bank(("flute",))).phrases is None
    assert compose(told, ["a"], unit(torch.ones(1, 6)), 2, 0.1)[0].phrases is None
    with pytest.raises(PrototypeError, match=r"needs phrases \[3, K, 6\], got \[3, 2, 5\]"):
        replace(told, phrases=phrases[:, :, :5])
    with pytest.raises(PrototypeError, match="phrases that are not finite"):
        replace(told, phrases=phrases * float("inf"))


def test_select_keeps_the_given_order_and_names_what_is_missing() -> None:
    chosen = bank().select(["drum", "canoe"])
    torch.testing.assert_close(chosen.visual, bank().visual[[2, 0]])
    with pytest.raises(PrototypeError, match=r"holds no class 'oboe'; it holds 3 others"):
        bank().select(["oboe"])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": "m-2"}, "the other bank was made by the model m-2, but this is m-1"),
        ({"text_encoder": "t-2"}, "the other bank was made with the text encoder t-2, but this is t-1"),
    ],
)
def test_a_bank_of_another_model_is_refused_by_name(fields: dict[str, str], message: str) -> None:
    with pytest.raises(PrototypeError, match=message):
        bank().beside(bank(("flute",), **fields))


def test_file_round_trip_is_exact(tmp_path: Path) -> None:
    written = bank(("café", "日本", "a, b"), kind="class means")
    written.write(tmp_path / "bank.safetensors")
    read = PrototypeBank.read(tmp_path / "bank.safetensors")
    for name in ("labels", "model", "text_encoder", "kind", "phrases"):
        assert getattr(read, name) == getattr(written, name)
    assert torch.equal(read.semantic, written.semantic)
    assert torch.equal(read.visual, written.visual)
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]
    (tmp_path / "any file").touch()
    assert (tmp_path / "bank.safetensors").stat().st_mode == (tmp_path / "any file").stat().st_mode


def test_an_existing_file_is_kept_unless_told(tmp_path: Path) -> None:
    target = tmp_path / "bank.safetensors"
    bank().write(target)
    before = target.read_bytes()
    with pytest.raises(OutputError, match=r"bank.safetensors exists; --overwrite replaces it"):
        bank(seed=3).write(target)
    assert target.read_bytes() == before
    bank(seed=3).write(target, overwrite=True)
    assert target.read_bytes() != before


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*nowhere"):
        bank().write(tmp_path / "nowhere" / "bank.safetensors")


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "bank.safetensors"
    with pytest.raises(PrototypeError, match="no such prototype file"):
        PrototypeBank.read(target)
    bank().write(target)
    whole = target.read_bytes()
    target.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PrototypeError, match="is no prototype file, or a damaged one"):
        PrototypeBank.read(target)
    target.write_bytes(whole)
    save_file(load_file(target), target, {"format": "zsar.prototypes/99"})
    with pytest.raises(PrototypeError, match=f"has the format 'zsar.prototypes/99'; this version reads '{FORMAT}'"):
        PrototypeBank.read(target)
    save_file(load_file(target), target, {"format": FORMAT, "labels": "[]"})
    with pytest.raises(PrototypeError, match=r"bank.safetensors"):
        PrototypeBank.read(target)


def test_shapes_names_and_numbers_are_checked() -> None:
    whole = bank()
    with pytest.raises(PrototypeError, match=r"3 classes needs visual rows \[3, n\], got \[2, 4\]"):
        replace(whole, visual=whole.visual[:2])
    with pytest.raises(PrototypeError, match="names the class 'kite' twice"):
        replace(whole, labels=("kite", "kite", "drum"))
    with pytest.raises(PrototypeError, match="not finite"):
        replace(whole, semantic=whole.semantic * float("nan"))
