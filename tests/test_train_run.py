"""`zsar train` from folder to bundle: refusals, skipped videos, held-out classes, resuming, and a model that works."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from cli_runner import Finished, Runner, preload
from safetensors.torch import load_file
from training_data import COLOURS, SMALL, write_dataset, write_films, write_settings

from zsar_cli.data.dataset import read_dataset
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, OutputError, UsageError
from zsar_cli.networks.backbones import POSTURE, BackboneConfig, open_backbone
from zsar_cli.training.folder import RunFolder
from zsar_cli.training.kinds import Place, open_kind
from zsar_cli.training.scoring import with_spreads
from zsar_cli.training.settings import RunConfig
from zsar_cli.training.state import Compute
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.weights.bundle import check_bundle, read_bundle
from zsar_cli.weights.catalogue import BUNDLES

Run = Callable[..., Finished]
CLASSES = [f"{name}_thing" for name in COLOURS]
TIMES = ("waiting", "computing")
MINILM = "minilm-53aa51172d14"
DIE = """
import os, signal
replace, seen = os.replace, []
def dying(source, target, **how):
    replace(source, target, **how)
    if str(target).endswith("checkpoint.pt"):
        seen.append(target)
        if len(seen) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
os.replace = dying
"""


def records(run: Path) -> list[dict[str, float]]:
    """Of each step, but for the seconds it took."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data set `data` and `settings.yaml`."""
    folder = tmp_path_factory.mktemp("training")
    write_dataset(folder / "data")
    write_settings(folder)
    return folder


@pytest.fixture(scope="module")
def whole(place: Path, zsar: Runner) -> Path:
    """An uninterrupted run of six steps."""
    zsar("train", place / "data", "-o", place / "whole", "--steps", 6, *SMALL, place / "settings.yaml")
    return place / "whole"


