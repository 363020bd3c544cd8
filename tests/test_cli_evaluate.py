"""`zsar evaluate`: the same answers as `zsar classify`, counted independently."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import videos
from cli_runner import LABELS, Finished, Runner, label_options

Here = Callable[..., Finished]
CLASSES = LABELS[:4]


@pytest.fixture(scope="module")
def zsar(zsar_tiny: Runner) -> Runner:
    return zsar_tiny


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four classes of two videos each, named by folders that need natural names."""
    root = tmp_path_factory.mktemp("evaluate")
    for number in range(len(CLASSES)):
        folder = root / "data" / f"class_{number}"
        folder.mkdir(parents=True)
        for i in range(2):
            videos.write_video(folder / f"{i}.mp4", frames=4, first=number * 700 + i * 31)
    rows = "\n".join(f"class_{number},{name}" for number, name in enumerate(CLASSES))
    (root / "names.csv").write_text(f"folder,label\n{rows}\n")
    return root


def run(zsar_here: Here, home: Path, *options: object, code: int = 0) -> Finished:
    return zsar_here("evaluate", home / "data", "--names", home / "names.csv", *options, code=code)


def test_agrees_with_classify_counted_by_hand(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    found = run(zsar_here, home, "-o", tmp_path / "e.json", "--plots", tmp_path / "plots")
    report = json.loads((tmp_path / "e.json").read_text())
    records = zsar_here("classify", home / "data", *label_options(CLASSES), "--format", "jsonl", "-k", 4).records
    right = {name: [] for name in CLASSES}
    for record in records:
        truth = CLASSES[int(Path(record["path"]).parent.name[-1])]
        right[truth].append(record["predictions"][0]["label"] == truth)
    every = [value for values in right.values() for value in values]
    assert len(every) == 8
    (measured,) = report["runs"]
    assert measured["top1"] == pytest.approx(np.mean(every))
    assert measured["mean_per_class_top1"] == pytest.approx(np.mean([np.mean(values) for values in right.values()]))
    assert measured["top5"] == 1 and measured["labels"] == list(CLASSES)
    assert report["per_class"] == {name: pytest.approx(np.mean(values)) for name, values in right.items()}
    assert report["setting"]["run"]["model"].keys() >= {"name", "fingerprint"}
    assert f"top-1                   {np.mean(every):7.1%}" in found.stdout
    for name in ("confusion.png", "per_class.png"):
        assert (tmp_path / "plots" / name).read_bytes().startswith(b"\x89PNG")


def test_other_names_compete_as_well(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    rows = "".join(f"{home}/data/class_1/{number}.mp4,{CLASSES[1]}\n" for number in range(2))
    (tmp_path / "corrected.csv").write_text(f"path,answer\n{rows}")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    command = ("evaluate", tmp_path / "corrected.csv")
    assert "1 classes, 2 videos" in zsar_here(*command, code=0).stdout, "nothing competes"
    found = zsar_here(*command, "-l", tmp_path / "labels.txt", "-o", tmp_path / "e.json", code=0)
    report = json.loads((tmp_path / "e.json").read_text())
    records = zsar_here("classify", home / "data" / "class_1", *label_options(CLASSES), "--format", "jsonl").records
    right = [record["predictions"][0]["label"] == CLASSES[1] for record in records]
    assert "4 classes, 2 videos" in found.stdout
    assert report["runs"][0]["top1"] == pytest.approx(np.mean(right))
    half = zsar_here(*command, "-l", tmp_path / "labels.txt", "--protocol", "half", code=2)
    assert "--labels: --protocol half draws from the classes of the videos alone" in half.stderr


def test_halves_of_the_classes(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    found = run(zsar_here, home, "--protocol", "half", "--runs", 3, "--seed", 5, "-o", tmp_path / "e.json")
    report = json.loads((tmp_path / "e.json").read_text())
    for number, one in enumerate(report["runs"]):
        half = np.random.RandomState(5 + number).permutation(4)[:2]
        assert one["labels"] == [CLASSES[index] for index in half]
        assert (one["classes"], one["videos"]) == (2, 4)
    values = [one["top1"] for one in report["runs"]]
    assert report["mean_and_std"]["top1"] == [pytest.approx(np.mean(values)), pytest.approx(np.std(values))]
    assert "3 random halves from seed 5" in found.stdout


def test_everything_can_be_computed_again_from_the_rows(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad \udce9.mp4"
    bad.write_text("no video")
    paths = sorted((home / "data").rglob("*.mp4"))
    rows = [(path, CLASSES[int(path.parent.name[-1])]) for path in paths]
    rows.insert(3, (bad, CLASSES[1]))
    for number, (path, name) in enumerate(rows):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / f"{number}{'' if path != bad else bad.name}.mp4")
    found = zsar_here(
        "evaluate", tmp_path / "data", "--protocol", "half", "--runs", 3, "--seed", 5, "-o", tmp_path / "e.json", code=3
    )
    report = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    names, videos = report["setting"]["classes"], report["videos"]
    assert len(videos) == 9 and [video["error"] is None for video in videos].count(False) == 1
    similarity = np.array([video["similarity"] or [-np.inf] * 4 for video in videos])
    truth = [names.index(video["truth"]) for video in videos]
    assert all(Path(video["path"]).parent.name == video["truth"] for video in videos)

    counts = np.zeros((4, 4), int)
    for video, row, own in zip(videos, similarity, truth, strict=True):
        if video["error"] is None:
            counts[own, row.argmax()] += 1
            best = sorted(zip(names, video["similarity"], strict=True), key=lambda pair: -pair[1])
            assert [(one["label"], one["similarity"]) for one in video["predictions"]] == best[:5]
        else:
            assert (video["predictions"], video["similarity"], video["error"]["stage"]) == ([], None, "open")
    assert report["confusion"] == counts.tolist()

    for number, run_of in enumerate(report["runs"]):
        assert run_of["seed"] == 5 + number
        half = [names.index(label) for label in run_of["labels"]]
        asked = [(row, own) for row, own in zip(similarity, truth, strict=True) if own in half]
        right = [np.isfinite(row[own]) and (row[half] >= row[own]).sum() == 1 for row, own in asked]
        assert run_of["videos"] == len(right) and run_of["top1"] == pytest.approx(np.mean(right))
        line = f"seed {5 + number}: top-1 {np.mean(right):.1%} of {len(right)} videos of {', '.join(run_of['labels'])}"
        assert line in found.stdout
    counts_of_videos = sorted({one["videos"] for one in report["runs"]})
    assert (
        f"2 classes, {' to '.join(map(str, counts_of_videos[:: max(1, len(counts_of_videos) - 1)]))} videos, "
        in found.stdout
    )


def test_parts_of_a_film_are_measured_as_files_of_their_own(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    film = videos.write_video(tmp_path / "film.mp4", frames=20).path
    alone = videos.write_video(tmp_path / "alone.mp4", frames=20).path  # the same pictures
    table = tmp_path / "list.csv"
    spans = [(0.0, 0.4), (0.4, 0.8)]
    rows = [f"film.mp4,{CLASSES[n]},{start},{end}\n" for n, (start, end) in enumerate(spans)]
    table.write_text(f"path,label,start,end\n{''.join(rows)}alone.mp4,{CLASSES[0]},,\nfilm.mp4,{CLASSES[1]},0,0.8\n")
    zsar_here("evaluate", table, "-o", tmp_path / "e.json")
    first, second, whole, all_of_it = json.loads((tmp_path / "e.json").read_text())["videos"]
    assert [(one["path"], one["start"], one["end"]) for one in (first, second)] == [(str(film), *one) for one in spans]
    assert (whole["path"], whole["start"], whole["end"]) == (str(alone), None, None)
    assert all_of_it["similarity"] == pytest.approx(whole["similarity"], abs=1e-5)
    assert first["similarity"] != pytest.approx(second["similarity"], abs=1e-3)


def test_docs_mention_every_key(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    def keys(value: object) -> set[str]:
        if isinstance(value, dict):
            return set(value) | set().union(*map(keys, value.values()))
        return set().union(*map(keys, value)) if isinstance(value, list) else set()

    (tmp_path / "seen.txt").write_text(CLASSES[0])
    run(zsar_here, home, "--seen", tmp_path / "seen.txt", "-o", tmp_path / "e.json")
    report = json.loads((tmp_path / "e.json").read_text())
    del report["setting"]["run"], report["per_class"]  # described elsewhere; names of classes
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_0-9]+)`", text.partition("## Evaluations")[2].partition("\n## ")[0]))
    assert keys(report) - documented == set()


def test_seen_and_unseen_lists(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    (tmp_path / "seen.txt").write_text(CLASSES[0])
    (tmp_path / "unseen.txt").write_text("\n".join(CLASSES[1:3]))
    lists = ("--seen", tmp_path / "seen.txt", "--unseen", tmp_path / "unseen.txt")
    run(zsar_here, home, *lists, "-o", tmp_path / "e.json")
    report = json.loads((tmp_path / "e.json").read_text())
    assert report["setting"]["classes"] == list(CLASSES[:3])
    parts = report["generalised"]
    total = parts["seen"] + parts["unseen"]
    assert parts["harmonic"] == pytest.approx(2 * parts["seen"] * parts["unseen"] / total if total else 0)


def test_one_estimator_alone(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    for name in ("conse", "relatedness"):
        run(zsar_here, home, "--transfer", name, "-o", tmp_path / f"{name}.json")
        settings = json.loads((tmp_path / f"{name}.json").read_text())["setting"]["run"]["settings"]
        assert (settings["conse_weight"], settings["transfer_weight"]) == ((1, 0) if name == "conse" else (0, 1))
    refused = run(zsar_here, home, "--transfer", "none", code=2)
    assert "--transfer none: the model " in refused.stderr and "has no text tower" in refused.stderr


def test_a_bad_video_is_named_and_counts_as_wrong(zsar_here: Here, home: Path, tmp_path: Path) -> None:
    table = tmp_path / "list.csv"
    paths = sorted((home / "data").rglob("*.mp4"))
    bad = tmp_path / "bad.mp4"
    bad.write_text("text")
    rows = [f"{path},{CLASSES[int(path.parent.name[-1])]}" for path in paths] + [f"{bad},{CLASSES[0]}"]
    table.write_text("path,label\n" + "\n".join(rows) + "\n")
    run(zsar_here, home, "-o", tmp_path / "whole.json")
    found = zsar_here("evaluate", table, "-o", tmp_path / "e.json", code=3)
    report = json.loads((tmp_path / "e.json").read_text())
    assert [failure["path"] for failure in report["setting"]["failed"]] == [str(bad)]
    assert report["runs"][0]["videos"] == 9
    whole = json.loads((tmp_path / "whole.json").read_text())
    # Two videos of the class are as they were, the third is wrong.
    assert report["per_class"][CLASSES[0]] == pytest.approx(whole["per_class"][CLASSES[0]] * 2 / 3)
    assert "1 videos could not be used and count as wrong" in found.stdout
    assert f"{bad}: open failed" in found.stderr


def test_refusals(zsar_here: Callable[..., Finished], home: Path, tmp_path: Path) -> None:
    for options, message in (
        (("--protocol", "third"), "--protocol third: unknown; allowed: all, half"),
        (("--transfer", "magic"), "--transfer magic: unknown; allowed: blend, none, conse, relatedness"),
    ):
        assert message in zsar_here("evaluate", home / "data", *options, code=2).stderr
    (tmp_path / "e.json").write_text("precious")
    assert "exists; --overwrite" in zsar_here("evaluate", home / "data", "-o", tmp_path / "e.json", code=1).stderr
