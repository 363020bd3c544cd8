"""The built-in model by OpenVINO: torch's numbers, named in results, and nothing that reports to anyone."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from zsar_cli import load
from zsar_cli.cli import doctor
from zsar_cli.engine.loading import ClassifierSpec
from zsar_cli.errors import MissingExtraError, ModelError, UsageError
from zsar_cli.labels import LabelSet
from zsar_cli.models import device, openvino
from zsar_cli.models.builtin import BuiltinModel
from zsar_cli.models.device import resolve_openvino
from zsar_cli.models.openvino import OpenVINOLite, import_openvino, precisions
from zsar_cli.networks.efficientnet import EfficientNetLite
from zsar_cli.report.resume import _option

CPU = torch.device("cpu")
LABELS = LabelSet.from_names(["juggling", "swimming"])
PIP = "needs the package 'openvino': pip install openvino"

needs_openvino = pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed."""

    def none(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(device.metadata, "version", none)
    monkeypatch.setitem(sys.modules, "openvino", None)


def by_openvino(dtype: torch.dtype = torch.float32) -> BuiltinModel:
    model = BuiltinModel(CPU, dtype)
    model.use_openvino(metadata.version("openvino"))
    return model


def pictures(count: int) -> torch.Tensor:
    """Bytes [count, 260, 260, 3] with shapes in them."""
    noise = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(count))
    return (torch.nn.functional.interpolate(noise, size=260, mode="bilinear") * 255).byte().permute(0, 2, 3, 1)


@needs_openvino
@pytest.mark.parametrize("side", [64, 75, 90])
def test_it_computes_what_torch_does(side: int) -> None:
    torch.manual_seed(0)
    network = EfficientNetLite("efficientnet-lite0").eval()
    for module in network.modules():  # weights of the default size let next to nothing through
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    images = torch.randn(2, 3, side, side)
    with torch.inference_mode():
        expected, found = network(images), OpenVINOLite(network)(images)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@needs_openvino
def test_embeddings_are_those_of_torch() -> None:
    frames = pictures(5)
    model = by_openvino()
    found, expected = (normalize(one.encode_frames(frames), dim=1) for one in (model, BuiltinModel(CPU)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    order = torch.tensor([3, 0, 4, 2, 1])
    torch.testing.assert_close(normalize(model.encode_frames(frames[order]), dim=1), found[order], atol=1e-5, rtol=0)


@needs_openvino
def test_bf16_stays_close_and_is_a_precision_of_its_own() -> None:
    if "bf16" not in precisions():
        pytest.skip("this processor has no bf16")
    low, frames = by_openvino(torch.bfloat16), pictures(2)
    assert cosine_similarity(low.encode_frames(frames), BuiltinModel(CPU).encode_frames(frames)).min() > 0.98
    assert low.precision != BuiltinModel(CPU, torch.bfloat16).precision
    assert _option("precision", low.precision) == "--precision bf16 --runtime openvino"


@needs_openvino
def test_bf16_on_a_processor_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "precisions", lambda: ("fp32",))
    with pytest.raises(UsageError, match="--precision bf16: OpenVINO has none on this processor; take fp32, or "):
        by_openvino(torch.bfloat16).encode_frames(pictures(1))


@needs_openvino
def test_nothing_reports_and_nothing_is_imported_before_it_is_needed() -> None:
    script = """
import sys, torch
from zsar_cli import load
classifier = load(runtime="openvino")
assert "openvino" not in sys.modules
classifier.model.encode_frames(torch.zeros(1, 260, 260, 3, dtype=torch.uint8))
assert "openvino" in sys.modules
print([name for name in sys.modules if "telemetry" in name or name.startswith("openvino.tools")])
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"


@needs_openvino
@pytest.mark.parametrize("runtime", ["auto", "openvino"])
def test_results_name_it(runtime: str) -> None:
    run = load(runtime=runtime, device="cpu").describe(LABELS)
    assert run.versions["openvino"] == metadata.version("openvino")
    assert run.precision == "float32"
    joint = load(["rest-exercises", "builtin"], runtime=runtime, device="cpu").describe(LABELS)
    assert joint.versions["openvino"] == run.versions["openvino"]
    assert "openvino" not in load(runtime="torch").describe(LABELS).versions


@needs_openvino
def test_float32_has_the_same_entries_in_the_cache_and_bf16_others(tmp_path: Path) -> None:
    video = str(tmp_path / "a.mp4")
    keys = {
        (precision, runtime): tuple(
            load(precision=precision, runtime=runtime, device="cpu").pipeline.keys(video, "sampled:1")
        )
        for precision in ("fp32", "bf16")
        for runtime in ("torch", "openvino")
    }
    assert keys["fp32", "torch"] == keys["fp32", "openvino"]
    assert len(set(keys.values())) == 3


def test_without_it_auto_is_torch_and_asking_names_the_pip_line(absent: None) -> None:
    assert resolve_openvino("auto", CPU) is None
    for asked in (lambda: resolve_openvino("openvino", CPU), import_openvino, precisions):
        with pytest.raises(MissingExtraError, match=PIP):
            asked()
    with pytest.raises(MissingExtraError, match=PIP):
        ClassifierSpec(runtime="openvino").build()
    assert doctor._openvino().startswith("not installed; pip install openvino")


def test_one_that_is_broken_is_named_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    monkeypatch.setattr(openvino, "import_module", broken)
    model = BuiltinModel(CPU)
    model.use_openvino("2025.0.0")
    message = r"cannot be used \(libtbb.so.12: .*\): pip install --upgrade openvino, or take --runtime torch"
    with pytest.raises(ModelError, match=message):
        model.encode_frames(pictures(1))
    assert "libtbb.so.12" in doctor._openvino()


def test_other_devices_and_other_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.metadata, "version", lambda name: "2025.0.0")
    gpu = torch.device("cuda", 0)
    assert resolve_openvino("auto", gpu) is None and resolve_openvino("auto", CPU) == "2025.0.0"
    with pytest.raises(UsageError, match="--runtime openvino computes on a CPU, not on cuda:0; give --device cpu"):
        resolve_openvino("openvino", gpu)
    with pytest.raises(UsageError, match="it computes the built-in model alone, not rest-exercises; take auto"):
        load("rest-exercises", runtime="openvino", device="cpu")
