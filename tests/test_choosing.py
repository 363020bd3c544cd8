"""`--model auto`: what is chosen with nothing, with MoViNet and with PE-Core here, and what keeps its model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_runner import Finished
from PIL import Image

from zsar_cli.engine import choosing
from zsar_cli.engine.choosing import choose_model, fits, is_auto, recommend
from zsar_cli.engine.machine import Machine
from zsar_cli.errors import UsageError
from zsar_cli.weights.catalogue import ENTRIES

Here = Callable[..., Finished]
ASKED = ("--label", "riding a bike", "--label", "swimming")
LAPTOP = Machine(memory=16, cores=4)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty machine, on which every package is installed."""
    monkeypatch.setenv("ZSAR_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))  # read when it was imported
    monkeypatch.setattr(choosing, "_runs", lambda entry: True)
    yield tmp_path


def add_movinet(place: Path) -> None:
    """What `zsar models add` leaves, but for the file itself."""
    from zsar_cli.digests import sha256_of

    folder = place / "models" / "movinet-a0-stream"
    folder.mkdir(parents=True)
    (folder / "model.tflite").write_bytes(b"a classifier")
    about = {"format": "zsar.model/1", "sha256": sha256_of(folder / "model.tflite"), "labels": ["a", "b"]}
    (folder / "model.json").write_text(json.dumps(about))


def add_pe_core(place: Path, name: str = "pe-core-b") -> None:
    """What `zsar models pull` leaves in the cache of the hub, but for the weights."""
    repository = place / "hub" / f"models--{ENTRIES[name].source.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "open_clip_config.json").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)


def test_with_nothing_the_builtin_model_and_a_word_of_a_better_one(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "this_machine", lambda gpu: LAPTOP)
    choice = choose_model()
    assert choice.name == "builtin" and choice.notes == ()
    better = recommend(LAPTOP)
    assert better.name == "pe-core-b"
    assert choice.said.startswith(
        "model: builtin, the only one here; better: zsar models pull pe-core-b (1791 MB, Apache"
    )
    monkeypatch.setattr(choosing, "this_machine", lambda gpu: Machine(memory=0.01, cores=1))
    assert choose_model().said == "model: builtin, the only one here"


def test_what_is_added_and_pulled_is_ranked_by_its_figure(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_movinet(place)
    choice = choose_model()
    assert choice.name == "movinet-a0-stream"
    assert choice.said == "model: movinet-a0-stream, 42.5% on 126 videos of 107 actions, measured here"
    add_pe_core(place, "pe-core-t")
    assert choose_model().name == "movinet-a0-stream"
    add_pe_core(place)
    choice = choose_model()
    assert choice.name == "pe-core-b" and "65.6% on Kinetics-400" in choice.said
    monkeypatch.setattr(choosing, "_runs", lambda entry: entry.kind != "openclip")
    choice = choose_model()
    assert choice.name == "movinet-a0-stream"
    assert "pe-core-b is on this machine but needs the extra zsar[openclip]" in choice.notes


def test_a_prototype_file_goes_with_its_model(place: Path) -> None:
    import torch

    from zsar_cli.tensors import write_tensors

    add_movinet(place)
    file = place / "mine.safetensors"
    write_tensors({"visual": torch.zeros(1, 1)}, file, {"model": "builtin-0123"})
    assert choose_model(file).name == "builtin"
    write_tensors({"visual": torch.zeros(1, 1)}, file, {"model": "litert1-6125b36e2485-5d9a560f"})
    assert choose_model(file).name == "movinet-a0-stream"
    file.write_bytes(b"nothing")
    assert choose_model(file).name == "movinet-a0-stream"


def test_python_chooses_where_it_is_asked_to(place: Path) -> None:
    from zsar_cli import load

    assert load("auto", device="cpu", models_dir=place / "none").model.name == "builtin"


def test_auto_is_one_model() -> None:
    assert is_auto(None) and is_auto(["auto"]) and not is_auto(["builtin"])
    with pytest.raises(UsageError, match="chooses one model"):
        is_auto(["auto", "builtin"])


def test_the_recommendation_follows_the_machine() -> None:
    names = [recommend(Machine(memory, cores, gpu)).name for memory, cores, gpu in (
        (64, 1, 24), (64, 2, None), (64, 1, None), (4, 8, None), (64, 64, None), (1, 1, None),
    )]  # fmt: skip
    assert names == ["pe-core-l", "pe-core-b", "movinet-a0-stream", "pe-core-s", "pe-core-l", "movinet-a0-stream"]
    assert fits(ENTRIES["pe-core-b"], Machine(None, 2)), "a memory that is not known is not too small"
    assert recommend(LAPTOP, "apache").name == "pe-core-b"
    with pytest.raises(UsageError, match="--licence GPL"):
        recommend(LAPTOP, "GPL")


@pytest.mark.parametrize("variables", [{}, {"HF_HOME": "home"}, {"HF_HUB_CACHE": "hub"}, {"XDG_CACHE_HOME": "xdg"}])
def test_the_cache_is_where_its_package_says(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    code = "from huggingface_hub.constants import HF_HUB_CACHE as c; print(c)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert choosing._hub_folder("a/b") == Path(told) / "models--a--b"


def video(folder: Path) -> Path:
    frames = [Image.new("RGB", (48, 40), (shade, 90, 40)) for shade in range(0, 250, 25)]
    frames[0].save(folder / "video.gif", save_all=True, append_images=frames[1:], duration=100)
    return folder / "video.gif"


def test_commands_say_what_they_chose_and_results_name_it(zsar_here: Here, tmp_path: Path) -> None:
    where = {"ZSAR_MODEL": "auto", "ZSAR_MODELS_DIR": str(tmp_path / "none"), "HF_HUB_CACHE": str(tmp_path / "hub")}
    done = zsar_here("classify", video(tmp_path), *ASKED, "-f", "jsonl", variables=where)
    assert done.stderr.splitlines()[0].startswith("model: builtin, the only one here; better: zsar models pull ")
    assert done.stderr.count("zsar models pull") == 1
    assert done.records[0]["run"]["model"]["name"] == "builtin"
    quiet = zsar_here("classify", video(tmp_path), *ASKED, "-f", "jsonl", "-q", variables=where)
    assert quiet.stderr == "" and quiet.stdout == done.stdout
    named = zsar_here("explain", *ASKED, "--model", "builtin", variables=where)
    assert "model:" not in named.stderr
    refused = zsar_here("classify", "a.mp4", *ASKED, "--model", "auto", "--model", "builtin", code=2, variables=where)
    assert "--model auto chooses one model" in refused.stderr


def test_info_says_what_a_model_needs_and_how_to_get_it(zsar_here: Here, tmp_path: Path) -> None:
    where = {"HF_HUB_CACHE": str(tmp_path / "hub"), "ZSAR_MODELS_DIR": str(tmp_path / "none")}
    wrong = zsar_here("models", "info", "labs", variables=where, code=2).stderr
    assert wrong == "error: labs: no model of that name; 'zsar models list' shows all; did you mean labse?\n"
    told = zsar_here("models", "info", "pe-core-t", variables=where).stdout
    assert re.search(r"^needs +zsar\[openclip\]$", told, re.MULTILINE)
    assert re.search(r"^here +no; zsar models pull pe-core-t$", told, re.MULTILINE)
    assert re.search(r"^size +384 x 384 pixels$", told, re.MULTILINE) and "1.0 of one processor for a window" in told
    assert told.count("41.5") == 1 and "sha256" not in told
    assert "22.1 %  126 videos of 107 actions" in zsar_here("models", "info", "builtin", variables=where).stdout
    facts = json.loads(zsar_here("models", "info", "pe-core-t", "-f", "json", variables=where).stdout)
    assert facts["needs"] == "zsar[openclip]" and facts["reported"][0]["percent"] == 41.5


def test_a_resumed_file_and_a_library_keep_their_model(zsar_here: Here, tmp_path: Path, place: Path) -> None:
    """Made by the built-in model, and gone on with where another one would be chosen."""
    auto = {
        "ZSAR_MODEL": "auto",
        "ZSAR_MODELS_DIR": os.environ["ZSAR_MODELS_DIR"],
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }
    out, library = tmp_path / "out.jsonl", tmp_path / "films.lib"
    zsar_here("classify", video(tmp_path), *ASKED, "-o", out)
    zsar_here("library", "add", library, tmp_path / "video.gif")
    add_movinet(place)
    assert choose_model().name == "movinet-a0-stream"
    again = zsar_here("classify", video(tmp_path), *ASKED, "-o", out, "--resume", variables=auto)
    assert "model:" not in again.stderr
    assert {json.loads(line)["run"]["model"]["name"] for line in out.read_text().splitlines()} == {"builtin"}
    stored = zsar_here("classify", library, *ASKED, "-f", "jsonl", variables=auto)
    assert stored.records[0]["run"]["model"]["name"] == "builtin"
    zsar_here("library", "add", library, tmp_path / "video.gif", variables=auto)
