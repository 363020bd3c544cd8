"""Sentence encoders by name, on small random weights: against sentence-transformers, from a hub, and refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fake_hub
import pytest
import torch
from cli_runner import Runner
from fake_hub import Repository
from safetensors.torch import load_file, save_file
from sentence_folders import NAMES, OUT, WIDTH, write_modules, write_sentences

import zsar_cli
from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.text.lexicon import background_actions
from zsar_cli.text.sentences import Centred, SentenceEncoder, open_sentences
from zsar_cli.weights.added import ModelFolder
from zsar_cli.weights.catalogue import locate_text
from zsar_cli.weights.text_entries import TEXT_ENTRIES, text_entry

TEXTS = ("riding a bike", "Fahrrad fahren", "骑自行车", "ركوب الدراجة", "", "a long text " * 40, "🏄")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentences(tmp_path_factory.mktemp("encoders") / "mine")


def used(folder: Path) -> Centred:
    """As classifiers relate names by it."""
    return Centred(SentenceEncoder(folder))


def published(folder: Path, **how: Any) -> torch.Tensor:
    """What sentence-transformers makes of the texts."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    rows: torch.Tensor = model.encode(list(TEXTS), convert_to_tensor=True, normalize_embeddings=True, **how)
    return rows


@pytest.mark.parametrize(("dense", "architecture"), [(False, "xlm-roberta"), (True, "bert")])
def test_it_gives_the_vectors_of_sentence_transformers(tmp_path: Path, dense: bool, architecture: str) -> None:
    folder = write_sentences(tmp_path / "mine", dense, architecture)
    encoder = SentenceEncoder(folder)
    rows = encoder.encode(TEXTS)
    assert rows.shape == (len(TEXTS), OUT if dense else WIDTH) and rows.dtype == torch.float32
    torch.testing.assert_close(rows, published(folder), atol=1e-5, rtol=0)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(TEXTS)))
    assert float((rows @ rows.T).fill_diagonal_(0).max()) < 1 - 1e-3, "the random weights tell the texts apart"
    assert encoder.fingerprint.startswith(f"{architecture}-") and encoder.languages == ()
    assert not rows.is_inference()


def test_a_prompt_is_put_before_each_text(tmp_path: Path, folder: Path) -> None:
    plain, asked = SentenceEncoder(folder), SentenceEncoder(folder, "query: ")
    torch.testing.assert_close(asked.encode(TEXTS), published(folder, prompt="query: "), atol=1e-5, rtol=0)
    assert float((asked.encode(TEXTS) - plain.encode(TEXTS)).abs().max()) > 1e-3
    assert asked.fingerprint != plain.fingerprint
    own = shutil.copytree(folder, tmp_path / "own")
    default = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (own / "config_sentence_transformers.json").write_text(json.dumps(default))
    torch.testing.assert_close(SentenceEncoder(own).encode(TEXTS), asked.encode(TEXTS), atol=1e-5, rtol=0)


def test_the_fingerprint_is_of_all_that_the_vectors_depend_on(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path / "mine", dense=True)
    before = SentenceEncoder(folder).fingerprint
    assert SentenceEncoder(shutil.copytree(folder, tmp_path / "copy")).fingerprint == before
    changed = {before}
    for name in ("model.safetensors", "2_Dense/model.safetensors", "1_Pooling/config.json", "tokenizer.json"):
        other = shutil.copytree(folder, tmp_path / name.replace("/", "-"))
        if name.endswith("json"):
            (other / name).write_bytes((other / name).read_bytes() + b"\n")
        else:
            weights = {key: value + 1 for key, value in load_file(other / name).items()}
            save_file(weights, other / name, {"format": "pt"})
        changed.add(SentenceEncoder(other).fingerprint)
    assert len(changed) == 5


def test_names_are_entries_folders_and_hub_ids(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate_text(str(folder)) == folder
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="--text-encoder labse: not on this machine; run: zsar models pull labse"):
        open_sentences("labse")
    with pytest.raises(ModelError, match=r"no such folder, .* run: zsar models pull nobody/none"):
        open_sentences("nobody/none")
    with pytest.raises(UsageError, match=r"--text-encoder labs: .* did you mean labse"):
        open_sentences("labs")
    monkeypatch.setattr("zsar_cli.weights.hub.find_snapshot", lambda repo, revision: folder)
    for name in ("multilingual-e5-small", "intfloat/multilingual-e5-small", "intfloat/multilingual-e5-small@main"):
        encoder = open_sentences(name)
        assert encoder.fingerprint == SentenceEncoder(folder, "query: ").fingerprint
        assert {"de", "zh", "ar"} <= set(encoder.languages)
    assert open_sentences("someone/other").languages == ()


def test_entries_say_only_what_is_known() -> None:
    from zsar_cli.weights.catalogue import ENTRIES

    assert len(TEXT_ENTRIES) >= 5 and not set(TEXT_ENTRIES) & set(ENTRIES)
    for entry in TEXT_ENTRIES.values():
        assert text_entry(entry.name) is entry is text_entry(entry.source)
        assert entry.licence and entry.megabytes > 0 and len(set(entry.languages)) == len(entry.languages)
        assert (entry.prompt == "query: ") == ("e5" in entry.name)


