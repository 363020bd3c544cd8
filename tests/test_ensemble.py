"""Several models as one classifier, compared with a plain loop over the members' own answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fake_model import FakeModel
from tflite_files import write_plain
from videos import write_video

from zsar_cli import LabelSet, ZeroShotClassifier, load
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, PrototypeError, UsageError
from zsar_cli.labels import Label
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Partial, Sampling

LABELS = LabelSet.from_names(["jumping", "sleeping", "bright"])


class OtherModel(FakeModel):
    """Sees other frames in another space, and is surer of itself."""

    name = "other"
    sampling = Sampling(frames=5)
    transfer = TransferSettings(top_k=3, temperature=0.3, sharpness=4.0)

    def encode_video(self, clips: torch.Tensor) -> torch.Tensor:
        return super().encode_video(clips).flip(1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    for index in range(3):
        write_video(folder / f"{index}.mp4", first=300 * index + 7)
    return folder


@pytest.fixture
def members() -> list[ZeroShotClassifier]:
    models = [FakeModel(), OtherModel("other-1")]
    return [ZeroShotClassifier(model, model.bank()) for model in models]


def alone(member: ZeroShotClassifier, path: str) -> np.ndarray:
    (video,) = member.embed([path])
    assert not isinstance(video, InputError)
    return member.similarity(video, member.prepare(LABELS)).numpy()


@pytest.mark.parametrize("weights", [None, (1, 3), (0, 2)])
def test_similarities_are_averaged_before_labels_compete(
    weights: tuple[float, float] | None, members: list[ZeroShotClassifier], home: Path
) -> None:
    paths = [str(home / f"{index}.mp4") for index in range(3)]
    first, second = np.array(weights or (1, 1)) / sum(weights or (1, 1))
    records = Ensemble(members, weights).classify(paths, LABELS)
    assert [record.path for record in records] == paths
    for path, record in zip(paths, records, strict=True):
        blended = first * alone(members[0], path) + second * alone(members[1], path)
        powers = np.exp((first * 2.0 + second * 4.0) * blended)  # the weighted mean of both sharpnesses
        expected = dict(zip(LABELS.names, powers / powers.sum(), strict=True))
        for prediction in record.predictions:
            assert prediction.score == pytest.approx(expected[prediction.label], rel=1e-5)


class Knowing(OtherModel):
    """A specialist in two of the labels."""

    name = "knowing"

    def knows(self, labels: Sequence[Label]) -> torch.Tensor:
        return torch.tensor([label.name in ("jumping", "bright") for label in labels])


def test_a_specialist_divides_what_the_others_give_to_the_labels_it_knows(home: Path) -> None:
    models = [FakeModel(), Knowing("knowing-1")]
    general, special = (ZeroShotClassifier(model, model.bank()) for model in models)
    path = str(home / "1.mp4")
    both = Ensemble([general, special])
    record = both.classify(path, LABELS)
    found = {prediction.label: prediction.score for prediction in record.predictions}

    shares = np.exp(2.0 * alone(general, path))
    shares /= shares.sum()
    own = np.exp(2.0 * alone(special, path))  # the sharpness is that of the members that are averaged
    jumping, sleeping, bright = shares
    assert found["sleeping"] == pytest.approx(sleeping, rel=1e-5)
    assert found["jumping"] == pytest.approx((jumping + bright) * own[0] / (own[0] + own[2]), rel=1e-5)
    assert found["bright"] == pytest.approx((jumping + bright) * own[2] / (own[0] + own[2]), rel=1e-5)
    members = both.describe(LABELS).settings["members"]
    assert members[0]["weight"] == 1 and members[1]["decides_among"] == ["jumping", "bright"]

    unknown = LabelSet.from_names(["jumping", "sleeping"])  # it knows one alone: there is nothing to decide
    assert both.classify(path, unknown).predictions == general.classify(path, unknown).predictions
    with pytest.raises(UsageError, match=r"1 model needs 1 weight, not 2 \(knowing decides among"):
        Ensemble([general, special], (1, 1))


def test_specialists_alone_are_averaged(home: Path) -> None:
    models = [Knowing("knowing-1"), Knowing("knowing-2")]
    models[1].name = "second"
    pair = [ZeroShotClassifier(model, model.bank()) for model in models]
    assert Ensemble(pair).weights == (0.5, 0.5)


def test_a_weight_of_nought_leaves_a_model_out(members: list[ZeroShotClassifier], home: Path) -> None:
    path = str(home / "0.mp4")
    own = members[1].classify(path, LABELS)
    assert Ensemble(members, (0, 1)).classify(path, LABELS).predictions == own.predictions


def test_an_error_of_one_member_is_the_error_of_the_video(members: list[ZeroShotClassifier], home: Path) -> None:
    first = str(home / "0.mp4")
    (whole,) = members[1].embed([first])
    assert not isinstance(whole, InputError)
    bad = whole[0].windows[0]

    def encode_video(clips: torch.Tensor) -> torch.Tensor:
        rows = OtherModel.encode_video(members[1].model, clips)  # type: ignore[arg-type]
        return torch.where(torch.isclose(rows, bad).all(dim=1)[:, None], torch.nan, rows)

    members[1].model.encode_video = encode_video  # type: ignore[method-assign]
    paths = [str(home / "1.mp4"), first, str(home / "absent.mp4"), str(home / "2.mp4")]
    both = Ensemble(members)
    records = both.classify(paths, LABELS)
    errors = [record.error and (record.error.stage, record.error.reason[:31]) for record in records]
    expected = ("model", "the model gives numbers that ar"), ("find", "no such file or folder")
    assert errors == [None, *expected, None]
    assert [record.path for record in records] == paths
    with pytest.raises(InputError, match="not finite"):
        both.classify(first, LABELS)


def test_notes_and_damage_of_all_members_are_kept(members: list[ZeroShotClassifier], home: Path) -> None:
    both = Ensemble(members)
    (video,) = both.embed([str(home / "0.mp4")])
    assert not isinstance(video, InputError)
    changes = (("both", "first"), Partial(0.75, "some")), (("both", "second"), Partial(0.5, "more"))
    changed = tuple(
        replace(part, facts=replace(part.facts, notes=notes, partial=partial))
        for part, (notes, partial) in zip(video, changes, strict=True)
    )
    (record,) = both.records([changed], both.prepare(LABELS))
    assert record.notes == ("both", "fake: first", "other: second")  # those of one model name it
    assert record.partial == Partial(0.5, "more")
    assert record.facts is not None and record.facts.sampling == FakeModel.sampling  # the first's


def test_a_file_is_read_once_for_models_that_look_at_the_same_frames(home: Path) -> None:
    alike = [ZeroShotClassifier(model, model.bank()) for model in (FakeModel("one"), FakeModel("two"))]
    alike[1].model.name = "two"
    both = Ensemble([*alike, ZeroShotClassifier(OtherModel("other"), None, added=OtherModel("other").bank())])
    assert len(both.pipeline.views) == 2 and both.pipeline.view_of == (0, 0, 1)
    (video,) = both.embed([str(home / "0.mp4")])
    assert not isinstance(video, InputError)
    assert torch.equal(video[0].windows, video[1].windows)


def test_windows_of_all_members_are_compared_one_by_one(members: list[ZeroShotClassifier], home: Path) -> None:
    path, settings = str(home / "0.mp4"), EmbedSettings(sampling={"window": 1.0})
    seconds = [ZeroShotClassifier(member.model, member.bank, embedding=settings) for member in members]
    both = Ensemble(seconds, (1, 3))
    (video,) = both.embed([path])
    labelled = both.prepare(LABELS)
    assert not isinstance(video, InputError)
    found = both.window_similarity(video, labelled)
    parts = [
        member.window_similarity((part,), member.prepare(LABELS)) for member, part in zip(seconds, video, strict=True)
    ]
    torch.testing.assert_close(found, 0.25 * parts[0] + 0.75 * parts[1])
    with pytest.raises(UsageError, match="different windows"):
        own = Ensemble(members)
        (uneven,) = own.embed([path])
        assert not isinstance(uneven, InputError)
        own.window_similarity(uneven, own.prepare(LABELS))


def test_run_names_every_model_with_its_weight(members: list[ZeroShotClassifier]) -> None:
    run = Ensemble(members, (1, 3)).describe(LABELS).to_dict()
    assert run["model"] == {"name": "fake + other", "fingerprint": "fake-1 + other-1"}
    assert run["device"] == "cpu" and run["precision"] == "float32"
    assert [(one["model"], one["weight"], one["sampling"]["frames"]) for one in run["settings"]["members"]] == [
        ("fake", 0.25, 3),
        ("other", 0.75, 5),
    ]
    assert run["settings"]["sharpness"] == 3.5


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1,), "2 models need 2 weights, not 1"),
        ((1, 2, 3), "2 models need 2 weights, not 3"),
        ((0, 0), "not all 0"),
        ((1, -1), "must be 0 or more"),
        ((1, float("nan")), "must be 0 or more"),
    ],
)
def test_weights_that_do_not_fit(weights: tuple[float, ...], message: str, members: list[ZeroShotClassifier]) -> None:
    with pytest.raises(UsageError, match=message):
        Ensemble(members, weights)


def test_members_that_do_not_make_an_ensemble(members: list[ZeroShotClassifier]) -> None:
    with pytest.raises(UsageError, match="needs two or more models, not 1"):
        Ensemble(members[:1])
    with pytest.raises(UsageError, match="each model can be given once"):
        Ensemble([members[0], members[0]])


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A .tflite file and the label file of its outputs."""
    folder = tmp_path_factory.mktemp("tflite")
    (folder / "seen.txt").write_text("archery\ncooking\nsleeping\n", encoding="utf-8")
    return write_plain(folder / "own.tflite", np.eye(3, dtype=np.float32) * 5), folder / "seen.txt"


