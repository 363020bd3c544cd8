"""Bundles of the cross-modal Transformer as models: exact against their parts, and at work in every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rest_bundles
import torch
import yaml
from cli_runner import Finished, label_options
from rest_bundles import CPU, SEEN
from torch.nn.functional import normalize
from videos import write_video

from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.engine.loading import load
from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import Label, LabelSet
from zsar_cli.models.base import Specialist
from zsar_cli.models.open import load_model
from zsar_cli.models.rest import RestVideoModel, open_rest
from zsar_cli.networks.pose import FINGERPRINT as POSE
from zsar_cli.networks.rest import RestHead
from zsar_cli.text.encoder import label_texts
from zsar_cli.text.minilm import minilm
from zsar_cli.training.scoring import Scorer
from zsar_cli.video.reader import read_video

Run = Callable[..., Finished]
UNSEEN = ("hammering a nail", "playing cards", "riding a horse")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rest") / "model"
    rest_bundles.write(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=9).path


def opened(folder: Path) -> RestVideoModel:
    model = load_model(str(folder), CPU, torch.float32)
    assert isinstance(model, RestVideoModel)
    return model


def some_clips(count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, 3, 64, 64, 3), dtype=torch.uint8, generator=generator)


def test_it_encodes_as_its_parts_do(bundle: Path) -> None:
    model, (own, backbone, prototypes) = opened(bundle), rest_bundles.parts()
    with torch.inference_mode():
        views = [normalize(own.encode_video(backbone(view)), dim=1) for view in (some_clips(), some_clips().flip(3))]
        read = minilm().tokens([[name] for name in UNSEEN])
        t = normalize(own.encode_text(read.tokens, read.keep), dim=1)
    torch.testing.assert_close(model.encode_video(some_clips()), (views[0] + views[1]) / 2)
    assert not torch.allclose(views[0], views[1])
    torch.testing.assert_close(model.text.encode(UNSEEN), t)
    torch.testing.assert_close(model.encode_labels(LabelSet.from_names(UNSEEN).labels), t)
    seen = model.bank()
    assert seen.labels == SEEN
    assert seen.model == seen.text_encoder == model.fingerprint == model.text.fingerprint
    torch.testing.assert_close(seen.visual, normalize(prototypes, dim=1))
    torch.testing.assert_close(seen.semantic, model.text.encode(SEEN))


def test_the_engine_scores_as_training_does(bundle: Path, clip: Path) -> None:
    """The classifier on a video against `training.scoring.Scorer` on the grids of its frames."""
    model = opened(bundle)
    own, backbone, prototypes = rest_bundles.parts()
    tokens, described = minilm(), Label("diving", descriptions=("a leap into water",))
    labels = LabelSet.from_names([*UNSEEN, described])
    frames = torch.from_numpy(read_video(str(clip), model.sampling, model.geometry).frames)
    with torch.inference_mode():
        views = [normalize(own.encode_video(backbone(view)), dim=1) for view in (frames, frames.flip(3))]
        v = normalize(torch.stack(views).mean(dim=0), dim=1)
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)):
        scorer = Scorer.of(
            own, RestHead(prototypes), v, tokens.tokens([[name] for name in SEEN]), rest_bundles.TRANSFER
        ).weighed(*weights)
        expected = scorer.scores(v, tokens.tokens([label_texts(label) for label in labels]))
        classifier = ZeroShotClassifier(model, model.bank(), scorer.settings)
        (video,) = classifier.embed([str(clip)])
        found = classifier.similarity(video, classifier.prepare(labels))  # type: ignore[arg-type]
        torch.testing.assert_close(found, expected[0], rtol=1e-4, atol=1e-4)


def test_a_seen_label_gets_its_own_prototype_and_order_does_not_count(bundle: Path) -> None:
    classifier = load(str(bundle))
    ready = classifier.prepare(LabelSet.from_names([UNSEEN[0], SEEN[2]]))
    assert ready.prototypes is not None and classifier.bank is not None
    torch.testing.assert_close(ready.prototypes.visual[1], classifier.bank.visual[2])
    other = classifier.prepare(LabelSet.from_names([SEEN[2], UNSEEN[0]]))
    assert other.prototypes is not None
    torch.testing.assert_close(other.prototypes.visual, ready.prototypes.visual.flip(0))


def shares(finished: Finished) -> dict[str, float]:
    (record,) = json.loads(finished.stdout)["results"] if finished.stdout.startswith("{\n") else finished.records
    return {item["label"]: item["score"] for item in record["predictions"]}


def test_export_then_classify_gives_identical_scores(bundle: Path, clip: Path, tmp_path: Path, zsar_here: Run) -> None:
    names = label_options(UNSEEN)
    run = ("classify", clip, *names, "--model", bundle, "--format", "jsonl", "--no-cache")
    direct = shares(zsar_here(*run, code=0))
    bank = tmp_path / "bank.safetensors"
    zsar_here("export-prototypes", "--model", bundle, "-o", bank, "--no-cache", code=0)
    assert shares(zsar_here(*run, "--prototypes", bank, "--bank", "replace", code=0)) == direct
    assert len(set(direct.values())) == len(UNSEEN)
    rest_bundles.write(tmp_path / "other", seed=1)
    message = zsar_here("classify", clip, *names, "--model", tmp_path / "other", "--prototypes", bank, code=1).stderr
    assert "was made by the model rest-" in message


def test_explain_and_evaluate_work_at_once(bundle: Path, clip: Path, tmp_path: Path, zsar_here: Run) -> None:
    out = zsar_here("explain", *label_options(UNSEEN), "--model", bundle, "--no-cache", code=0).stdout
    assert all(name in out for name in UNSEEN) and any(name in out for name in SEEN)
    for name in UNSEEN:
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "clip.mp4").write_bytes(clip.read_bytes())
    for transfer in ("none", "conse", "relatedness"):
        command = ("evaluate", tmp_path / "data", "--model", bundle, "--transfer", transfer, "--no-cache")
        assert "top-1" in zsar_here(*command, code=0).stdout


@pytest.mark.parametrize(
    ("changed", "config"),
    [
        (True, {}),
        (False, {"name": "resnet18", "weights": "random"}),
        (False, {"name": "r2plus1d_18", "weights": "random", "width": 1 / 8}),
        (
            True,
            {"name": "timesformer-base", "weights": "random", "width": 1 / 12, "frames": 3, "normalisation": "half"},
        ),
    ],
)
def test_weights_that_no_package_brings_travel_in_the_bundle(
    tmp_path: Path, changed: bool, config: dict[str, Any]
) -> None:
    rest_bundles.write(tmp_path / "model", changed=changed, **config)
    own, backbone, _ = rest_bundles.parts(**config)
    with torch.inference_mode():
        v = normalize(own.encode_video(backbone(some_clips())), dim=1)
        mirrored = normalize(own.encode_video(backbone(some_clips().flip(3))), dim=1)
    model = opened(tmp_path / "model")
    torch.testing.assert_close(model.encode_video(some_clips()), (v + mirrored) / 2)
    if "frames" in config:
        with pytest.raises(UsageError, match="--frames 2: the backbone timesformer-base takes 3 frames"):
            model.encode_video(some_clips()[:, :2])


def test_a_bundle_says_where_its_backbone_comes_from(bundle: Path) -> None:
    manifest = yaml.safe_load((bundle / "model.yaml").read_text())
    assert manifest["settings"]["backbone"]["in_bundle"] is False
    assert manifest["settings"]["backbone"]["fingerprint"] == "efficientnet-lite0-579344248a93"
    assert (bundle / "weights.safetensors").stat().st_size < 1e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["shape"].update(width=32), "its settings do not fit its weights"),
        (lambda s: s["shape"].pop("features"), "its settings do not fit its weights"),
        (lambda s: s["clip"].pop("mirror"), "its settings do not fit its weights: 'mirror'"),
        (lambda s: s.pop("specialist"), "its settings do not fit its weights: 'specialist'"),
        (lambda s: s.update(specialist="yes"), "its settings do not fit its weights: a number"),
        (lambda s: s["shape"].update(depth=10**7), "depth is 10000000; it must be less than or equal to 1000"),
        (lambda s: s["shape"].update(width=2**16, heads=4), "parameters; at most 1,000,000,000 are allowed"),
        (lambda s: s["shape"].update(width=8.0), "width is 8.0; it must be a whole number"),
        (lambda s: s["clip"]["sampling"].update(frames=10**9), "frames is 1000000000; it must lie in 1..4096"),
        (lambda s: s["clip"]["geometry"].update(size=10**9), "size is 1000000000; it must lie in 1..4096"),
        (lambda s: s["clip"].update(geometry=[64]), r"\[64\] is no mapping"),
        (lambda s: s["backbone"].update(size=10**9), "size is 1000000000; it must be less than or equal to 4096"),
        (
            lambda s: s["backbone"].update(posture=True, fingerprint=f"{s['backbone']['fingerprint']}+{POSE}"),
            "the backbone gives 1536 channels, 256 of them of a posture",
        ),
        (lambda s: s["backbone"].update(in_bundle=True), "its settings do not fit its weights: Error"),
        (lambda s: s["backbone"].update(weights="random"), "weights is 'random', which the bundle must hold"),
        (lambda s: s["backbone"].update(name="vgg"), "name is 'vgg'"),
        (lambda s: s["backbone"].update(fingerprint="lite-0"), "was trained on lite-0, but this is efficientnet-lite0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[dict[str, dict[str, object]]], object], message: str
) -> None:
    rest_bundles.write(tmp_path / "model")
    file = tmp_path / "model" / "model.yaml"
    manifest = yaml.safe_load(file.read_text())
    change(manifest["settings"])
    file.write_text(yaml.safe_dump(manifest))
    with pytest.raises(ModelError, match=message) as caught:
        open_rest("model", tmp_path / "model", CPU, torch.float32)
    assert str(tmp_path / "model") in str(caught.value)


def test_seen_labels_are_for_classifiers(bundle: Path) -> None:
    with pytest.raises(UsageError, match="knows its own"):
        load_model(str(bundle), CPU, torch.float32, ["a", "b"])


def test_a_changed_setting_is_another_space_and_scoring_is_none(bundle: Path, tmp_path: Path) -> None:
    before = opened(bundle)

    def changed(change: Callable[[dict[str, dict[str, object]]], object]) -> RestVideoModel:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(bundle, folder)
        manifest = yaml.safe_load((folder / "model.yaml").read_text())
        change(manifest["settings"])
        (folder / "model.yaml").write_text(yaml.safe_dump(manifest))
        return opened(folder)

    unmirrored = changed(lambda settings: settings["clip"].update(mirror=False))
    finer = changed(lambda settings: settings["backbone"].update(cells=1))
    assert len({before.fingerprint, unmirrored.fingerprint, finer.fingerprint}) == 3
    assert not torch.allclose(unmirrored.encode_video(some_clips()), before.encode_video(some_clips()))
    assert unmirrored.bank().model == unmirrored.text.fingerprint == unmirrored.fingerprint
    assert changed(lambda settings: settings["transfer"].update(top_k=2)).fingerprint == before.fingerprint


def test_opening_a_bundle_leaves_the_random_state_alone(bundle: Path) -> None:
    before = torch.get_rng_state()
    opened(bundle)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_a_specialist_only_where_its_trainer_said_so(bundle: Path, tmp_path: Path) -> None:
    assert not isinstance(opened(bundle), Specialist)
    rest_bundles.write(tmp_path / "special", specialist=0.9)
    model = opened(tmp_path / "special")
    assert isinstance(model, Specialist)
    assert model.fingerprint == opened(bundle).fingerprint
    both = load([str(bundle), str(tmp_path / "special")])
    assert isinstance(both, Ensemble) and both.weights == (1.0, 0.0)


def test_it_knows_the_labels_that_are_near_to_a_class_of_its_own(tmp_path: Path) -> None:
    rest_bundles.write(tmp_path / "model", specialist=0.75)
    model = opened(tmp_path / "model")
    assert isinstance(model, Specialist)
    encoder = minilm()
    names = [*SEEN, f"somebody {SEEN[0]}", "melting glaciers", "counting coins"]
    rows = [[encoder.encode([text])[0] for text in (name, f"doing {name}")] for name in names]
    classes = encoder.encode(list(SEEN))
    expected = torch.tensor([max(float((classes @ row).max()) for row in pair) >= 0.75 for pair in rows])
    assert 0 < expected.sum() < len(names)
    assert torch.equal(model.knows(LabelSet.from_names(names).labels), expected)
