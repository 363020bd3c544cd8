"""Dual encoders against Transformers' own forward pass on the same frames and texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import checkpoints
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from zsar_cli.engine.classifier import ZeroShotClassifier
from zsar_cli.engine.pipeline import Embedding
from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import Label, LabelSet
from zsar_cli.models.base import ConditionsText, HasTextTower
from zsar_cli.models.dual import ACTION_PROMPTS, DualEncoder, VideoPrism, XClip, action_texts, open_dual
from zsar_cli.models.open import load_model
from zsar_cli.transfer.scoring import score_labels
from zsar_cli.video.types import Sampling, VideoFacts, VideoInfo
from zsar_cli.weights.checkpoint import fingerprint

CPU = torch.device("cpu")
TEXTS = ("riding a bike", "archery", "a b c d e f g h i j k l m n o p q r s t u v w x y z")
LABELS = [Label(text, prompts=("{}",)) for text in TEXTS]


def load(family: str) -> DualEncoder | XClip:
    model = load_model(str(checkpoints.of(family)), CPU, torch.float32)
    assert isinstance(model, DualEncoder | XClip)
    return model


def frames(model: DualEncoder | XClip, videos: int = 2) -> Tensor:
    shape = (videos, model.sampling.frames, 32, 32, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def own_inputs(family: str, clips: Tensor) -> dict[str, Any]:
    """What the checkpoint's own processor and tokenizer make of the frames and texts."""
    from transformers import AutoImageProcessor, AutoTokenizer

    folder = checkpoints.of(family)
    pictures = AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = pictures(list(clips.flatten(0, 1).numpy()), do_resize=False, return_tensors="pt")["pixel_values"]
    lengths = {"padding": "max_length", "max_length": 64} if family == "siglip" else {"padding": True}
    tokens = AutoTokenizer.from_pretrained(folder)(list(TEXTS), **lengths, return_tensors="pt")
    return {**tokens, "pixel_values": pixels.reshape(-1, 3, 32, 32)}


@pytest.mark.parametrize("family", ["clip", "siglip"])
@torch.inference_mode()
def test_image_encoders_agree_with_transformers(family: str) -> None:
    from transformers import AutoModel

    model = load(family)
    clips = frames(model)
    output = AutoModel.from_pretrained(checkpoints.of(family))(**own_inputs(family, clips))
    wanted_text = normalize(output.text_embeds, dim=1)
    wanted_video = normalize(output.image_embeds, dim=1).reshape(2, model.sampling.frames, -1).mean(dim=1)
    assert (model.encode_video(clips) - wanted_video).abs().max() < 1e-4
    assert (model.encode_labels(LABELS) - wanted_text).abs().max() < 1e-4
    assert wanted_text.std(dim=0).min() > 1e-3  # the texts differ, so agreement says something