def test_load_takes_several_names(tflite: tuple[Path, Path], home: Path, tmp_path: Path) -> None:
    file, seen = tflite
    both = load(["builtin", str(file)], weights=[3, 1], seen_labels=seen, device="cpu", models_dir=tmp_path)
    assert isinstance(both, Ensemble)
    assert [member.model.name for member in both.members] == ["builtin", str(file)]
    assert both.weights == (0.75, 0.25)
    record = both.classify(str(home / "0.mp4"), ["archery", "cooking"])
    assert sum(prediction.score for prediction in record.predictions) == pytest.approx(1, abs=1e-6)


def test_a_bank_goes_to_the_model_that_made_it(tflite: tuple[Path, Path], tmp_path: Path) -> None:
    file, seen = tflite
    one = load(str(file), seen_labels=seen, device="cpu", models_dir=tmp_path)
    assert one.bank is not None
    bank = one.bank.select(["cooking"])
    bank.write(tmp_path / "bank.safetensors")
    both = load(["builtin", str(file)], seen_labels=seen, device="cpu", models_dir=tmp_path,
                prototypes=tmp_path / "bank.safetensors", bank="replace")  # fmt: skip
    assert [len(member.bank or ()) for member in both.members] == [1000, 1]
    with pytest.raises(PrototypeError, match="was made by the model litert"):
        load("builtin", device="cpu", models_dir=tmp_path, prototypes=tmp_path / "bank.safetensors")


