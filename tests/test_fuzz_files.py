"""Damaged model descriptions, banks, configurations and indices: each is read, or refused by an error of the tree."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer
import yaml
from test_prototypes import bank

from zsar_cli.cli.config import read_yaml as read_options
from zsar_cli.errors import LabelError, ModelError, PrototypeError, UsageError
from zsar_cli.networks import backbones
from zsar_cli.networks.rest import RestConfig
from zsar_cli.text.lexicon import read_entries
from zsar_cli.training.settings import RunConfig, read_run_config
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.weights import bundle
from zsar_cli.weights.added import ModelFolder
from zsar_cli.weights.bundle import read_bundle, write_bundle
from zsar_cli.weights.checkpoint import read_config, weight_files

MUTATIONS = 500
ODD = (
    None, True, -1, 0, 10**7, 10**25, 1.5, float("nan"), float("inf"), "", "x", "\0", "../..", "-" * 200, [], {}, [[]],
    [1, 2], {"a": 1}, {1: [None]}, "2001-01-01", "1e999",
)  # fmt: skip


def changed_bytes(content: bytes, chance: random.Random) -> bytes:
    """With a few bytes flipped, taken out, doubled, or with something odd put in."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        length = chance.choice((1, 1, 4, 40))
        way = chance.randrange(5)
        if way == 0 and place < len(data):
            data[place] = chance.randrange(256)
        elif way == 1:
            del data[place : place + length]
        elif way == 2:
            data[place:place] = data[place : place + length]
        elif way == 3:
            data[place:place] = chance.choice(
                (b"[", b"{", b"*a", b"&a ", b"!!set ", b": ", b"\n", b"- ", b"\xff", b"%")
            )
        else:
            data[place:place] = chance.choice((b"[" * 5000, b"{a: " * 5000, b"9" * 5000, b"? ", b"<<: ", b"\t", b"'"))
    return bytes(data)


def changed_value(value: object, chance: random.Random) -> object:
    """A tree with one of its values taken out, renamed, or made an odd one."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        rest = {name: part for name, part in value.items() if name != key}
        way = chance.random()
        if way < 0.1:
            return rest
        if way < 0.2:
            return {**rest, chance.choice(("x", 1, None)): value[key]}
        return {**value, key: changed_value(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.5:
        place = chance.randrange(len(value))
        return [*value[:place], changed_value(value[place], chance), *value[place + 1 :]]
    return chance.choice(ODD)


def mutations(content: object, dump: Callable[[object], str]) -> list[bytes]:
    """Half of the text, half of the values."""
    chance = random.Random(1)
    text = dump(content).encode()
    half = MUTATIONS // 2
    return [changed_bytes(text, chance) for _ in range(half)] + [
        dump(changed_value(content, chance)).encode("utf-8", "replace") for _ in range(half)
    ]


def outcomes(read: Callable[[bytes], object], contents: list[bytes], *errors: type[Exception]) -> int:
    """How many are refused; anything but the given errors fails the test."""
    refused = 0
    for number, content in enumerate(contents):
        try:
            read(content)
        except errors as error:
            refused += 1
            assert str(error) or isinstance(error, typer.BadParameter)
        except Exception as error:
            raise AssertionError(f"mutation {number} {content[:300]!r}") from error
    assert refused > len(contents) // 10
    return refused


def tiny(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle of a few numbers whose backbone is never computed with."""
    from zsar_cli.models import rest
    from zsar_cli.video.types import Geometry, Sampling

    class Tokens:
        fingerprint = "t-1"
        languages = ()

    def stand_in(config: backbones.BackboneConfig, *_: object) -> backbones.Backbone:
        return backbones.Backbone(replace(config, posture=False), torch.nn.Linear(1, 1), "stand-in")

    monkeypatch.setattr(rest, "minilm", Tokens)
    monkeypatch.setattr(rest, "open_backbone", stand_in)
    monkeypatch.setattr(rest, "network_of", lambda config: torch.nn.Linear(1, 1))
    model = rest.RestModel(RestConfig(features=1280, text_features=4, space=4, width=4, depth=1, heads=1))
    config = backbones.BackboneConfig("efficientnet-lite0", size=64, cells=2)
    rest.write_rest(
        folder, name="tiny", model=model, backbone=backbones.Backbone(config, torch.nn.Linear(1, 1), "stand-in"),
        seen=PrototypeBank(("a", "b"), torch.eye(4)[:2], torch.eye(4)[:2], "", "t-1"),
        clip=rest.ClipSettings(Sampling(frames=3), Geometry(64, 64)), transfer=TransferSettings(),
        provenance={"data": {"name": "none"}},
    )  # fmt: skip
    return folder


