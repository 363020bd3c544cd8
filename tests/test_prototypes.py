"""Banks: composition, merging, refusal, and the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zsar_cli.errors import OutputError, PrototypeError
from zsar_cli.prototypes import FORMAT, PrototypeBank, compose, compose_beside


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
    both, weights = compose_beside(own, added, names, semantic, 2, 0.1)
    gate = 0.4 / (1 + np.exp(-(1 - 0.75) / 0.05))  # the cosine of a class to itself is 1
    expected = alone.visual[0].numpy() + gate * added.visual[0].numpy()
    np.testing.assert_allclose(both.visual[0].numpy(), expected / np.linalg.norm(expected), atol=1e-5)
    torch.testing.assert_close(both.visual[1], alone.visual[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(weights[0, :3] * (1 + gate), own_weights[0])
    np.testing.assert_allclose(weights[0, 3:].numpy(), [gate / (1 + gate), 0], atol=1e-6)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2))
    assert weights[1, 3:].sum() < 1e-4


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
    assert replace(read, semantic=written.semantic, visual=written.visual) == written
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
    with pytest.raises(PrototypeError, match="not a readable safetensors file"):
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
