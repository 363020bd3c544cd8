"""The action lexicon: what is packaged, and what is refused."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import zsar_cli
from zsar_cli.errors import LabelError
from zsar_cli.text.lexicon import Entry, Lexicon, packaged_lexicon, read_entries
from zsar_cli.text.minilm import minilm

FOLDER = Path(zsar_cli.__file__).parent / "lexicon"
CLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@pytest.fixture(scope="module")
def raw() -> list[dict[str, Any]]:
    """The packaged entries, read by YAML alone and not by the code under test."""
    files = sorted(FOLDER.glob("*.yaml"))
    assert len(files) == 5
    return [entry for file in files for entry in yaml.load(file.read_text(encoding="utf-8"), Loader=CLoader)]


class LengthEncoder:
    """Texts to unit vectors by their length: easily computed by hand."""

    fingerprint = "length"

    def encode(self, texts: list[str]) -> torch.Tensor:
        return torch.nn.functional.normalize(torch.tensor([[len(text), 1.0] for text in texts]), dim=1)


def test_the_packaged_lexicon_is_broad_and_every_entry_is_complete(raw: list[dict[str, Any]]) -> None:
    assert len(raw) >= 1500
    for entry in raw:
        assert list(entry) == ["action", "also", "objects", "places", "clothing", "motion"]
        assert entry["action"].strip() and len(entry["motion"].split()) >= 5, entry["action"]
        for key in ("also", "objects", "places", "clothing"):
            assert all(isinstance(text, str) and text.strip() for text in entry[key]), entry["action"]


def test_no_name_is_used_twice_in_the_whole_lexicon(raw: list[dict[str, Any]]) -> None:
    names = Counter(name.casefold() for entry in raw for name in [entry["action"], *entry["also"]])
    assert [name for name, count in names.items() if count > 1] == []


def test_the_embedded_file_is_what_its_sources_give(raw: list[dict[str, Any]]) -> None:
    script = Path(__file__).parents[1] / "examples" / "maintenance" / "lexicon_semantic.py"
    spec = importlib.util.spec_from_file_location("lexicon_semantic", script)
    assert spec is not None and spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    entries, lexicon = source.packaged_entries(), packaged_lexicon()
    assert [entry.action for entry in entries] == [entry["action"] for entry in raw]
    assert list(lexicon.names) == [entry["action"] for entry in raw]
    some = entries[::60]
    again = Lexicon.of(some, minilm())
    torch.testing.assert_close(lexicon.semantic[::60], again.semantic, atol=1e-3, rtol=0)
    assert again.text_encoder == lexicon.text_encoder
    torch.testing.assert_close(lexicon.semantic.norm(dim=1), torch.ones(len(lexicon)))

    class Nothing:
        fingerprint = lexicon.text_encoder

        def encode(self, texts: list[str]) -> torch.Tensor:
            return torch.ones(len(texts), 1)

    assert Lexicon.of(entries, Nothing()).digest == lexicon.digest, "run examples/maintenance/lexicon_semantic.py"


def test_reading_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("- {action: KiteJumping, also: big air}\n- {action: yes, motion: nods  twice, objects: [head]}\n")
    assert read_entries(file) == (
        Entry("kite jumping", ("big air",)),
        Entry("yes", objects=("head",), motion="nods twice"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a lexicon is a list of entries such as '- {action: juggling"),
        ("action: a", "a lexicon is a list of entries"),
        ("- juggling", "entry 1: 'juggling' is no mapping; allowed keys: action, also, objects"),
        ("- {also: [a]}", "entry 1: needs the key 'action'"),
        ("- {action: [a]}", "entry 1 .*: needs the key 'action'"),
        ("- {action: a}\n- {action: b, tools: [c]}", r"entry 2 \(b\): unknown key 'tools'; allowed: action, also, obj"),
        ("- {action: a, places: {b: c}}", r"entry 1 \(a\): 'places' must be a list of texts"),
        ("- {action: a, also: [[b]]}", r"entry 1 \(a\): 'also' must be a list of texts"),
        ("- {action: a, motion: [b]}", r"entry 1 \(a\): 'motion' must be one text"),
        ("- {action: '...'}", "entry 1 .*: '...' is not a label: a label needs a letter or a digit"),
        ("- {action: a}\n- {action: b, also: [A]}", r"entry 2 \(b\): 'a' is a name of entry 1 too; keep one"),
        ("- {action: a", "is not a YAML file: .*line"),
    ],
)
def test_a_malformed_file_is_refused_by_file_entry_and_what_is_allowed(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(LabelError, match=rf"mine\.yaml: {message}"):
        read_entries(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match=r"none\.yaml: cannot be read: No such file"):
        read_entries(tmp_path / "none.yaml")


def test_an_entry_is_the_mean_of_its_names() -> None:
    encoder = LengthEncoder()
    own = Lexicon.of([Entry("ab"), Entry("swim", ("float", "crawl on"))], encoder)
    expected = torch.nn.functional.normalize(encoder.encode(["swim", "float", "crawl on"]).sum(dim=0), dim=0)
    torch.testing.assert_close(own.semantic[1], expected)
    assert own.digest == Lexicon.of([Entry("ab"), Entry("swim", ("float", "crawl on"))], encoder).digest
    assert own.digest != Lexicon.of([Entry("ab"), Entry("swim", ("float",))], encoder).digest
