"""LiteRT classifiers: signatures, states, quantisation and the visual space, on files whose answers are known.

The oracles are loops in numpy over the same frames. Tests with the real MoViNet need its file and are skipped without.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tflite_files import Graph, write_plain, write_streaming

from zsar_cli.errors import MissingExtraError, ModelError, UsageError
from zsar_cli.models.litert import FRAMES, LiteRTModel, TensorSpec, read_signature, to_visual
from zsar_cli.transfer.compose import compose

NAMES = ("archery", "bowling", "cooking", "dancing", "fencing")
MATRIX = np.random.default_rng(5).normal(size=(len(NAMES), 3)).astype(np.float32) * 3
CLIPS = np.random.default_rng(6).integers(0, 256, (3, 16, 8, 8, 3), dtype=np.uint8)
CLIPS[1] //= 3  # clips that differ in their means too
CLIPS[2, 8:] //= 5


def expected(colours: np.ndarray) -> np.ndarray:
    """sqrt(softmax(matrix @ colour)) for one mean colour [3] in 0..1."""
    powers = np.exp(MATRIX @ colours)
    return np.sqrt(powers / powers.sum())


def mean_colour(clip: np.ndarray) -> np.ndarray:
    return clip.reshape(-1, 3).mean(axis=0) / 255


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return write_plain(tmp_path / "plain.tflite", MATRIX)


@pytest.fixture
def streaming(tmp_path: Path) -> Path:
    return write_streaming(tmp_path / "streaming.tflite", MATRIX)


FLOAT_FILES: dict[str, Any] = {
    "streaming": lambda path: write_streaming(path, MATRIX),
    "streaming, 4 frames a call": lambda path: write_streaming(path, MATRIX, step=4),
    "whole clip": lambda path: write_plain(path, MATRIX, (1, 16, 8, 8, 3)),
    "any number of frames": lambda path: write_plain(path, MATRIX, (1, -1, 8, 8, 3)),
    "ends in a softmax": lambda path: write_plain(path, MATRIX, (1, 16, 8, 8, 3), softmax=True),
    "uint8 input": lambda path: write_plain(path, MATRIX, (1, 16, 8, 8, 3), whole=True),
    "frame by frame": lambda path: write_plain(path, MATRIX),
}


@pytest.mark.parametrize("kind", FLOAT_FILES)
def test_every_kind_of_file_gives_the_root_of_its_class_probabilities(kind: str, tmp_path: Path) -> None:
    model = LiteRTModel(FLOAT_FILES[kind](tmp_path / "model.tflite"), NAMES)
    rows = model.encode_video(torch.from_numpy(CLIPS)).numpy()
    # All of them average over frames, in one call, over calls, or in a state.
    np.testing.assert_allclose(rows, [expected(mean_colour(clip)) for clip in CLIPS], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert rows.dtype == np.float32


def test_quantised_state_starts_at_its_zero_point_and_is_handed_on(tmp_path: Path) -> None:
    scale, zero = 0.125, -100
    model = LiteRTModel(write_streaming(tmp_path / "int8.tflite", MATRIX, coding=(scale, zero)), NAMES)
    stored, sums = zero, []
    state = np.full(3, stored)
    for frame in CLIPS[2]:
        total = (state - zero) * scale + mean_colour(frame)
        sums.append(total)
        state = np.round(total / scale) + zero
    row = model.encode_video(torch.from_numpy(CLIPS[2:])).numpy()[0]
    np.testing.assert_allclose(row, expected(sums[-1] / len(CLIPS[2])), atol=1e-5)
    assert model.precision == "int8"


def test_a_state_that_comes_back_in_another_coding_is_coded_anew() -> None:
    into = TensorSpec("state", (1, 2), np.dtype(np.int8), 0.5, 3)
    out = TensorSpec("state", (1, 2), np.dtype(np.uint8), 0.25, 10)
    image = TensorSpec("image", (1, 4, 4, 3), np.dtype(np.float32))
    scores = TensorSpec("scores", (1, 2), np.dtype(np.float32))
    signature = read_signature(
        {spec.name: _details(spec) for spec in (image, into)}, {spec.name: _details(spec) for spec in (scores, out)}
    )
    given = {"state": np.array([[10, 50]], np.uint8), "scores": np.zeros((1, 2), np.float32)}
    np.testing.assert_array_equal(signature.hand_on(given)["state"], np.array([[3, 23]], np.int8))  # 0.0 and 10.0
    assert signature.hand_on(given)["state"].dtype == np.int8


def _details(spec: TensorSpec) -> dict[str, Any]:
    shape = np.array(spec.shape, np.int32)
    return {"shape": shape, "dtype": spec.dtype.type, "quantization": (spec.scale, spec.zero_point)}


def test_values_beyond_the_range_of_a_coding_are_cut_off() -> None:
    spec = TensorSpec("image", (1, 4, 4, 3), np.dtype(np.int8), 1 / 255, -128)
    np.testing.assert_array_equal(spec.store(np.array([-1.0, 0.0, 1.0, 9.0])), np.array([-128, -128, 127, 127]))
    np.testing.assert_allclose(spec.load(np.array([-128, 127], np.int8)), [0.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("softmax", [False, True])
def test_embeddings_do_not_depend_on_batch_order_or_threads(softmax: bool, tmp_path: Path) -> None:
    path = write_streaming(tmp_path / "model.tflite", MATRIX) if not softmax else None
    path = path or write_plain(tmp_path / "model.tflite", MATRIX, softmax=True)
    together = LiteRTModel(path, NAMES, threads=1).encode_video(torch.from_numpy(CLIPS))
    other = LiteRTModel(path, NAMES, threads=2)
    for index in (2, 0, 1, 2):  # a state left behind by one clip would show in the next
        alone = other.encode_video(torch.from_numpy(CLIPS[index : index + 1]))
        assert torch.equal(alone[0], together[index])


def test_what_the_file_expects_is_read_from_it(tmp_path: Path) -> None:
    def model(name: str, **more: Any) -> LiteRTModel:
        return LiteRTModel(write_plain(tmp_path / name, MATRIX, **more), NAMES)

    one, clip, free = (
        model("1", shape=(1, 6, 6, 3)),
        model("2", shape=(1, 5, 4, 4, 3)),
        model("3", shape=(1, -1, 8, 8, 3)),
    )
    steps = LiteRTModel(write_streaming(tmp_path / "4", MATRIX, size=10, step=5), NAMES)
    assert [m.geometry.size for m in (one, clip, free, steps)] == [6, 4, 8, 10]
    assert [m.sampling.frames for m in (one, clip, free, steps)] == [FRAMES, 5, FRAMES, 35]  # 35: a multiple of 5
    assert one.precision == "float32"
    assert one.device.type == "cpu"


def test_frames_that_do_not_fit_the_file_are_refused(tmp_path: Path) -> None:
    model = LiteRTModel(write_plain(tmp_path / "clip.tflite", MATRIX, (1, 5, 8, 8, 3)), NAMES, name="mine")
    with pytest.raises(UsageError, match="--frames 16: the model mine takes 5 frames or a multiple"):
        model.encode_video(torch.from_numpy(CLIPS))


def test_prototypes_are_the_classes_themselves_and_mix_as_the_engine_says(plain: Path) -> None:
    model = LiteRTModel(plain, NAMES)
    bank = model.bank()
    assert bank.labels == NAMES
    assert torch.equal(bank.visual, torch.eye(len(NAMES)))
    between = torch.nn.functional.normalize(bank.semantic[0] + bank.semantic[3], dim=0)[None]
    composed, weights = compose(bank, ["archery dance"], between, top_k=2, temperature=0.05)
    half = (bank.semantic[[0, 3]] @ between[0] / 0.05).softmax(dim=0)
    torch.testing.assert_close(weights[0, [0, 3]], half)
    torch.testing.assert_close(composed.visual[0, [0, 3]], half / half.norm())
    row = model.encode_video(torch.from_numpy(CLIPS[:1]))[0]
    assert float(row @ composed.visual[0]) == pytest.approx(float(row[[0, 3]] @ half / half.norm()), abs=1e-6)


def test_to_visual_of_probabilities_and_of_their_logarithms_agree() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.9, 0.1, 0.0]])
    torch.testing.assert_close(to_visual(shares, probabilities=True), to_visual(shares.log(), probabilities=False))
    torch.testing.assert_close(
        to_visual(shares * 1.01, probabilities=True), shares.sqrt()
    )  # quantised sums are inexact


def test_fingerprint_follows_the_weights_and_the_order_of_names(tmp_path: Path, plain: Path) -> None:
    same = write_plain(tmp_path / "copy.tflite", MATRIX)
    other = write_plain(tmp_path / "other.tflite", MATRIX + 1)
    first = LiteRTModel(plain, NAMES).fingerprint
    assert LiteRTModel(same, NAMES).fingerprint == first
    assert LiteRTModel(other, NAMES).fingerprint != first
    assert LiteRTModel(plain, NAMES[::-1]).fingerprint != first


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (NAMES[:4], "has 5 outputs, but the seen labels are 4 different names; --seen-labels needs one name"),
        ((*NAMES, "golf"), "has 5 outputs, but the seen labels are 6"),
        ((*NAMES[:4], "Archery"), "has 5 outputs, but the seen labels are 4 different names .*Archery"),
    ],
)
def test_as_many_names_as_outputs(names: tuple[str, ...], message: str, plain: Path) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        LiteRTModel(plain, names)
    assert str(caught.value).startswith(str(plain))


def _two_images(path: Path) -> Path:
    graph = Graph()
    first, second = graph.tensor("first", [1, 8, 8, 3]), graph.tensor("second", [1, 8, 8, 3])
    return graph.write(path, {"first": first, "second": second}, {"scores": graph.constant([[1.0, 2.0]])}, "a")


BROKEN: dict[str, tuple[Any, str]] = {
    "missing": (lambda path: path, "cannot be read: No such file"),
    "not a model": (lambda path: path.write_bytes(b"<html>" * 99), "LiteRT cannot run it: .*[Ff]latbuffer"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "no signature": (lambda path: write_plain(path, MATRIX, signature=None), "has no signature"),
    "not square": (lambda path: write_plain(path, MATRIX, (1, 8, 6, 3)), r"takes 'frames' as \[1, 8, 6, 3\]"),
    "open size": (lambda path: write_plain(path, MATRIX, (1, -1, -1, 3)), r"takes 'frames' as \[1, -1, -1, 3\]"),
    "two images": (_two_images, "needs exactly one input beside its states, the frames, but has first, second"),
    "one class": (lambda path: write_plain(path, MATRIX[:1]), r"gives 'scores' as \[1, 1\]"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_no_classifier_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, message = BROKEN[kind]
    make(path := tmp_path / "model.tflite")
    with pytest.raises(ModelError, match=message) as caught:
        LiteRTModel(path, NAMES)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_refused(plain: Path) -> None:
    content = plain.read_bytes()
    plain.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="LiteRT cannot run it"):
        LiteRTModel(plain, NAMES)


def test_without_the_extra_the_pip_line_is_named(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(MissingExtraError, match=r"plain.tflite needs .*pip install ai-edge-litert"):
        LiteRTModel(plain, NAMES)


@pytest.fixture(scope="module")
def movinet() -> LiteRTModel:
    """MoViNet-A0-Stream on Kinetics-600, int8, from the folder that ZSAR_TEST_MOVINET names."""
    folder = os.environ.get("ZSAR_TEST_MOVINET")
    if not folder:
        pytest.skip("ZSAR_TEST_MOVINET names no folder with movinet_a0_stream_int8.tflite and its label map")
    names = (Path(folder) / "kinetics600_label_map.txt").read_text(encoding="utf-8").splitlines()
    return LiteRTModel(Path(folder) / "movinet_a0_stream_int8.tflite", names)


def test_movinet_agrees_with_a_plain_loop_over_its_states(movinet: LiteRTModel) -> None:
    from ai_edge_litert.interpreter import Interpreter

    assert (movinet.geometry.size, movinet.sampling.frames, movinet.precision) == (172, FRAMES, "int8")
    clip = np.random.default_rng(0).integers(0, 256, (4, 172, 172, 3), dtype=np.uint8)
    run = Interpreter(model_path=movinet.name).get_signature_runner("serving_default")
    states = {name: np.zeros(info["shape"], info["dtype"]) for name, info in run.get_input_details().items()}
    for frame in clip:
        states["image"] = (frame / 255).astype(np.float32)[None, None]
        outputs = run(**states)
        logits = outputs.pop("logits")
        states = outputs
    powers = np.exp(logits[0] - logits.max())
    row = movinet.encode_video(torch.from_numpy(clip)[None])[0].numpy()
    np.testing.assert_allclose(row, np.sqrt(powers / powers.sum()), atol=1e-5)


def test_opening_and_running_leaves_the_descriptors_of_its_host_alone(streaming: Path) -> None:
    script = (
        "import os, sys, torch; from pathlib import Path; from zsar_cli.models.litert import LiteRTModel\n"
        "moved, os.dup2 = [], lambda *given: moved.append(given)\n"
        f"model = LiteRTModel(Path(sys.argv[1]), {NAMES!r})\n"
        "model.encode_video(torch.zeros(1, 2, 8, 8, 3, dtype=torch.uint8))\n"
        "print(moved)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(streaming)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