@torch.inference_mode()
def test_videoprism_agrees_with_transformers() -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = checkpoints.of("videoprism")
    model = load_model(str(folder), CPU, torch.float32)
    assert isinstance(model, VideoPrism) and model.sampling.frames == 4
    network = AutoModel.from_pretrained(folder)
    clips = torch.randint(0, 256, (2, 4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    texts = list(TEXTS[:2])
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding="max_length", max_length=16, return_tensors="pt")
    # As its own processor: bytes to 0..1, nothing more.
    output = network(pixel_values_videos=clips.permute(0, 1, 4, 2, 3) / 255, **tokens)
    assert (model.encode_video(clips) - output.video_embeds).abs().max() < 1e-4
    assert (model.encode_labels(LABELS[:2]) - output.text_embeds).abs().max() < 1e-4
    assert (output.video_embeds[0] - output.video_embeds[1]).abs().max() > 1e-3
    assert (output.text_embeds[0] - output.text_embeds[1]).abs().max() > 1e-3
    assert model.tower.languages == ("en",)
    with pytest.raises(UsageError, match=r"--frames 3: .* takes 4 frames"):
        model.encode_video(clips[:, :3])


@torch.inference_mode()
def test_xclip_agrees_with_transformers_down_to_its_rewritten_texts() -> None:
    from transformers import AutoModel

    model = load("xclip")
    assert isinstance(model, XClip)
    clips = frames(model)
    inputs = own_inputs("xclip", clips)
    pixels = inputs["pixel_values"].reshape(2, 4, 3, 32, 32)
    output = AutoModel.from_pretrained(checkpoints.of("xclip"))(**{**inputs, "pixel_values": pixels})
    rows, text = model.encode_video(clips), model.encode_labels(LABELS)
    rewritten = model.condition_text(rows, text)
    assert (normalize(rows[:, : model.width], dim=1) - output.video_embeds).abs().max() < 1e-4
    assert (normalize(rewritten, dim=2) - output.text_embeds).abs().max() < 1e-4
    assert (rewritten[0] - rewritten[1]).abs().max() > 1e-2  # each video sees the labels in its own way
    similarity = score_labels(rows[:, : model.width], model.transfer, text=rewritten) * model.transfer.text_scale
    logits = similarity * model._network.logit_scale.exp()
    assert (logits - output.logits_per_video).abs().max() < 1e-4


def test_shares_of_xclip_are_its_own_softmax() -> None:
    """Through the classifier, which must split the rows and rewrite the labels."""
    from transformers import AutoModel

    model = load("xclip")
    clips = frames(model, videos=1)
    facts = VideoFacts("x.mp4", VideoInfo(32, 32, 1.0, 4.0, "h264", "mp4"), Sampling(1, 4), "pyav", "1")
    video = Embedding(facts, torch.tensor([[0.0, 1.0]]), model.encode_video(clips))
    classifier = ZeroShotClassifier(model, None)
    (record,) = classifier.records([(video,)], classifier.prepare(LabelSet(tuple(LABELS))))
    inputs = own_inputs("xclip", clips)
    with torch.inference_mode():
        own = AutoModel.from_pretrained(checkpoints.of("xclip"))(
            **{**inputs, "pixel_values": inputs["pixel_values"][None]}
        )
    wanted = dict(zip(TEXTS, own.logits_per_video[0].softmax(dim=0).tolist(), strict=True))
    assert {item.label: item.score for item in record.predictions} == pytest.approx(wanted, abs=1e-4)


# What these checkpoints gave when this was written: a change of Transformers that changes results must be seen.
FROZEN = {
    "clip": ([-0.08489, 0.22864, 0.07556, -0.06034], [-0.05402, 0.39942, -0.23614, -0.23414]),
    "siglip": ([0.11412, -0.0226, -0.15081, -0.05551], [0.11271, 0.07782, -0.07251, 0.11459]),
    "xclip": ([-2.88045, 4.00484, 4.3147, -0.18505], [-1.17575, 4.41139, -2.44043, -2.38533]),
}


@pytest.mark.parametrize("family", FROZEN)
def test_results_do_not_drift(family: str) -> None:
    model = load(family)
    video, text = model.encode_video(frames(model)), model.encode_labels([Label("archery")])
    wanted_video, wanted_text = FROZEN[family]
    assert video[0, :4].tolist() == pytest.approx(wanted_video, abs=1e-4)
    assert text[0, :4].tolist() == pytest.approx(wanted_text, abs=1e-4)


def test_labels_are_encoded_in_several_wordings() -> None:
    model = load("clip")
    texts = action_texts(Label("riding a bike", descriptions=("on two wheels",)))
    assert texts == [
        *(prompt.replace("{}", "riding a bike") for prompt in ACTION_PROMPTS),
        "riding a bike: on two wheels",
    ]
    assert action_texts(Label("x", prompts=("the {}",))) == ["the x"]
    mean = normalize(model.tower.encode(action_texts(Label("archery"))).mean(dim=0), dim=0)
    assert (model.encode_labels([Label("Archery")])[0] - mean).abs().max() < 1e-6


def test_more_texts_than_a_batch_come_back_in_order() -> None:
    model = load("clip")
    texts = [f"{first} {second}" for first in "abcdefghij" for second in "abcdefghij"]
    alone = model.tower.encode(texts[70:71])
    assert torch.allclose(model.tower.encode(texts)[70:71], alone, atol=1e-5)


def test_sharded_weights_give_the_same_model(tmp_path: Path) -> None:
    folder = checkpoints.clip(tmp_path / "sharded", max_shard_size="40KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 1
    one, many = load("clip"), load_model(str(folder), CPU, torch.float32)
    assert torch.equal(one.encode_video(frames(one)), many.encode_video(frames(one)))
    next(folder.glob("model-00002-*")).unlink()
    with pytest.raises(ModelError, match=r"model-00002-of-\d+\.safetensors is missing"):
        load_model(str(folder), CPU, torch.float32)


def test_the_labels_fingerprint_follows_the_tokenizer_too(tmp_path: Path) -> None:
    first = load("clip")
    shutil.copytree(checkpoints.of("clip"), tmp_path / "model")
    vocabulary = tmp_path / "model" / "vocab.json"
    entries = json.loads(vocabulary.read_text())
    entries["a</w>"], entries["b</w>"] = entries["b</w>"], entries["a</w>"]
    vocabulary.write_text(json.dumps(entries))
    second = load_model(str(tmp_path / "model"), CPU, torch.float32)
    assert isinstance(first, HasTextTower) and isinstance(second, HasTextTower)
    assert not torch.allclose(first.tower.encode(["a"]), second.tower.encode(["a"]))
    assert first.tower.fingerprint != second.tower.fingerprint
    assert first.fingerprint == second.fingerprint


def test_weights_that_bear_the_name_of_others_do_not_pass_for_them(tmp_path: Path) -> None:
    fingerprints = set()
    for number, content in enumerate((b"one", b"two")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / ("0" * 64)).write_bytes(content)  # a blob of the hub's cache is named by its sha256
        (folder / "model.safetensors").symlink_to("0" * 64)
        fingerprints.add(fingerprint(folder, {}))
    assert len(fingerprints) == 2


def test_the_fingerprint_follows_weights_and_preprocessing(tmp_path: Path) -> None:
    first = load("clip").fingerprint
    same = checkpoints.clip(tmp_path / "same")
    assert load_model(str(same), CPU, torch.float32).fingerprint == first
    checkpoints.write_processor(same, image_mean=[0.5] * 3)
    assert load_model(str(same), CPU, torch.float32).fingerprint != first


def test_half_precision_stays_close() -> None:
    model = load("clip")
    half = load_model(str(checkpoints.of("clip")), CPU, torch.bfloat16)
    assert half.precision == "bfloat16"
    cosine = torch.nn.functional.cosine_similarity(model.encode_video(frames(model)), half.encode_video(frames(model)))
    assert cosine.min() > 0.99
    assert isinstance(half, HasTextTower) and half.tower.fingerprint != model.tower.fingerprint


def test_only_xclip_rewrites_labels() -> None:
    assert isinstance(load("xclip"), ConditionsText)
    assert not isinstance(load("clip"), ConditionsText)


def test_xclip_refuses_another_number_of_frames() -> None:
    model = load("xclip")
    with pytest.raises(UsageError, match=r"--frames 3: .* takes 4 frames"):
        model.encode_video(frames(model)[:, :3])


def test_a_model_of_text_alone_is_refused(tmp_path: Path) -> None:
    folder = checkpoints.bert(tmp_path / "bert")
    with pytest.raises(ModelError, match="is a model of text, which sees no video; --text-encoder may take it"):
        load_model(str(folder), CPU, torch.float32)
    with pytest.raises(ModelError, match="BertModel sees no images"):
        open_dual("bert", folder, CPU, torch.float32)


def test_frames_of_the_wrong_side_are_refused(tmp_path: Path) -> None:
    folder = checkpoints.clip(tmp_path / "clip")
    checkpoints.write_processor(folder, size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40})
    with pytest.raises(ModelError, match="wants frames of side 32, its processor makes 40"):
        load_model(str(folder), CPU, torch.float32)
