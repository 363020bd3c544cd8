"""LiteRT (.tflite) video and image classifiers, made zero-shot by relatedness transfer in the space of their scores.

A classifier in this format gives scores over its S seen classes and nothing before them, so the scores ARE the visual
space, D = S. With p the class probabilities of a video:

    v   = sqrt(p)                      unit length, so that cos(v, w) = sum sqrt(p q) for w = sqrt(q), the Bhattacharyya
                                       coefficient of two distributions over the seen classes
    P_s = the rows of the identity     a video that is surely of class s

and all else is the one engine's: P_u = normalise(A @ P_s), cosine, ConSE. The root keeps the second and third guess of
the classifier in play, which is what carries an unseen label; plain p listens to the first guess alone, and logits
give weight to the noise among hundreds of classes that are not there.

What a file expects is read from its own signature: the image input and its size, how many frames a call takes, the
state tensors that a streaming model hands from call to call (Kondratyuk et al., MoViNets, arXiv 2103.11511), the
number of classes, and the scale and zero point of what is quantised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.errors import MissingExtraError, ModelError, UsageError
from zsar_cli.labels import Label, LabelSet
from zsar_cli.text.encoder import TextEncoder, encode_labels
from zsar_cli.text.minilm import minilm
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling

__all__ = ["LiteRTModel", "Signature", "TensorSpec", "read_signature", "to_visual"]

SIGNATURE = "serving_default"  # the one that TensorFlow's exporters write
FRAMES = 32  # per window where the file leaves it open; 24 to 48 are as good for MoViNet-A0-Stream, 12 and 96 worse
TRANSFORM = 1  # of scores to the visual space; another way of making v is another space


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a signature.

    Args:
        name: in the signature.
        shape: -1 where the file leaves a size open.
        dtype: of the values as the file takes or gives them.
        scale, zero_point: real value = scale * (value - zero_point); a scale of 0 means not quantised.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0

    def store(self, values: NDArray[Any]) -> NDArray[Any]:
        """Real values as the file takes them."""
        if self.scale == 0.0:
            return values.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        steps = np.round(values / self.scale) + self.zero_point
        return np.clip(steps, limits.min, limits.max).astype(self.dtype)

    def load(self, stored: NDArray[Any]) -> NDArray[Any]:
        """What the file gave as real values; values that are not quantised keep their type."""
        if self.scale == 0.0:
            return stored
        return (stored.astype(np.float32) - self.zero_point) * np.float32(self.scale)

    def same_coding(self, other: TensorSpec) -> bool:
        """True if a stored value means the same in both."""
        return (self.dtype, self.scale, self.zero_point) == (other.dtype, other.scale, other.zero_point)


@dataclass(frozen=True)
class Signature:
    """What a file takes and gives.

    Args:
        image: [1, S, S, 3] (one frame a call) or [1, T, S, S, 3].
        scores: the output with one value per class.
        states: by name, each state input with the output that is fed back to it; empty for a plain classifier.
    """

    image: TensorSpec
    scores: TensorSpec
    states: Mapping[str, tuple[TensorSpec, TensorSpec]]

    @property
    def size(self) -> int:
        """Side of the square frames, in pixels."""
        return self.image.shape[-2]

    @property
    def step(self) -> int | None:
        """Frames one call takes; None where a plain classifier takes any number at once."""
        frames = self.image.shape[1] if len(self.image.shape) == 5 else 1
        if frames == -1:
            return 1 if self.states else None
        return frames

    @property
    def frames(self) -> int:
        """Frames per window: about `FRAMES` for what runs frame by frame, else what one call takes."""
        step = self.step or FRAMES
        return -(-FRAMES // step) * step if self.states or step == 1 else step

    @property
    def classes(self) -> int:
        """S, the number of seen classes."""
        return self.scores.shape[-1]

    def images(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """uint8 [step, S, S, 3] -> the image input: 0..1, quantised where the file wants it so.

        Whole-number inputs without a scale take 0..255 as it is.
        """
        spec = self.image
        whole = spec.scale == 0.0 and np.issubdtype(spec.dtype, np.integer)
        values = spec.store(frames if whole else frames.astype(np.float32) / np.float32(255))
        return values[None] if len(spec.shape) == 5 else values

    def start(self) -> dict[str, NDArray[Any]]:
        """The states before the first frame: real zeros, which is the zero point of a quantised one."""
        return {name: into.store(np.zeros(into.shape)) for name, (into, _) in self.states.items()}

    def hand_on(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The states for the next call."""
        return {
            name: outputs[out.name] if into.same_coding(out) else into.store(out.load(outputs[out.name]))
            for name, (into, out) in self.states.items()
        }