def test_no_model_is_added_by_the_name_of_an_encoder(tmp_path: Path) -> None:
    labels = LabelSet.from_names(["a", "b"])
    with pytest.raises(UsageError, match="'labse' is the name of another kind of model"):
        ModelFolder(tmp_path).add("labse", tmp_path / "a.tflite", labels, lambda file, names: None)


def test_what_all_texts_share_is_taken_away(folder: Path) -> None:
    plain, centred = SentenceEncoder(folder), used(folder)
    actions = background_actions()
    shared = plain.encode(actions.names).mean(dim=0)
    rows = torch.nn.functional.normalize(plain.encode(TEXTS) - shared, dim=1)
    torch.testing.assert_close(centred.encode(TEXTS), rows, atol=1e-5, rtol=0)
    alike = [float((rows @ rows.T).mean()) for rows in (one.encode(actions.names[:100]) for one in (plain, centred))]
    assert alike[1] < alike[0] / 2
    assert centred.fingerprint.startswith(plain.fingerprint) and centred.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "modules.json").unlink(), "is none of sentence-transformers: it has no modules.json"),
        (lambda folder: (folder / "modules.json").write_text("{}"), "has the part '';"),
        (lambda folder: write_modules(folder, [("own.Reader", "")]), "has the part 'own.Reader'; zsar runs no"),
        (lambda folder: write_modules(folder, [(f"{NAMES}.Router", "")]), "has the part .*Router'; zsar runs no"),
        (lambda folder: write_modules(folder, [(f"{NAMES}.Pooling", "../other")]), "has a part in '../other'"),
        (lambda folder: write_modules(folder, [(f"{NAMES}.Pooling", "..")]), "has a part in '..'"),
        (lambda folder: (folder / "adapter_config.json").write_text("{}"), "merge them first"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.bin"), "has only pickled weights"),
        (lambda folder: (folder / "config.json").unlink(), "holds no model"),
    ],
)
def test_what_is_no_encoder_is_refused(tmp_path: Path, change: Callable[[Path], object], message: str) -> None:
    folder = write_sentences(tmp_path / "mine")
    change(folder)
    with pytest.raises(ModelError, match=message):
        open_sentences(str(folder))


def test_damage_is_named_when_it_is_loaded(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path / "mine")
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=f"--text-encoder {folder}: cannot be loaded, it may be damaged: "):
        open_sentences(str(folder)).encode(["a"])


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path / "mine")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModel": "own_code.Reader", "AutoConfig": "own_code.Config"}, "model_type": "own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own_code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_sentences(str(folder)).encode(["a"])
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def hub() -> Iterator[fake_hub.Hub]:
    with fake_hub.running() as hub:
        yield hub


def test_pulled_from_the_hub_with_the_folders_of_its_parts(hub: fake_hub.Hub, tmp_path: Path) -> None:
    folder = write_sentences(tmp_path / "mine", dense=True, architecture="bert")
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    more = {"onnx/model.onnx": b"x", "onnx/config.json": b"{}", "2_Dense/pytorch_model.bin": b"x", "README.md": b"#"}
    hub.repositories["sentence-transformers/LaBSE"] = Repository({**files, **more})
    variables = {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "", "HF_TOKEN": ""}
    zsar = Runner(tmp_path / "cache", variables=variables)
    pulled = zsar("models", "pull", "labse")
    assert "1886 MB, licence: Apache-2.0" in pulled.stderr and "use it with --text-encoder labse" in pulled.stderr
    snapshot = tmp_path / "home" / "hub" / "models--sentence-transformers--LaBSE" / "snapshots" / fake_hub.COMMIT
    there = {file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file()}
    assert there == set(files)
    assert "2_Dense/model.safetensors" in zsar("models", "verify", "labse").stdout
    info = json.loads(zsar("models", "info", "labse", "-f", "json").stdout)
    assert (info["kind"], info["here"]) == ("text", True) and " sw " in info["languages"]
    listed = {one["name"]: one for one in json.loads(zsar("models", "list", "-f", "json").stdout)}
    assert listed["labse"]["here"] and not listed["multilingual-mpnet"]["here"]
    encoder = SentenceEncoder(snapshot)
    torch.testing.assert_close(encoder.encode(TEXTS), published(folder), atol=1e-5, rtol=0)
    for name in ("labse", str(folder)):
        with pytest.raises((UsageError, ModelError), match="sees no video"):
            zsar_cli.load(name)


def test_pulled_from_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zsar_cli.digests import sha256_of
    from zsar_cli.weights.hub import find_snapshot
    from zsar_cli.weights.mirror import pull_from

    folder = write_sentences(tmp_path / "mine")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lines = [f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(lines))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    there = pull_from(str(folder), "someone/mine")
    assert find_snapshot("someone/mine") == there
    assert SentenceEncoder(there).fingerprint == SentenceEncoder(folder).fingerprint
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../x/config.json\n")
    with pytest.raises(ModelError, match="has the line"):
        pull_from(str(folder), "someone/mine")