def test_a_run_leaves_a_model_with_its_provenance(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [
        "checkpoint.pt", "curves.png", "metrics.jsonl", "model", "run.yaml",
    ]  # fmt: skip
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert all(record["loss"] > 0 for record in records)
    bundle = read_bundle(whole / "model", "rest", MINILM)
    assert list(bundle.bank.labels) == sorted(CLASSES)
    assert bundle.settings["clip"]["geometry"] == {"size": 64, "resize": None, "letterbox": False}
    about = bundle.provenance
    assert about["data"]["name"] == "data" and about["data"]["videos"] == 8 and about["data"]["skipped"] == 0
    assert about["command"].startswith("zsar train ") and about["seed"] == 0 and about["step"] == 6
    assert about["config"]["train"]["steps"] == 6
    assert about["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_evaluate_names_unseen_classes_that_were_trained_on(whole: Path, place: Path, zsar_here: Run) -> None:
    (place / "unseen.txt").write_text(f"{CLASSES[0]}\n{CLASSES[2]}\n")
    done = zsar_here("evaluate", place / "data", "--model", whole, "--unseen", place / "unseen.txt", code=0)
    names = sorted([CLASSES[0], CLASSES[2]])
    assert f"was trained on: {', '.join(names)}\n" in done.stderr and "not unseen" in done.stderr


def test_training_looks_at_postures_where_asked(place: Path, zsar_here: Run, tmp_path: Path) -> None:
    flags = ("--posture", "--view", "letterbox", "--steps", 2, *SMALL, place / "settings.yaml")
    done = zsar_here("train", place / "data", "-o", tmp_path / "run", *flags, "--resume", code=0)
    assert f"warning: {tmp_path / 'run'}: there is nothing to resume; the run begins at step 1\n" in done.stderr
    bundle = read_bundle(tmp_path / "run" / "model", "rest", MINILM)
    assert bundle.settings["shape"]["posture"] == POSTURE
    assert bundle.settings["clip"]["geometry"] == {"size": 64, "resize": None, "letterbox": True}
    assert bundle.weights["rest.video_prior.weight"].shape[1] == 2 * (1280 + POSTURE)
    command = ("classify", place / "data" / CLASSES[0] / "clip0", "--label", CLASSES[0], "--label", CLASSES[1])
    (record,) = zsar_here(*command, "--model", tmp_path / "run", "--format", "jsonl", code=0).records
    assert record["predictions"][0]["label"] == CLASSES[0]


@pytest.mark.parametrize("folder", [".", "model"])
def test_the_model_works_at_once(whole: Path, place: Path, zsar_here: Run, folder: str) -> None:
    clips = [place / "data" / name / "clip0" for name in CLASSES]
    names = [part for name in CLASSES for part in ("--label", name)]
    command = ("classify", *clips, *names, "--model", whole / folder, "--format", "jsonl", "--no-cache")
    records = zsar_here(*command, code=0).records
    first = [record["predictions"][0]["label"] for record in records]
    assert first == CLASSES  # four plain colours: the closed-form start alone tells them apart


def test_kill_and_resume_gives_the_weights_of_an_uninterrupted_run(
    place: Path, whole: Path, zsar: Runner, zsar_here: Run
) -> None:
    run = ("train", place / "data", "-o", place / "killed", "--steps", 6, "--checkpoint-every", 2, *SMALL,
           place / "settings.yaml")  # fmt: skip
    finished = zsar(*run, code=None, variables=preload(place / "die", DIE))
    assert finished.code == -9 and not (place / "killed" / "model").exists()
    with open(place / "killed" / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "loss": 1.0}\n{"step": 6, "lo')  # what a run may have got to after its checkpoint
    assert "nothing to resume" not in zsar_here(*run, "--resume").stderr
    weights = [load_file(folder / "model" / "weights.safetensors") for folder in (whole, place / "killed")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert records(place / "killed") == records(whole)


STOP = """
import os, signal, torch
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
step, seen = torch.optim.AdamW.step, []
def interrupted(*given, **how):
    seen.append(given)
    if len(seen) == 3:
        os.kill(os.getpid(), signal.{name})
    return step(*given, **how)
torch.optim.AdamW.step = interrupted
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_run_that_is_stopped_saves_its_state_and_goes_on(
    place: Path, whole: Path, zsar: Runner, zsar_here: Run, name: str, code: int
) -> None:
    run = ("train", place / "data", "-o", place / name, "--steps", 6, "--checkpoint-every", 100, *SMALL,
           place / "settings.yaml")  # fmt: skip
    stopped = zsar(*run, code=code, variables=preload(place / f"stop-{name}", STOP.format(name=name)))
    assert "stopping after this step" in stopped.stderr
    assert f"warning: {place / name}: stopped; the same command with --resume continues" in stopped.stderr
    assert len((place / name / "metrics.jsonl").read_text().splitlines()) == 3
    resumed = zsar_here(*run, "--resume", variables={"ZSAR_PROGRESS_EVERY": "0.01"})
    assert " of 6 steps" in resumed.stderr and ", loss " in resumed.stderr  # off a terminal a line now and then
    weights = [load_file(folder / "model" / "weights.safetensors") for folder in (whole, place / name)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert records(place / name) == records(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of a file")
def test_a_full_disk_is_an_error_that_names_the_file_and_its_size(place: Path, whole: Path, zsar: Runner) -> None:
    limit = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    run = ("train", place / "data", "-o", place / "full", "--steps", 6, *SMALL, place / "settings.yaml")
    full = zsar(*run, code=1, variables=preload(place / "limit", limit))
    file = place / "full" / "features" / "0.npy"  # 8 videos and mirror images, 2 frames of 2 x 2 cells, float16
    assert f"error: {file}: cannot be written, it takes {8 * 2 * 2 * 4 * 1280 * 2:,} bytes: " in full.stderr
    assert not file.exists()


def test_a_folder_that_holds_something_is_refused(place: Path, whole: Path, zsar_here: Run, tmp_path: Path) -> None:
    command = ("train", place / "data", *SMALL, place / "settings.yaml")
    before = (whole / "run.yaml").read_text()
    assert "--resume continues it, --overwrite starts over" in zsar_here(*command, "-o", whole, code=1).stderr
    (tmp_path / "thesis.txt").write_text("years of work")
    for flags in ((), ("--overwrite",), ("--resume",)):
        message = zsar_here(*command, "-o", tmp_path, *flags, code=1).stderr
        assert "exists and is no training run" in message
    assert (tmp_path / "thesis.txt").exists()
    other = zsar_here(*command, "-o", whole, "--resume", "--steps", 7, "--seed", 1, code=2).stderr
    assert "train.steps: was 6, is 7" in other and "train.seed: was 0, is 1" in other
    assert (whole / "run.yaml").read_text() == before


def test_bad_videos_are_skipped_listed_and_counted(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    shutil.copytree(place / "data", tmp_path / "data")
    (tmp_path / "data" / CLASSES[0] / "bad.mp4").write_bytes(b"no video at all")
    run = ("train", tmp_path / "data", "--steps", 1, *SMALL, place / "settings.yaml", "-o", tmp_path / "run")
    finished = zsar_here(*run, code=3)
    assert "1 of 9 videos were skipped" in finished.stderr and "bad.mp4: open failed" in finished.stderr
    lines = (tmp_path / "run" / "skipped.tsv").read_text().splitlines()
    assert lines[0] == "path\tstage\treason" and len(lines) == 2 and "bad.mp4\topen\t" in lines[1]
    assert read_bundle(tmp_path / "run" / "model", "rest", MINILM).provenance["data"]["skipped"] == 1
    for file in (tmp_path / "data" / CLASSES[1]).iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    (tmp_path / "data" / CLASSES[1] / "bad.mp4").write_bytes(b"no video at all")
    message = zsar_here(*run, "--overwrite", code=2).stderr
    assert f"the class '{CLASSES[1]}' has no usable video (" in message and "bad.mp4" in message


def test_parts_of_films_are_items_like_any_other(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    table = write_films(tmp_path)
    flags = ("--steps", 6, *SMALL, place / "settings.yaml")
    done = zsar_here("train", table, "-o", tmp_path / "run", *flags, code=3)
    assert "film0.mp4" in done.stderr and "it ends at 8.00 s, before the part from 60 to 62 s" in done.stderr
    about = read_bundle(tmp_path / "run" / "model", "rest", MINILM).provenance
    assert about["data"]["name"] == "parts.csv" and about["data"]["videos"] == 8 and about["data"]["skipped"] == 1
    zsar_here("evaluate", table, "--model", tmp_path / "run", "-o", tmp_path / "report.json", code=3)
    rows = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["videos"]
    right = [row["predictions"][0]["label"] == row["truth"] for row in rows if row["error"] is None]
    assert right == [True] * 8


def test_unseen_classes_are_used_for_nothing_and_validation_classes_still_get_prototypes(
    place: Path, tmp_path: Path, zsar_here: Run
) -> None:
    write_dataset(tmp_path / "data")
    for name in ("black", "white"):
        shutil.copytree(tmp_path / "data" / CLASSES[0], tmp_path / "data" / f"{name}_thing")
    # Whoever opened this would fail.
    (tmp_path / "data" / CLASSES[0] / "bad.mp4").write_bytes(b"no video at all")
    (tmp_path / "unseen.txt").write_text("red thing\n")
    names = [
        "folder,label",
        *(f"{name},a {name.split('_')[0]} thing" for name in (*CLASSES, "black_thing", "white_thing")),
    ]
    (tmp_path / "names.csv").write_text("\n".join(names))
    (tmp_path / "unseen.txt").write_text("a red thing\n")
    zsar_here(
        "train", tmp_path / "data", "--unseen", tmp_path / "unseen.txt", "--names", tmp_path / "names.csv",
        "--validation", 0.3, "--steps", 2, *SMALL, write_settings(tmp_path, "evaluate_every: 1\n"),
        "-o", tmp_path / "run", code=0,
    )  # fmt: skip
    bundle = read_bundle(tmp_path / "run" / "model", "rest", MINILM)
    assert set(bundle.bank.labels) == {
        "a black thing",
        "a blue thing",
        "a green thing",
        "a white thing",
        "a yellow thing",
    }
    assert bundle.bank.visual.norm(dim=1).allclose(torch.ones(5))
    assert bundle.provenance["data"]["videos"] == 10
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(0 <= record["validation"] <= 1 for record in records) and len(records) == 2


def test_mistakes_are_refused_before_any_work(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    data, settings = place / "data", place / "settings.yaml"
    both = zsar_here("train", data, "-o", tmp_path / "run", "--steps", 1, "--epochs", 1, code=2).stderr
    assert "two ways to say the same" in both
    (tmp_path / "all.txt").write_text("\n".join(CLASSES))
    none = zsar_here("train", data, "-o", tmp_path / "run", "--unseen", tmp_path / "all.txt", code=2).stderr
    assert "none is left to train on" in none
    wrong = write_settings(tmp_path, "lr: slow\nworkers: 2\nhue: 3\nmixup: 5.0\n")
    prose = zsar_here("train", data, "-o", tmp_path / "run", "--config", wrong, code=2).prose
    assert "lr: slow: " in prose
    wrong = write_settings(tmp_path, "workers: 2\nhue: 3\nmixup: 5.0\n")
    message = zsar_here("train", data, "-o", tmp_path / "run", "--config", wrong, code=2).stderr
    assert "no such key: hue" in message and "mixup is 5.0" in message
    missing = zsar_here("train", tmp_path / "nowhere", "-o", tmp_path / "run", "--config", settings, code=2).stderr
    assert "no such data set" in missing
    assert not (tmp_path / "run").exists()


def test_training_on_raw_videos_begins_with_a_trained_model_and_resumes(
    place: Path, whole: Path, tmp_path: Path, zsar: Runner, zsar_here: Run
) -> None:
    one = {"OMP_NUM_THREADS": "1"}  # several threads add the gradients of convolutions up in any order
    flags = [flag for flag in SMALL if flag not in ("--backbone", "efficientnet-lite0", "--size", "64")]
    settings = tmp_path / "settings.yaml"
    settings.write_text("batch: 4\nmatch_pairs: 2\nmixup: 0.0\n")
    run = ("train", place / "data", "--source", "raw", "--start", whole, "--steps", 3, "--checkpoint-every", 1,
           "--lr", 1e-3, "--view", "whole", *flags, settings)  # fmt: skip
    zsar(*run, "-o", tmp_path / "whole", variables=one)
    bundle = read_bundle(tmp_path / "whole" / "model", "rest", MINILM)
    assert bundle.settings["backbone"]["fingerprint"] == "efficientnet-lite0-579344248a93-tuned"
    published = open_backbone(BackboneConfig("efficientnet-lite0"), torch.device("cpu"), torch.float32)
    for name, value in published.network.named_parameters():
        assert not torch.equal(bundle.weights[f"backbone.{name}"], value), name
    assert not (tmp_path / "whole" / "features").exists()
    for dies in (1, 2, 3):
        folder = tmp_path / f"killed{dies}"
        die = preload(tmp_path / f"die{dies}", DIE.replace("== 2", f"== {dies}"))
        assert zsar(*run, "-o", folder, code=None, variables={**one, **die}).code == -9
        zsar(*run, "-o", folder, "--resume", variables=one)
        weights = [load_file(at / "model" / "weights.safetensors") for at in (tmp_path / "whole", folder)]
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
        assert records(folder) == records(tmp_path / "whole")
    names = [part for name in CLASSES for part in ("--label", name)]
    clips = [place / "data" / name / "clip0" for name in CLASSES]
    command = ("classify", *clips, *names, "--model", tmp_path / "whole", "--format", "jsonl", "--no-cache")
    assert [record["predictions"][0]["label"] for record in zsar_here(*command).records] == CLASSES


def test_a_backbone_of_clips_is_trained_from_nothing(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    settings = write_settings(tmp_path, "backbone:\n  width: 0.125\n  cells: 1\nraw:\n  recompute: true\n")
    flags = [*SMALL[2:], settings]
    flags[flags.index("--frames") + 1] = "9"
    run = ("train", place / "data", "-o", tmp_path / "run", "--backbone", "r2plus1d_18", "--backbone-weights", "random")
    zsar_here(*run, "--steps", 2, "--source", "raw", *flags, code=0)
    bundle = read_bundle(tmp_path / "run" / "model", "rest", MINILM)
    assert bundle.settings["backbone"]["fingerprint"] == "r2plus1d_18-random-0-width=0.125-tuned"
    fresh = open_backbone(
        BackboneConfig("r2plus1d_18", weights="random", size=64, width=0.125), torch.device("cpu"), torch.float32
    )
    for name, value in fresh.network.named_parameters():
        assert not torch.equal(bundle.weights[f"backbone.{name}"], value), name
    names = [part for name in CLASSES for part in ("--label", name)]
    command = ("classify", place / "data" / CLASSES[0] / "clip0", *names, "--model", tmp_path / "run", "--no-cache")
    (record,) = zsar_here(*command, "--format", "jsonl", code=0).records
    assert len(record["predictions"]) == len(CLASSES)


def test_a_wrong_number_of_frames_is_refused_before_any_video_is_read(
    place: Path, tmp_path: Path, zsar_here: Run
) -> None:
    run = ("train", place / "data", "-o", tmp_path / "run", "--steps", 2, "--backbone", "videomae-base")
    narrow = write_settings(tmp_path, "backbone: {width: 0.0834}\n")
    done = zsar_here(*run, "--backbone-weights", "random", *SMALL[2:], narrow, code=2)
    assert "--frames 2: the backbone videomae-base takes 16 frames" in done.stderr


def test_a_beginning_brings_its_networks(place: Path, whole: Path, tmp_path: Path, zsar_here: Run) -> None:
    run = ("train", place / "data", "-o", tmp_path / "run", "--source", "raw", "--steps", 1)
    message = zsar_here(*run, "--start", whole, "--backbone", "efficientnet-lite1", code=2).stderr
    assert f"--start {whole}: brings its backbone; leave other settings of it out" in message
    assert "holds no trained model" in zsar_here(*run, "--start", place / "data", code=2).stderr
    assert not (tmp_path / "run").exists()
    settings = tmp_path / "settings.yaml"
    settings.write_text("batch: 4\nmatch_pairs: 2\nmixup: 0.0\n")
    zsar_here("train", place / "data", "-o", tmp_path / "run", "--start", whole, "--steps", 1, "--config", settings)
    begun, ended = (read_bundle(one / "model", "rest", MINILM).settings["clip"] for one in (whole, tmp_path / "run"))
    assert begun["sampling"]["frames"] == 2
    assert ended == begun, "it sees videos as the model did that it began with"


def test_a_beginning_may_be_a_name(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    labels = read_dataset(place / "data").classes
    at = Place(tmp_path / "features", tmp_path / "cache", start=Path("rest-exercises"))
    kind = open_kind(RunConfig(), at, EmbedSettings(), Compute(), labels)
    manifest = check_bundle(BUNDLES / "rest-exercises")
    assert kind.facts == {"start": manifest["fingerprint"]} and kind.clip.geometry.letterbox
    run = ("train", place / "data", "-o", tmp_path / "run", "--steps", 1)
    for name in ("rest-exercise", "builtin"):
        message = zsar_here(*run, "--start", name, code=2).stderr
        assert f"--start {name}: holds no trained model; give a folder that zsar train wrote, or rest-ex" in message


def test_options_of_another_source_are_refused(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    run = ("train", place / "data", "-o", tmp_path / "run", "--steps", 1)
    assert "--backbone-rate is for --source raw" in zsar_here(*run, "--backbone-rate", 0.5, code=2).stderr
    assert "--encoder builtin: says which" in zsar_here(*run, "--encoder", "builtin", code=2).stderr
    assert not (tmp_path / "run").exists()


def test_a_run_that_has_not_ended_is_no_model_yet(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    RunFolder(tmp_path / "run").begin({"seed": 0})
    command = ("classify", place / "data" / CLASSES[0] / "clip0", "--label", "a", "--label", "b")
    message = zsar_here(*command, "--model", tmp_path / "run", code=1).stderr
    assert f"{tmp_path / 'run'}: its training has not ended" in message and "--resume" in message


def test_only_one_process_trains_in_a_folder(place: Path, tmp_path: Path, zsar_here: Run) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 0})
    run = ("train", place / "data", *SMALL, place / "settings.yaml", "-o", tmp_path / "run", "--overwrite")
    assert "another process trains in this folder" in zsar_here(*run, code=1).stderr
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text()) == {"seed": 0}
    folder.close()
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["run.yaml"]


def test_embeddings_of_a_library_train_a_model_that_classifies_with_their_encoder(
    place: Path, tmp_path: Path, zsar_here: Run
) -> None:
    library, data = tmp_path / "lib", place / "data"
    clips = [data / name / f"clip{number}" for name in CLASSES for number in (0, "1.gif")]
    clips = [clip if clip.exists() else clip.with_name("clip1.gif") for clip in clips]
    zsar_here("library", "add", library, *clips, "--frames", 2, "--device", "cpu", "--workers", 1)
    shape = ("--steps", 4, "--batch-size", 8, "--device", "cpu", "--config", place / "settings.yaml")
    run = ("train", data, "-o", tmp_path / "run", "--source", "embeddings", *shape)
    assert "go together" in zsar_here(*run, code=2).stderr
    copies = tmp_path / "copies"
    shutil.copytree(data, copies)  # of the same contents, which the library knows by other paths
    zsar_here("train", copies, *run[2:], "--library", library, code=0)
    bundle = read_bundle(tmp_path / "run" / "model", "rest", MINILM)
    assert bundle.settings["encoder"]["name"] == "builtin" and "backbone" not in bundle.settings
    assert bundle.settings["clip"]["sampling"]["frames"] == 2
    names = [part for name in CLASSES for part in ("--label", name)]
    command = ("classify", *clips[::2], *names, "--model", tmp_path / "run", "--format", "jsonl", "--no-cache")
    assert [record["predictions"][0]["label"] for record in zsar_here(*command).records] == CLASSES
    manifest = tmp_path / "run" / "model" / "model.yaml"
    for name, reason in (("nowhere", "which is needed: "), ("builtin", "but this is ")):
        values = yaml.safe_load(manifest.read_text())
        values["settings"]["encoder"].update(name=name, fingerprint="other")
        values.pop("fingerprint", None)
        manifest.write_text(yaml.safe_dump(values))
        assert reason in zsar_here(*command, code=1).stderr


def test_a_run_that_failed_before_its_first_step_leaves_its_folder_free(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 0})
    folder.close()
    again = RunFolder(tmp_path / "run")
    again.begin({"seed": 1})
    assert yaml.safe_load((tmp_path / "run" / "run.yaml").read_text()) == {"seed": 1}
    (tmp_path / "run" / "metrics.jsonl").write_text("{}")
    again.close()
    with pytest.raises(OutputError, match="holds a training run; --resume continues it, --overwrite starts over"):
        RunFolder(tmp_path / "run")


def test_a_checkpoint_is_whole_and_of_its_data(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"seed": 0})
    folder.save({"step": 3, "weights": torch.ones(2)}, "data-1")
    folder.close()
    again = RunFolder(tmp_path / "run", resume=True)
    again.begin({"seed": 0})
    state = again.load("data-1")
    assert state is not None and state["step"] == 3 and torch.equal(state["weights"], torch.ones(2))
    with pytest.raises(UsageError, match="begun with other videos"):
        again.load("data-2")
    with pytest.raises(UsageError, match=r"\n  train.seed: was None, is 1"):
        again.begin({"seed": 0, "train": {"seed": 1}})
    file = tmp_path / "run" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(OutputError, match=r"checkpoint\.pt: cannot be read"):
        again.load("data-1")
    again.close()
    anew = RunFolder(tmp_path / "run", overwrite=True)
    anew.begin({"seed": 5})
    assert not file.exists() and yaml.safe_load((tmp_path / "run" / "run.yaml").read_text()) == {"seed": 5}


def test_skipped_videos_are_one_line_each(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({})
    folder.write_skipped([InputError("a\tb.mp4", "decode", "broken\nin two")])
    assert (tmp_path / "run" / "skipped.tsv").read_text().splitlines()[1] == "a b.mp4\tdecode\tbroken in two"
    folder.write_skipped([])
    assert not (tmp_path / "run" / "skipped.tsv").exists()


def test_scales_are_the_spread_of_scores_of_classes_that_play_unseen() -> None:
    unit = torch.nn.functional.normalize
    generator = torch.Generator().manual_seed(1)
    v, semantic, visual = (unit(torch.randn(n, 6, generator=generator), dim=1) for n in (9, 4, 4))
    seen = PrototypeBank(("a", "b", "c", "d"), semantic, visual, "m", "t")
    found = with_spreads(TransferSettings(top_k=10, temperature=0.2), v, seen, 12.0)
    scores = torch.zeros(9, 4)
    for label in range(4):
        others = [index for index in range(4) if index != label]
        weights = torch.softmax(semantic[others] @ semantic[label] / 0.2, dim=0)
        scores[:, label] = v @ unit(weights @ visual[others], dim=0)
    assert found.transfer_scale == pytest.approx(float(scores.var(dim=1, correction=0).mean().sqrt()), rel=1e-3)
    assert found.text_scale == pytest.approx(float((v @ semantic.T).var(dim=1, correction=0).mean().sqrt()), rel=1e-3)
    assert (found.logit_scale, found.top_k) == (12.0, 10)
