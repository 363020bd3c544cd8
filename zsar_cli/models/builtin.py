"""The built-in model: a supervised image classifier made zero-shot by relatedness transfer.

EfficientNet-Lite2 sees frames; the rows of its classifier are the visual prototypes of 1000 ImageNet classes;
MiniLM relates the user's labels to those classes by their names and by what people do with such things. All weights
arrive as ordinary packages (see weights.md), so nothing is fetched.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from importlib import resources

import torch
from safetensors import safe_open
from torch import Tensor

from zsar_cli.digests import digest
from zsar_cli.errors import ModelError
from zsar_cli.labels import Label
from zsar_cli.models.base import FrameModel
from zsar_cli.models.openvino import OpenVINOLite
from zsar_cli.networks.efficientnet import VARIANTS, EfficientNetLite, fold_batch_norm
from zsar_cli.networks.parts import in_parts
from zsar_cli.plain import read_yaml
from zsar_cli.text.encoder import TextEncoder
from zsar_cli.text.minilm import minilm
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.relatedness import centre_rows
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

__all__ = ["BuiltinModel", "expected_features", "seen_semantic", "seen_texts"]

VARIANT = "efficientnet-lite2"
ALGORITHM = 1  # of making embeddings from the weights; another way of making them is another space


class BuiltinModel(FrameModel):
    """See the module. Implements `models.base.VideoModel` and `RunsOnOpenVINO`; D = 1280, E = 384, S = 1000.

    Args:
        device: where frames are encoded.
        dtype: of the encoder; embeddings come back as float32.
    """

    name = "builtin"
    fingerprint = f"builtin-{digest(ALGORITHM, VARIANT, EFFICIENTNET_LITE2.sha256)[:12]}"
    sampling = Sampling(frames=16)
    transfer = TransferSettings(transfer_weight=0.6, conse_weight=0.4)
    geometry = Geometry(size=VARIANTS[VARIANT].size, resize=VARIANTS[VARIANT].size)

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        published = torch.load(EFFICIENTNET_LITE2.verified(), map_location="cpu", weights_only=True)
        network = EfficientNetLite(VARIANT).eval()
        network.load_state_dict(fold_batch_norm(published))
        self._rows = network.classifier.weight.detach().clone()
        self._origin = expected_features(published["_bn1.weight"], published["_bn1.bias"])
        self._lite = network.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Callable[[Tensor], Tensor] = self._lite
        self.openvino: str | None = None
        self.device, self._dtype = device, dtype
        self.precision = str(dtype).removeprefix("torch.")
        self.text: TextEncoder = minilm()

    def use_openvino(self, version: str) -> None:
        """As `RunsOnOpenVINO.use_openvino`.

        In float32 the embeddings are torch's to 1e-6, so both share a cache; in bfloat16 each rounds in its own way.
        """
        self._network, self.openvino = OpenVINOLite(self._lite, self._dtype), version
        if self._dtype != torch.float32:
            self.precision = f"{self.precision} (openvino)"
        self._dtype = torch.float32  # of the pixels

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """uint8 [F, S, S, 3] -> float32 [F, 1280]: pooled features, less their expectation."""
        images = frames.permute(0, 3, 1, 2).to(self.device, non_blocking=frames.is_pinned())
        return in_parts(self._features, images).cpu() - self._origin

    def _features(self, images: Tensor) -> Tensor:
        """Bytes [n, 3, S, S] -> pooled features, float32 [n, 1280]."""
        pixels = ((images.to(self._dtype) - 127) / 128).contiguous(memory_format=torch.channels_last)
        return self._network(pixels)

    def bank(self) -> PrototypeBank:
        """The 1000 ImageNet classes: centred rows of the classifier, embeddings of names and activities."""
        labels, semantic, phrases = seen_semantic(self.text)
        return PrototypeBank(
            labels=labels,
            semantic=semantic,
            visual=centre_rows(self._rows),
            model=self.fingerprint,
            text_encoder=self.text.fingerprint,
            phrases=phrases,
        )

    def encode_labels(self, labels: Sequence[Label]) -> None:
        """An image classifier has no text tower."""
        return None


def seen_semantic(encoder: TextEncoder) -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Names of the 1000 ImageNet classes, means of the embeddings of their phrases [1000, E], and the phrases.

    The phrases are [1000, K, E]; a class of fewer than K repeats its first. Those of MiniLM come from a file, made by
    examples/maintenance/imagenet_semantic.py from the class names and imagenet_activities.yaml; to embed 3000 phrases
    anew, as for any other encoder, would cost every first run many seconds.
    """
    packaged = resources.files("zsar_cli.models") / "imagenet_semantic.safetensors"
    with resources.as_file(packaged) as path, safe_open(path, framework="pt") as file:
        about = file.metadata()
        labels = tuple(json.loads(about["labels"]))
        phrases = torch.nn.functional.normalize(file.get_tensor("phrases").float(), dim=1)
        index = file.get_tensor("index").long()
    if encoder.fingerprint != about["text_encoder"]:
        groups = seen_texts(labels)
        position = {
            text: number for number, text in enumerate(dict.fromkeys(text for group in groups for text in group))
        }
        phrases = encoder.encode(list(position))
        rows = [torch.tensor([position[text] for text in group]) for group in groups]
        index = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    given = index >= 0
    index = torch.where(given, index, index[:, :1])
    semantic = torch.nn.functional.normalize((phrases[index] * given[:, :, None]).sum(dim=1), dim=1)
    return labels, semantic, phrases[index]


def seen_texts(labels: Sequence[str]) -> list[list[str]]:
    """The phrases of each of the 1000 ImageNet classes: its name, and what people do where it is in view.

    Args:
        labels: their names; of those that share one, the second has " (2)" behind it.
    """
    packaged = resources.files("zsar_cli.models") / "imagenet_activities.yaml"
    with resources.as_file(packaged) as path:
        activities = read_yaml(path, ModelError)
    return [[re.sub(r" \(\d+\)$", "", name), *activities[number]] for number, name in enumerate(labels)]


def expected_features(scale: Tensor, shift: Tensor) -> Tensor:
    """Expectation of the pooled features over the training images, from the last batch norm alone: [D], [D] -> [D].

    Batch norm makes each channel about normal with standard deviation |scale| and mean shift; ReLU6 follows. So the
    expectation is E[clip(shift + |scale| z, 0, 6)], z ~ N(0, 1), in closed form. Without it all videos share a large
    common direction, and class means of videos could not be compared with rows of the classifier.
    """
    spread = scale.double().abs().clamp(min=1e-12)
    mean = shift.double()

    def expected_relu(m: Tensor) -> Tensor:
        """E[max(m + spread z, 0)] = m Phi(m / spread) + spread phi(m / spread)."""
        t = m / spread
        density = torch.exp(-t * t / 2) / math.sqrt(2 * math.pi)
        expected: Tensor = m * torch.special.ndtr(t) + spread * density
        return expected

    return (expected_relu(mean) - expected_relu(mean - 6)).float()  # clip(x, 0, 6) = relu(x) - relu(x - 6)