def read_signature(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Signature:
    """Find the image, the scores and the states among what LiteRT tells of a signature's tensors.

    A state is an input whose name is also an output's. Of the rest one input must be the image and one output the
    scores.

    Raises:
        ModelError: what is wrong with the signature, without the file's name.
    """
    given = {name: _spec(name, details) for name, details in inputs.items()}
    made = {name: _spec(name, details) for name, details in outputs.items()}
    states = {name: (given[name], made[name]) for name in sorted(given.keys() & made.keys())}
    images = [spec for name, spec in given.items() if name not in states]
    scores = [spec for name, spec in made.items() if name not in states]
    for what, found in (("input beside its states, the frames", images), ("output beside them, the scores", scores)):
        if len(found) != 1:
            named = ", ".join(sorted(spec.name for spec in found)) or "none"
            raise ModelError(f"needs exactly one {what}, but has {named}")
    for into, out in states.values():
        if -1 in into.shape or into.shape != out.shape:
            raise ModelError(f"state '{into.name}' goes in as {list(into.shape)} and comes out as {list(out.shape)}")
    return Signature(_checked_image(images[0]), _checked_scores(scores[0]), states)


def _spec(name: str, details: Any) -> TensorSpec:
    scale, zero_point = details["quantization"]
    shape = details.get("shape_signature", details["shape"])
    # Shapes without open sizes may have no signature of their own.
    sizes = tuple(int(size) for size in (shape if len(shape) else details["shape"]))
    return TensorSpec(name, sizes, np.dtype(details["dtype"]), float(scale), int(zero_point))


def _checked_image(spec: TensorSpec) -> TensorSpec:
    """Raises ModelError unless one window of square RGB frames of a known size fits."""
    shape = spec.shape
    fits = len(shape) in (4, 5) and shape[0] in (1, -1) and shape[-1] == 3 and shape[-2] == shape[-3] > 0
    if not fits or (len(shape) == 5 and not (shape[1] == -1 or shape[1] > 0)):
        raise ModelError(
            f"takes '{spec.name}' as {list(shape)}; only square RGB frames of a fixed size are understood: "
            "[1, S, S, 3] or [1, T, S, S, 3]"
        )
    return spec


def _checked_scores(spec: TensorSpec) -> TensorSpec:
    """Raises ModelError unless there is one score for each of two or more classes."""
    if not spec.shape or spec.shape[-1] < 2 or any(size not in (1, -1) for size in spec.shape[:-1]):
        raise ModelError(f"gives '{spec.name}' as {list(spec.shape)}; a classifier gives [1, number of classes]")
    return spec


def to_visual(scores: Tensor, probabilities: bool) -> Tensor:
    """v = sqrt(p), [..., S] -> [..., S], unit length.

    Args:
        scores: logits, or probabilities.
        probabilities: which of the two.
    """
    if not probabilities:
        return torch.softmax(scores, dim=-1).sqrt()
    positive = scores.clamp(min=0)  # quantised probabilities sum to 1 but nearly
    return (positive / positive.sum(dim=-1, keepdim=True)).sqrt()


class LiteRTModel:
    """A .tflite classifier with named classes. Implements `models.base.VideoModel`; D = S.

    It computes on the CPU, in the precision of the file. A streaming model sees a window frame by frame from a fresh
    state, so a window's embedding depends on nothing seen before, and its scores after the last frame count; of a plain
    one the mean over its calls counts.

    Args:
        path: the file.
        seen: names of its outputs, in order.
        name: what `--model` takes.
        threads: of the interpreter; None takes torch's number.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
        ModelError: the file is missing, damaged, no classifier, or `seen` is not as long as its output.
    """

    # Chosen with MoViNet-A0-Stream, where ConSE added nothing: the spread is the median over videos of 59 labels, and
    # the sharpness is the one at which shares are nearest to what comes true.
    transfer = TransferSettings(transfer_weight=1.0, conse_weight=0.0, transfer_scale=0.1, sharpness=1.0)

    def __init__(self, path: Path, seen: Sequence[str], name: str | None = None, threads: int | None = None) -> None:
        content = _read(path)
        self.name, self._path = name or str(path), path
        self._labels = LabelSet.from_names(seen)
        self.device = torch.device("cpu")
        try:
            interpreter = _open(content, threads or torch.get_num_threads(), f"the model {path}")
            self._runner = interpreter.get_signature_runner(_signature_name(interpreter))
            self._signature = read_signature(self._runner.get_input_details(), self._runner.get_output_details())
            self._check_labels(len(seen))
            self._probabilities = self._gives_probabilities()
            self.precision = _precision(interpreter)
        except (ValueError, RuntimeError, UnicodeDecodeError) as error:
            raise ModelError(f"{path}: LiteRT cannot run it: {_first_line(error)}") from None
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
        order = "\n".join(self._labels.names)
        digests = [hashlib.sha256(part).hexdigest() for part in (content, order.encode())]
        self.fingerprint = f"litert{TRANSFORM}-{digests[0][:12]}-{digests[1][:8]}"
        self.sampling = Sampling(frames=self._signature.frames)
        self.geometry = Geometry(size=self._signature.size, resize=self._signature.size)
        self.text: TextEncoder = minilm()

    def bank(self) -> PrototypeBank:
        """The S classes of the file: rows of the identity, embeddings of their names."""
        return PrototypeBank(
            labels=self._labels.names,
            semantic=encode_labels(self.text, self._labels.labels),
            visual=torch.eye(len(self._labels)),
            model=self.fingerprint,
            text_encoder=self.text.fingerprint,
        )

    def encode_video(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, D].

        Raises:
            UsageError: T is no multiple of the frames one call of the file takes.
        """
        scores = torch.from_numpy(np.stack([self._scores(window) for window in windows.cpu().numpy()]))
        return to_visual(scores, self._probabilities)

    def encode_labels(self, labels: Sequence[Label]) -> None:
        """A classifier has no text tower."""
        return None

    def _scores(self, window: NDArray[np.uint8]) -> NDArray[np.float32]:
        """[T, S, S, 3] -> [S]: the file's scores of one window."""
        signature = self._signature
        step = signature.step or len(window)
        if len(window) % step:
            raise UsageError(f"--frames {len(window)}: the model {self.name} takes {step} frames or a multiple of that")
        states = signature.start()
        scores = []
        for first in range(0, len(window), step):
            image = signature.images(window[first : first + step])
            outputs = self._runner(**{signature.image.name: image}, **states)
            states = signature.hand_on(outputs)
            scores.append(signature.scores.load(outputs[signature.scores.name]).reshape(-1).astype(np.float32))
        counted: NDArray[np.float32] = scores[-1] if states else np.mean(scores, axis=0)
        return counted

    def _check_labels(self, given: int) -> None:
        classes = self._signature.classes
        if classes == given == len(self._labels):
            return
        merged = f" ({'; '.join(self._labels.notes)})" if self._labels.notes else ""
        raise ModelError(
            f"has {classes} outputs, but the seen labels are {len(self._labels)} different names{merged}; "
            "--seen-labels needs one name for each output, in their order"
        )

    def _gives_probabilities(self) -> bool:
        """Whether the file ends in a softmax, seen from its answer to black frames; also shows that it runs at all."""
        size = self._signature.size
        scores = self._scores(np.zeros((self._signature.step or FRAMES, size, size, 3), np.uint8))
        return bool(np.min(scores) >= 0 and abs(np.sum(scores) - 1) < 0.02)


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise ModelError(f"{path}: is empty (0 bytes)")
    return content


def _open(content: bytes, threads: int, purpose: str) -> Any:
    """An interpreter over the bytes of a file; ValueError comes from LiteRT for what is no such file.

    Raises:
        MissingExtraError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise MissingExtraError("ai-edge-litert", "litert", purpose) from None
    return Interpreter(model_content=content, num_threads=threads)


def _signature_name(interpreter: Any) -> str:
    """Raises ModelError if the file has no signature or several that could be meant."""
    names = sorted(interpreter.get_signature_list())
    if SIGNATURE in names:
        return SIGNATURE
    if len(names) != 1:
        found = f"the signatures {', '.join(names)}" if names else "no signature, which names its inputs and outputs"
        raise ModelError(f"has {found}; convert it anew with one called '{SIGNATURE}'")
    return str(names[0])


def _precision(interpreter: Any) -> str:
    """ "int8" if anything in the file is, else "float32": the input alone does not tell."""
    return "int8" if any(tensor["dtype"] is np.int8 for tensor in interpreter.get_tensor_details()) else "float32"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