def test_model_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zsar_cli.models.rest import open_rest

    folder = tiny(tmp_path / "model", monkeypatch)
    cpu = torch.device("cpu")
    manifest = folder / "model.yaml"
    content = yaml.safe_load(manifest.read_text())
    open_rest("tiny", folder, cpu, torch.float32)

    def read(text: bytes) -> None:
        manifest.write_bytes(text)
        model = open_rest("tiny", folder, cpu, torch.float32)
        assert model.bank().model == model.fingerprint

    outcomes(read, mutations(content, lambda value: yaml.safe_dump(value, sort_keys=False)), ModelError)

    def sections(value: object) -> str:  # more often in the depths, where the values are
        return yaml.safe_dump({**content, "settings": value}, sort_keys=False)

    chance = random.Random(2)
    deep = [sections(changed_value(content["settings"], chance)).encode() for _ in range(MUTATIONS)]
    outcomes(read, deep, ModelError)


def test_banks(tmp_path: Path) -> None:
    file = tmp_path / "bank.safetensors"
    bank().write(file)
    whole = file.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]

    def assembled(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + data

    chance = random.Random(3)
    contents = [changed_bytes(whole, chance) for _ in range(MUTATIONS // 2)]
    contents += [assembled(json.dumps(changed_value(header, chance)).encode()) for _ in range(MUTATIONS // 2)]
    labels = [{"labels": json.dumps(odd)} for odd in ODD if odd != {1: [None]}] + [{"labels": "[" * 10**5}]
    contents += [
        assembled(json.dumps({**header, "__metadata__": {**header["__metadata__"], **odd}}).encode()) for odd in labels
    ]

    def read(content: bytes) -> None:
        file.write_bytes(content)
        found = PrototypeBank.read(file)
        assert len(found) == len(found.visual) and found.visual.dtype == found.semantic.dtype == torch.float32

    outcomes(read, contents, PrototypeError)


def test_a_damaged_weights_file_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(
        tmp_path / "model", kind="rest", name="x", weights={"w": torch.ones(3)}, bank=bank(), settings={}, provenance={}
    )
    monkeypatch.setattr(bundle, "known_sha256", lambda path: "0" * 64)  # whoever damages it mends the check sum
    manifest = tmp_path / "model" / "model.yaml"
    content = yaml.safe_load(manifest.read_text())
    manifest.write_text(yaml.safe_dump({**content, "files": dict.fromkeys(content["files"], "0" * 64)}))
    file = tmp_path / "model" / "weights.safetensors"
    whole, chance = file.read_bytes(), random.Random(4)

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_bundle(tmp_path / "model", "rest", "t-1")

    outcomes(read, [changed_bytes(whole, chance) for _ in range(MUTATIONS)], ModelError)


def test_training_configurations(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_run_config(read_options(file), str(file))

    content = read_run_config({"backbone": {"posture": True}, "view": "letterbox"}, "x").to_dict()
    outcomes(read, mutations(content, lambda value: yaml.safe_dump(value)), UsageError, typer.BadParameter)
    assert RunConfig().shape.parameters < 10**9


def test_lexicons(tmp_path: Path) -> None:
    file = tmp_path / "lexicon.yaml"

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_entries(file)

    entries = [
        {"action": f"action {index}", "also": ["x" * index, f"b{index}"], "motion": "m"} for index in range(1, 9)
    ]
    outcomes(read, mutations(entries, lambda value: yaml.safe_dump(value)), LabelError)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "model.json"])
def test_json_of_models(tmp_path: Path, name: str) -> None:
    names = {"layer.0": "model-00001-of-00002.safetensors", "layer.1": "model-00002-of-00002.safetensors"}
    contents: dict[str, object] = {
        "config.json": {"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": {"image_size": 32}},
        "model.safetensors.index.json": {"metadata": {"total_size": 1}, "weight_map": names},
        "model.json": {"format": "zsar.model/1", "sha256": "0" * 64, "labels": ["a", "b"]},
    }
    folder = tmp_path / "mine"
    folder.mkdir()
    for file in names.values():
        (folder / file).write_bytes(b"")
    (folder / "model.tflite").write_bytes(b"x")

    def read(content: bytes) -> object:
        (folder / name).write_bytes(content)
        if name == "config.json":
            return read_config(folder)
        return weight_files(folder) if name.endswith("index.json") else ModelFolder(tmp_path).find("mine")

    outcomes(read, mutations(contents[name], json.dumps), ModelError)


@pytest.mark.parametrize(
    "content",
    [
        "[]", "3", "null", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": null, "b": "c"}}', '{"weight_map": {"a": "../../etc/passwd"}}', "[" * 10**5,
        '{"weight_map": {"a": "/etc/passwd"}}', '{"weight_map": {"a": "."}}', '{"weight_map": {"a": ""}}',
    ],
)  # fmt: skip
def test_an_index_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json: (is not|lists)|the weight file"):
        weight_files(tmp_path)
