"""ZeroShotClassifier: what a notebook user holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_model import SEEN, FakeModel
from videos import write_video

from zsar_cli import LabelSet, ZeroShotClassifier, load
from zsar_cli.engine.pipeline import Embedding
from zsar_cli.errors import InputError, LabelError, PrototypeError, UsageError
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import score_labels


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    for index in range(4):
        write_video(folder / f"{index}.mp4", first=300 * index + 7)
    return folder


@pytest.fixture
def classifier() -> ZeroShotClassifier:
    model = FakeModel()
    return ZeroShotClassifier(model, model.bank())


def test_one_path_gives_one_record_best_first(classifier: ZeroShotClassifier, home: Path) -> None:
    record = classifier.classify(str(home / "0.mp4"), ["jumping", "bright", "sleeping"])
    scores = [prediction.score for prediction in record.predictions]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1, abs=1e-6)
    assert {prediction.label for prediction in record.predictions} == {"jumping", "bright", "sleeping"}
    assert record.facts is not None and record.facts.decoder == "pyav" and record.windows == 2


def test_scores_of_windows_are_averaged_before_labels_compete(classifier: ZeroShotClassifier, home: Path) -> None:
    (video,) = classifier.embed([str(home / "1.mp4")])
    assert not isinstance(video, InputError) and video[0].windows.shape == (2, 16)
    labelled = classifier.prepare(LabelSet.from_names(["jumping", "sleeping"]))
    each = score_labels(video[0].windows, classifier.transfer, classifier.bank, labelled.prototypes).numpy()
    powers = np.exp(classifier.transfer.sharpness * each.mean(axis=0))
    expected = dict(zip(["jumping", "sleeping"], powers / powers.sum(), strict=True))
    for prediction in classifier.records([video], labelled)[0].predictions:
        assert prediction.score == pytest.approx(expected[prediction.label], rel=1e-5)


def test_a_long_video_is_scored_without_a_copy(classifier: ZeroShotClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0))
    video = Embedding(None, torch.zeros(3000, 2), rows)  # type: ignore[arg-type]
    seen, own = [], ZeroShotClassifier.score
    spy = lambda self, given, labelled: seen.append(given[0]) or own(self, given, labelled)  # noqa: E731
    monkeypatch.setattr(ZeroShotClassifier, "score", spy)
    labelled = classifier.prepare(LabelSet.from_names(["a", "b"]))
    (found,) = classifier.similarities([(video,)], labelled)
    assert seen[0] is rows
    parts = [classifier._score(part, labelled) for part in torch.split(rows, 1024)]
    assert torch.equal(found, torch.cat(parts).mean(dim=0))


def test_several_paths_give_records_in_order_and_failures_as_values(classifier: ZeroShotClassifier, home: Path) -> None:
    paths = [home / "3.mp4", home / "absent.mp4", home / "1.mp4"]
    records = classifier.classify(paths, ["jumping"])
    assert [record.path for record in records] == [str(path) for path in paths]
    assert [record.error is None for record in records] == [True, False, True]


def test_any_iterable_of_paths_and_nothing_else(classifier: ZeroShotClassifier, home: Path) -> None:
    several = classifier.classify((home / name for name in ("0.mp4", "1.mp4")), ["jumping"])
    assert [Path(record.path).name for record in several] == ["0.mp4", "1.mp4"]
    with pytest.raises(UsageError, match=r"b'a.mp4' is no path of a video"):
        classifier.classify([b"a.mp4"], ["jumping"])  # type: ignore[list-item]


def test_one_bad_path_raises(classifier: ZeroShotClassifier, home: Path) -> None:
    with pytest.raises(InputError, match=r"absent.mp4: find failed: no such file or folder"):
        classifier.classify(home / "absent.mp4", ["jumping"])
    with pytest.raises(LabelError):
        classifier.classify(home / "0.mp4", [])


def test_class_means_are_unit_means_and_classify_their_own_videos(classifier: ZeroShotClassifier, home: Path) -> None:
    pairs = [(str(home / f"{index}.mp4"), f"kind {index % 2}") for index in range(4)]
    done: list[int] = []
    bank, failures = classifier.class_means([*pairs, (str(home / "gone.mp4"), "kind 0")], lambda: done.append(1))
    assert bank.labels == ("kind 0", "kind 1") and bank.kind == "class means"
    assert [failure.path for failure in failures] == [str(home / "gone.mp4")]
    assert len(done) == 5
    embeddings = [item[0].windows.mean(dim=0).numpy() for item in classifier.embed(path for path, _ in pairs)]
    units = [row / np.linalg.norm(row) for row in embeddings]
    means = [(units[0] + units[2]) / 2, (units[1] + units[3]) / 2]
    expected = means[0] - (means[0] + means[1]) / 2
    np.testing.assert_allclose(bank.visual[0].numpy(), expected / np.linalg.norm(expected), atol=1e-5)
    with pytest.raises(PrototypeError, match="the class 'empty' has no usable video"):
        classifier.class_means([(str(home / "gone.mp4"), "empty")])


def test_a_single_class_keeps_its_own_mean(classifier: ZeroShotClassifier, home: Path) -> None:
    bank, _ = classifier.class_means([(str(home / "0.mp4"), "only")])
    (video,) = classifier.embed([str(home / "0.mp4")])
    mean = video[0].windows.mean(dim=0)
    torch.testing.assert_close(bank.visual[0], mean / mean.norm())


def test_a_bank_of_another_model_is_refused() -> None:
    with pytest.raises(PrototypeError, match="was made by the model fake-2, but this is fake-1"):
        ZeroShotClassifier(FakeModel("fake-1"), FakeModel("fake-2").bank())


def test_explain_names_seen_classes(classifier: ZeroShotClassifier) -> None:
    explanation = classifier.explain(LabelSet.from_names(["Bright", "jumping"]))
    kinds = {item.label: item.kind for item in explanation.labels}
    assert kinds["Bright"] == "seen"
    assert {part.seen for item in explanation.labels for part in item.components} <= set(SEEN)


def test_run_names_everything_a_result_depends_on(classifier: ZeroShotClassifier) -> None:
    run = classifier.describe(LabelSet.from_names(["jumping"])).to_dict()
    assert run["model"] == {"name": "fake", "fingerprint": "fake-1"}
    assert run["settings"]["top_k"] == 2
    assert run["settings"]["sampling"]["frames"] == 3
    assert run["labels"]["digest"] == LabelSet.from_names(["jumping"]).digest
    assert run["versions"]["torch"] == torch.__version__


def test_load_gives_the_builtin_model_with_its_bank_and_any_other(tmp_path: Path) -> None:
    own = load(device="cpu")
    assert own.bank is not None and len(own.bank) == 1000
    extra = PrototypeBank(
        ("flossing",), own.bank.semantic[:1], own.bank.visual[:1], own.bank.model, own.bank.text_encoder
    )
    extra.write(tmp_path / "extra.safetensors")
    extended = load(device="cpu", prototypes=tmp_path / "extra.safetensors")
    replaced = load(device="cpu", prototypes=tmp_path / "extra.safetensors", bank="replace")
    assert extended.bank is not None and len(extended.bank) == 1000
    assert extended.added is not None and extended.added.labels == ("flossing",)
    assert replaced.bank is not None and replaced.bank.labels == ("flossing",)


def test_load_names_what_is_allowed() -> None:
    with pytest.raises(UsageError, match="--bank merge: unknown; allowed: extend, replace"):
        load(bank="merge")
    with pytest.raises(UsageError, match="--bank replace needs --prototypes"):
        load(bank="replace")
