"""The list of models, how names are found, and the page that is made from the list."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.weights.catalogue import ENTRIES, FROM_HUB, hub_source, locate

ROOT = Path(__file__).resolve().parents[1]


def test_the_names_that_were_promised_are_there() -> None:
    promised = "builtin clip-vit-b32 clip-vit-b16 clip-vit-l14 siglip2-base siglip2-so400m xclip-base-p16-zero-shot "
    promised += "videomae-base-kinetics timesformer-k400 timesformer-k600 vivit-k400"
    assert set(promised.split()) <= set(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_entries_say_only_what_is_known(entry: object) -> None:
    from zsar_cli.weights.catalogue import Entry

    assert isinstance(entry, Entry)
    assert re.fullmatch(r"[a-z0-9-]+", entry.name)
    assert entry.licence is None or entry.licence.strip()
    assert all(0 < figure.percent < 100 and figure.source for figure in entry.reported)
    if entry.kind in FROM_HUB:
        assert hub_source(entry.name) == (entry.source, entry.revision)
        assert not entry.measured_here


def test_listing_imports_nothing_heavy() -> None:
    code = "import sys, zsar_cli.weights.catalogue, zsar_cli.weights.hub, zsar_cli.cli.models as m; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "zsar_cli.cli.models" in loaded
    assert {"torch", "transformers", "huggingface_hub", "numpy"} & set(loaded) == set()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip-vit-b61", "did you mean clip-vit-b16?"),
        ("siglip2", "did you mean siglip2-base or siglip2-so400m or siglip2-b32?"),
        ("zzz", "known names: builtin, "),
        ("a/b/c", r"no such name, folder, .*or hub id \(org/name\)"),
    ],
)
def test_a_wrong_name_gets_a_hint(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        locate(name)


def test_a_folder_comes_before_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="zsar models pull nobody/nothing-of-this-name"):
        locate("nobody/nothing-of-this-name")
    (tmp_path / "nobody" / "nothing-of-this-name").mkdir(parents=True)
    assert locate("nobody/nothing-of-this-name").kind == "folder"


def test_hub_ids_may_name_a_revision() -> None:
    assert hub_source("org/name@refs/pr/3") == ("org/name", "refs/pr/3")
    assert hub_source("org/name") == ("org/name", None)


def test_the_weights_page_is_up_to_date() -> None:
    path = ROOT / "examples" / "maintenance" / "weights_table.py"
    spec = importlib.util.spec_from_file_location("weights_table", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "weights.md").read_text(encoding="utf-8")
    assert page == module.renewed(page), "run: python examples/maintenance/weights_table.py"
    assert all(f"| `{name}` |" in page for name in ENTRIES)


def test_without_open_clip_the_pip_line_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from zsar_cli.errors import MissingExtraError
    from zsar_cli.models.open import load_model

    (tmp_path / "open_clip_config.json").write_text('{"model_cfg": {"vision_cfg": {}, "text_cfg": {}}}')
    with pytest.raises(ModelError, match="no weights beside it"):
        load_model(str(tmp_path), torch.device("cpu"), torch.float32)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r"pip install open-clip-torch \(the extra 'openclip'\)"):
        load_model(str(tmp_path), torch.device("cpu"), torch.float32)