def test_what_load_refuses(tflite: tuple[Path, Path], tmp_path: Path) -> None:
    _, seen = tflite
    with pytest.raises(UsageError, match="--weights needs several models"):
        load(["builtin"], weights=[1], models_dir=tmp_path)
    with pytest.raises(UsageError, match="no model"):
        load([], models_dir=tmp_path)
    with pytest.raises(UsageError, match="--seen-labels belongs to one model given as a file or folder; here are 0"):
        load(["builtin", "movinet"], seen_labels=seen, models_dir=tmp_path)
    with pytest.raises(UsageError, match="the model 'builtin' knows its own"):
        load("builtin", seen_labels=seen, models_dir=tmp_path)


def test_an_added_model_is_loaded_by_its_name(tflite: tuple[Path, Path], tmp_path: Path) -> None:
    from zsar_cli.models.litert import LiteRTModel
    from zsar_cli.weights.added import ModelFolder

    file, seen = tflite
    ModelFolder(tmp_path).add("mine", file, LabelSet.read(seen), LiteRTModel)
    own = load("mine", device="cpu", models_dir=tmp_path, cache_dir=tmp_path / "cache")
    assert own.model.name == "mine"
    assert own.bank is not None and own.bank.labels == ("archery", "cooking", "sleeping")
    with pytest.raises(UsageError, match="was added with the names of its outputs"):
        load("mine", seen_labels=seen, models_dir=tmp_path)
