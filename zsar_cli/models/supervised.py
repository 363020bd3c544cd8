"""Any supervised classifier of videos or images as a zero-shot one, without training.

Its features before the last layer are the visual space, the rows of that layer the prototypes of its own classes, the
names of its outputs the seen labels; relatedness of label texts composes prototypes of new labels from them (semantic
transfer, ResT, arXiv 2205.01657).
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import Label
from zsar_cli.models.base import FrameModel
from zsar_cli.models.preprocess import read_preprocess
from zsar_cli.text.encoder import TextEncoder, encode_labels
from zsar_cli.text.minilm import minilm
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.relatedness import centre_rows
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Sampling
from zsar_cli.weights.checkpoint import architecture, fingerprint, load_network, read_config

__all__ = ["ImageClassifier", "VideoClassifier", "open_supervised", "output_names"]

NAMELESS = re.compile(r"LABEL_\d+")  # what Transformers writes where a checkpoint was given no names
IMAGE_FRAMES = 8  # frames of a window that an image classifier sees, one by one
VIDEO_FRAMES = 16  # where a video classifier's configuration does not say


class _Classifier:
    """What classifiers of videos and of images share: `models.base.VideoModel` but for `encode_video`.

    Args:
        name: what the user called it.
        folder: a checkpoint in the layout of Transformers.
        network: its network, on the device and in the precision it runs in.
        classes: names of its outputs, in order.
        frames: how many of a window it sees.
    """

    def __init__(self, name: str, folder: Path, network: Any, classes: Sequence[str], frames: int) -> None:
        self.name, self._network, self._classes = name, network, tuple(classes)
        self._lock = threading.Lock()
        self.device, self._dtype = network.device, network.dtype
        self.precision = str(network.dtype).removeprefix("torch.")
        self._preprocess = read_preprocess(folder)
        self.geometry = self._preprocess.geometry
        self._head = _last_layer(folder, network, len(classes))
        self.sampling = Sampling(frames=frames)
        self.fingerprint = fingerprint(folder, read_config(folder), "input of the last layer")
        self.transfer = TransferSettings(top_k=10)
        self.text: TextEncoder = minilm()

    def bank(self) -> PrototypeBank:
        """The classifier's own classes: centred rows of its last layer, embeddings of their names."""
        return PrototypeBank(
            labels=_unique(self._classes),
            semantic=encode_labels(self.text, [Label(name) for name in self._classes]),
            visual=centre_rows(self._head.weight.detach().float().cpu()),
            model=self.fingerprint,
            text_encoder=self.text.fingerprint,
        )

    def encode_labels(self, labels: Sequence[Label]) -> None:
        """A classifier has no text tower."""
        return None

    def _features(self, frames: Tensor) -> Tensor:
        """What the last layer is given, float32 [B, D] on the CPU; checked to be all that the scores depend on."""
        pixels = self._preprocess.apply(frames, self.device, self._dtype)
        inputs: list[Tensor] = []
        with self._lock:  # a hook sees the calls of all threads
            hook = self._head.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
            try:
                scores = self._network(**{self._network.main_input_name: pixels}).logits
            finally:
                hook.remove()
        if len(inputs) != 1 or inputs[0].ndim != 2 or not _same(self._head(inputs[0]), scores):
            raise ModelError(f"--model {self.name}: its scores are not those of its last layer; zsar cannot use it")
        return inputs[0].float().cpu()


class VideoClassifier(_Classifier):
    """A classifier of videos."""

    @torch.inference_mode()
    def encode_video(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, D]: the features before the last layer.

        Raises:
            UsageError: T is not the number of frames that it was trained with.
            ModelError: its scores are not its last layer's.
        """
        if (frames := windows.shape[1]) != self.sampling.frames:
            raise UsageError(f"--frames {frames}: the model '{self.name}' takes {self.sampling.frames} frames")
        return self._features(windows)


class ImageClassifier(_Classifier, FrameModel):
    """A classifier of images."""

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """uint8 [F, S, S, 3] -> float32 [F, D]: the features before the last layer.

        Raises:
            ModelError: its scores are not its last layer's.
        """
        return self._features(frames)


def open_supervised(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None = None
) -> VideoClassifier | ImageClassifier:
    """A classifier of any architecture that Transformers has for videos or images.

    Args:
        seen_labels: names of its outputs; None takes those in its configuration.

    Raises:
        ModelError: the checkpoint is damaged.
        UsageError: its outputs have no names, or `seen_labels` has another number of them.
    """
    of_videos = architecture(read_config(folder)).endswith("ForVideoClassification")
    kind = "AutoModelForVideoClassification" if of_videos else "AutoModelForImageClassification"
    network = load_network(folder, kind, device, dtype)
    names = output_names(name, network.config.id2label, seen_labels)
    if of_videos:
        return VideoClassifier(name, folder, network, names, _frames(network.config))
    return ImageClassifier(name, folder, network, names, IMAGE_FRAMES)


def output_names(name: str, id2label: Mapping[int, str], seen_labels: Sequence[str] | None) -> tuple[str, ...]:
    """Names of a classifier's outputs, in their order.

    Raises:
        UsageError: there are none (LABEL_0, LABEL_1, ...), or as many as there are not outputs.
    """
    if seen_labels is not None:
        if len(seen_labels) != len(id2label):
            raise UsageError(
                f"--seen-labels: {len(seen_labels)} names, but the model '{name}' has {len(id2label)} outputs; "
                "give one name for each, in the order of the outputs"
            )
        return tuple(seen_labels)
    names = tuple(id2label[index] for index in range(len(id2label)))
    if any(NAMELESS.fullmatch(label) for label in names):
        raise UsageError(
            f"--model {name}: its {len(names)} classes have no names ({names[0]}, ...); "
            "give them in the order of the outputs, one a line: --seen-labels FILE"
        )
    return names


def _last_layer(folder: Path, network: nn.Module, classes: int) -> nn.Linear:
    """The linear layer that makes the scores."""
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not layers or layers[-1].out_features != classes:
        raise ModelError(f"{folder}: {type(network).__name__} does not end in a linear layer of {classes} classes")
    return layers[-1]


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first.float(), second.float(), rtol=1e-2, atol=1e-2)


def _frames(config: Any) -> int:
    return int(getattr(config, "num_frames", None) or getattr(config, "frames_per_clip", None) or VIDEO_FRAMES)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    """Names as they are, but told apart by their number where the classifier uses one twice (ImageNet has cranes)."""
    counts = Counter(names)
    return tuple(name if counts[name] == 1 else f"{name} (class {index})" for index, name in enumerate(names))
