"""Supervised classifiers against Transformers' own forward pass, and made zero-shot with planted weights."""

from __future__ import annotations

import json
from pathlib import Path

import checkpoints
import pytest
import torch
from checkpoints import ACTIONS
from safetensors.torch import load_file, save_file
from torch import Tensor

from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models.open import load_model
from zsar_cli.models.supervised import ImageClassifier, VideoClassifier
from zsar_cli.transfer.scoring import TransferSettings

Classifier = VideoClassifier | ImageClassifier
CPU = torch.device("cpu")
VIDEO = ("videomae", "timesformer", "vivit")


def load(folder: Path, seen_labels: tuple[str, ...] | None = None) -> Classifier:
    model = load_model(str(folder), CPU, torch.float32, seen_labels)
    assert isinstance(model, Classifier)
    return model


def frames(model: Classifier) -> Tensor:
    shape = (2, model.sampling.frames, 32, 32, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", [*VIDEO, "vit"])
@torch.inference_mode()
def test_features_and_last_layer_agree_with_transformers(family: str) -> None:
    """Features times the rows of the last layer must be the logits that Transformers' own model gives."""
    from test_preprocess import processor
    from transformers import AutoModelForImageClassification, AutoModelForVideoClassification

    folder = checkpoints.of(family)
    maker = AutoModelForVideoClassification if family in VIDEO else AutoModelForImageClassification
    own = maker.from_pretrained(folder)
    model = load(folder)
    clips = frames(model)
    pixels = processor(folder)(list(clips.flatten(0, 1).numpy()), do_resize=False, return_tensors="pt")["pixel_values"]
    pixels = pixels.reshape(-1, 3, 32, 32)
    shape = (2, model.sampling.frames, 3, 32, 32)
    if family in VIDEO:
        wanted = own(pixel_values=pixels.reshape(shape)).logits
    else:
        wanted = own(pixel_values=pixels).logits.reshape(2, model.sampling.frames, -1).mean(dim=1)
    found = own.classifier(model.encode_video(clips))
    assert (found - wanted).abs().max() < 1e-4
    assert wanted.std() > 0.1


# What these checkpoints gave when this was written: a change of Transformers that changes results must be seen.
FROZEN = {
    "videomae": [1.7914, -0.13169, -0.88248, 0.02453],
    "timesformer": [2.20106, 0.89985, 1.54104, 0.54155],
    "vivit": [-2.7072, -0.10088, 1.27695, 0.50747],
    "vit": [-0.42317, 0.00104, 1.157, 0.34936],
}


@pytest.mark.parametrize("family", FROZEN)
def test_results_do_not_drift(family: str) -> None:
    model = load(checkpoints.of(family))
    assert model.encode_video(frames(model))[0, :4].tolist() == pytest.approx(FROZEN[family], abs=1e-4)


@pytest.mark.parametrize(("family", "count"), [("videomae", 4), ("timesformer", 4), ("vivit", 4), ("vit", 8)])
def test_the_number_of_frames_is_the_models_own(family: str, count: int) -> None:
    model = load(checkpoints.of(family))
    assert model.sampling.frames == count
    if family in VIDEO:
        with pytest.raises(UsageError, match=r"--frames 2: .* takes 4 frames"):
            model.encode_video(frames(model)[:, :2])


class Planted:
    """Label texts with the embeddings a test wants."""

    fingerprint = "planted"

    def __init__(self, rows: dict[str, Tensor]) -> None:
        self._rows = rows

    def encode(self, texts: list[str]) -> Tensor:
        return torch.stack([self._rows[text] for text in texts])


def planted(folder: Path) -> Classifier:
    """20 classes whose rows are unit vectors of a space of 32, the same one taken away from all by centring."""
    checkpoints.videomae(folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["classifier.weight"] = torch.eye(20, 32)
    save_file(weights, file, {"format": "pt"})
    model = load(folder)
    texts = dict(zip(ACTIONS, torch.eye(21)[:20], strict=True))
    # Between archery and bowling, and a little towards nothing the model has seen.
    texts["archery on a bowling lane"] = torch.nn.functional.normalize(
        torch.eye(21)[[1, 2, 20]].mT @ torch.tensor([2.0, 1.0, 1.0]), dim=0
    )
    model.text = Planted(texts)
    return model


def test_a_composed_prototype_is_exactly_the_expected_mixture(tmp_path: Path) -> None:
    model = planted(tmp_path)
    settings = TransferSettings(top_k=2, temperature=0.5)
    classifier = ZeroShotClassifier(model, model.bank(), settings)
    labelled = classifier.prepare(LabelSet.from_names(["archery on a bowling lane", "welding"]))
    assert labelled.prototypes is not None and labelled.weights is not None
    cosines = torch.tensor([2.0, 1.0]) / 6**0.5
    archery, bowling = torch.softmax(cosines / 0.5, dim=0).tolist()
    wanted = torch.zeros(2, 20)
    wanted[0, 1], wanted[0, 2], wanted[1, 19] = archery, bowling, 1.0
    assert (labelled.weights - wanted).abs().max() < 1e-6

    rows = torch.eye(20, 32)
    rows = torch.nn.functional.normalize(rows - rows.mean(dim=0), dim=1)
    mixture = archery * rows[1] + bowling * rows[2]
    assert (labelled.prototypes.visual[0] - mixture / mixture.norm()).abs().max() < 1e-6
    assert (labelled.prototypes.visual[1] - rows[19]).abs().max() < 1e-6


def test_the_bank_holds_the_classes_in_order() -> None:
    model = load(checkpoints.of("vivit"))
    bank = model.bank()
    assert bank.labels == ACTIONS
    assert bank.model == model.fingerprint and bank.text_encoder == model.text.fingerprint
    assert bank.visual.shape == (20, 32) and bank.semantic.shape == (20, 384)
    assert model.encode_labels([]) is None


def test_names_used_twice_are_told_apart(tmp_path: Path) -> None:
    twice = ["crane", "heron", "crane"]
    folder = checkpoints.videomae(tmp_path, id2label=dict(enumerate(twice)), label2id={})
    bank = load(folder).bank()
    assert bank.labels == ("crane (class 0)", "heron", "crane (class 2)")
    assert torch.equal(bank.semantic[0], bank.semantic[2])


def test_outputs_without_names_need_seen_labels(tmp_path: Path) -> None:
    folder = checkpoints.videomae(tmp_path, id2label={0: "LABEL_0", 1: "LABEL_1"}, label2id={})
    with pytest.raises(UsageError, match=r"2 classes have no names \(LABEL_0, \.\.\.\).*--seen-labels FILE"):
        load(folder)
    assert load(folder, ("jumping", "sitting")).bank().labels == ("jumping", "sitting")
    with pytest.raises(UsageError, match=r"3 names, but .* has 2 outputs"):
        load(folder, ("a", "b", "c"))


def test_seen_labels_for_a_model_that_classifies_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="is none"):
        load_model(str(checkpoints.of("clip")), CPU, torch.float32, ("a",))


def test_scores_that_are_not_the_last_layers_are_refused() -> None:
    model = load(checkpoints.of("videomae"))
    forward = model._network.forward

    def doubled(**inputs: Tensor) -> object:
        output = forward(**inputs)
        output.logits = 2 * output.logits
        return output

    model._network.forward = doubled
    with pytest.raises(ModelError, match="not those of its last layer"):
        model.encode_video(frames(model))


def broken(folder: Path) -> Path:
    return checkpoints.videomae(folder / "model")


def test_a_damaged_weight_file_is_named(tmp_path: Path) -> None:
    folder = broken(tmp_path)
    (folder / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json at all!")
    with pytest.raises(ModelError, match=r"cannot be loaded; model\.safetensors may be damaged"):
        load(folder)


def test_a_cut_weight_file_is_named(tmp_path: Path) -> None:
    folder = broken(tmp_path)
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=r"model\.safetensors may be damaged"):
        load(folder)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    folder = broken(tmp_path)
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["classifier.weight"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors of .* such as 'classifier\.weight'"):
        load(folder)


def test_pickled_weights_are_refused_unread(tmp_path: Path) -> None:
    folder = broken(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only pickled weights.*zsar models convert"):
        load(folder)


def test_a_model_with_code_of_its_own_is_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "my-own", "auto_map": {"AutoModel": "modeling.Mine"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("raise SystemExit('this code was run')")
    with pytest.raises(ModelError, match="knows no model type 'my-own'; it brings code of its own, which zsar never"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no config.json"), ("{", "not readable JSON"), ("[]", "not a")]
)
def test_a_folder_without_a_readable_config_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(str(tmp_path), CPU, torch.float32)
