"""Dual encoders: images or video and text in one space, so that a label's own words can be compared with a video.

CLIP (Radford et al., arXiv 2103.00020), SigLIP and SigLIP 2 (arXiv 2303.15343, 2502.14786) see single frames, whose
unit embeddings are averaged. X-CLIP (Ni et al., arXiv 2208.02816) sees a clip as a whole and rewrites each label's
embedding in the light of the video. VideoPrism (Zhao et al., arXiv 2402.13217), where it has a text encoder, embeds the
frames of a window together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import Label
from zsar_cli.models.base import FrameModel
from zsar_cli.models.preprocess import read_preprocess
from zsar_cli.text.encoder import TextEncoder, encode_text_groups
from zsar_cli.text.minilm import minilm
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Sampling
from zsar_cli.weights.checkpoint import (
    fingerprint,
    load_network,
    quiet_transformers,
    read_config,
    text_fingerprint,
)

__all__ = ["ACTION_PROMPTS", "DualEncoder", "TextTower", "VideoPrism", "XClip", "action_texts", "open_dual"]

# Photographs and videos are captioned in different ways; the mean over a few wordings leaves what they share.
ACTION_PROMPTS = (
    "{}",
    "a video of {}",
    "a video of a person {}",
    "a photo of a person {}",
    "people {}",
    "an example of {}",
)
normalise = torch.nn.functional.normalize
FRAMES = 8  # for encoders of single frames
TEXT_BATCH = 64
# Their published text towers read English alone, but for those with a vocabulary made for more languages.
ENGLISH, MANY_WORDS = ("clip", "siglip", "videoprism", "xclip"), 60_000
TEXT_SCALE = 0.03  # typical spread over labels of cosines between images and texts


class TextTower:
    """The text half of a dual encoder. Implements `semantics.text.TextEncoder`.

    Args:
        network: has `get_text_features`.
        tokenizer: of the checkpoint.
        padding: how texts are made equally long, as in training: "max_length" (SigLIP, VideoPrism) or "longest".
        fingerprint: of weights, tokenizer and precision.
        unit: whether rows are made unit vectors.
    """

    def __init__(self, network: Any, tokenizer: Any, padding: str, fingerprint: str, unit: bool = True) -> None:
        self._network, self._tokenizer, self._padding, self._unit = network, tokenizer, padding, unit
        self._longest = network.config.text_config.max_position_embeddings
        self.fingerprint = fingerprint
        config = network.config
        few_words = getattr(config.text_config, "vocab_size", MANY_WORDS) < MANY_WORDS
        self.languages = ("en",) if few_words and config.model_type in ENGLISH else ()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), D], float32, on the CPU. Texts longer than the network reads are cut."""
        rows = []
        for start in range(0, len(texts), TEXT_BATCH):
            # All these models were trained on lower case; not all tokenizers see to it.
            batch = [text.lower() for text in texts[start : start + TEXT_BATCH]]
            tokens = self._tokenizer(
                batch, padding=self._padding, truncation=True, max_length=self._longest, return_tensors="pt"
            )
            if self._network.config.model_type.startswith("siglip"):  # it was trained without a mask over the padding
                tokens.pop("attention_mask", None)
            output = pooled(self._network.get_text_features(**tokens.to(self._network.device))).float()
            rows.append((normalise(output, dim=1) if self._unit else output).cpu())
        return torch.cat(rows)


class _Dual:
    """What all dual encoders share: `models.base.VideoModel` but for `encode_video`, and `models.base.HasTextTower`.

    Args:
        name: what the user called it.
        folder: a checkpoint in the layout of Transformers.
        network: its network, on the device and in the precision it runs in.
        tokenizer: its tokenizer.
    """

    def __init__(self, name: str, folder: Path, network: Any, tokenizer: Any) -> None:
        config = network.config
        self.name, self._network = name, network
        self.device, self._dtype = network.device, network.dtype
        self.precision = str(network.dtype).removeprefix("torch.")
        self._preprocess = read_preprocess(folder)
        self.geometry = self._preprocess.geometry
        _check_size(folder, config.vision_config, self.geometry.size)
        self.sampling = Sampling(frames=FRAMES)
        self.fingerprint = fingerprint(folder, read_config(folder), "mean of unit frame embeddings")
        padding = "max_length" if config.model_type.startswith(("siglip", "videoprism")) else "longest"
        text = text_fingerprint(folder, self.fingerprint, padding, self.precision)
        self.tower: TextEncoder = TextTower(network, tokenizer, padding, text)
        self.text: TextEncoder = minilm()
        scale = getattr(network, "logit_scale", None)
        # So that shares are the softmax the model was trained with, where it has such a scale.
        sharpness = TEXT_SCALE * float(scale.exp()) if scale is not None else 3.0
        self.transfer = TransferSettings(text_weight=1.0, text_scale=TEXT_SCALE, sharpness=sharpness)

    def bank(self) -> None:
        """Labels are compared by their own text; there are no seen classes until the user gives a bank."""
        return None

    def encode_labels(self, labels: Sequence[Label]) -> Tensor:
        """[U, D], unit rows: for each label the normalised mean over its texts (`action_texts`)."""
        return encode_text_groups(self.tower, [action_texts(label) for label in labels])


class DualEncoder(_Dual, FrameModel):
    """A dual encoder of single frames."""

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """uint8 [F, S, S, 3] -> float32 [F, D], unit rows."""
        pixels = self._preprocess.apply(frames, self.device, self._dtype)
        rows = pooled(self._network.get_image_features(pixel_values=pixels)).float()
        return normalise(rows, dim=1).cpu()


class VideoPrism(_Dual):
    """VideoPrism with its text encoder: attention across the frames of a window."""

    def __init__(self, name: str, folder: Path, network: Any, tokenizer: Any) -> None:
        super().__init__(name, folder, network, tokenizer)
        self.sampling = Sampling(frames=network.config.vision_config.num_frames)

    @torch.inference_mode()
    def encode_video(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, D], unit rows.

        Raises:
            UsageError: T is not the number of frames that the network was trained with.
        """
        if (frames := windows.shape[1]) != self.sampling.frames:
            raise UsageError(f"--frames {frames}: the model '{self.name}' takes {self.sampling.frames} frames")
        pixels = self._preprocess.apply(windows, self.device, self._dtype)
        rows = pooled(self._network.get_video_features(pixel_values_videos=pixels)).flatten(1).float()
        return normalise(rows, dim=1).cpu()


class XClip(_Dual):
    """X-CLIP: attention across frames, and label embeddings that depend on the video.

    Implements `models.base.ConditionsText` too. A row of `encode_video` is the video's embedding [D] and behind it
    the mean over frames of its patch features [P * D], from which labels are rewritten: 400 kB for a base-sized model.
    """

    def __init__(self, name: str, folder: Path, network: Any, tokenizer: Any) -> None:
        super().__init__(name, folder, network, tokenizer)
        self.width = network.config.projection_dim
        self.sampling = Sampling(frames=network.config.vision_config.num_frames)
        # Rewriting adds to embeddings as they come from the tower, whose length therefore matters.
        self.tower = TextTower(network, tokenizer, "longest", self.tower.fingerprint, unit=False)

    @torch.inference_mode()
    def encode_video(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, D + P * D].

        Raises:
            UsageError: T is not the number of frames that the network was trained with.
        """
        batch, frames = windows.shape[:2]
        if frames != self.sampling.frames:
            raise UsageError(f"--frames {frames}: the model '{self.name}' takes {self.sampling.frames} frames")
        net = self._network
        pixels = self._preprocess.apply(windows, self.device, self._dtype)
        seen = net.vision_model(pixel_values=pixels.flatten(0, 1))
        video = net.mit(net.visual_projection(seen[1]).reshape(batch, frames, -1))[1]
        patches = net.prompts_visual_layernorm(seen[0][:, 1:]) @ net.prompts_visual_projection
        context = patches.reshape(batch, frames, -1).mean(dim=1)
        return torch.cat([video, context], dim=1).float().cpu()

    def encode_labels(self, labels: Sequence[Label]) -> Tensor:
        """[U, D]: the mean over the label's own prompts, else its bare text, as in training."""
        groups = [action_texts(label, ("{}",)) for label in labels]
        rows = iter(self.tower.encode([text for group in groups for text in group]))
        return torch.stack([torch.stack([next(rows) for _ in group]).mean(dim=0) for group in groups])

    @torch.inference_mode()
    def condition_text(self, rows: Tensor, text: Tensor) -> Tensor:
        """As `models.base.ConditionsText` (section 3.3 of the paper); float32 [B, U, D] on the CPU."""
        context = rows[:, self.width :].reshape(len(rows), -1, self.width).to(self.device, self._dtype)
        labels = text.to(self.device, self._dtype).expand(len(rows), -1, -1)
        rewritten: Tensor = labels + self._network.prompts_generator(labels, context)
        return rewritten.float().cpu()


OF_VIDEOS: Mapping[str, type[XClip] | type[VideoPrism]] = MappingProxyType({"xclip": XClip, "videoprism": VideoPrism})


def action_texts(label: Label, usual: Sequence[str] = ACTION_PROMPTS) -> list[str]:
    """The label in its own prompts, else in the `usual` ones, and with its descriptions."""
    prompts = label.prompts or usual
    filled = [prompt.replace("{}", label.text) for prompt in prompts]
    return [*filled, *(f"{label.text}: {description}" for description in label.descriptions)]


def open_dual(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> DualEncoder | VideoPrism | XClip:
    """A dual encoder of any architecture that Transformers gives image or video features and text features.

    Raises:
        ModelError: the checkpoint is damaged or no dual encoder.
    """
    network = load_network(folder, "AutoModel", device, dtype)
    of_videos = OF_VIDEOS.get(network.config.model_type)
    sees = of_videos is not None or hasattr(network, "get_image_features")
    if not (sees and hasattr(network, "get_text_features")):
        lacks = "sees no images" if not sees else "has no text encoder"
        raise ModelError(
            f"--model {name}: {type(network).__name__} {lacks}; zsar takes dual encoders (CLIP, SigLIP, X-CLIP, "
            "VideoPrism) and classifiers of videos or images"
        )
    if network.config.model_type == "siglip2":
        raise ModelError(f"--model {name}: NaFlex checkpoints of SigLIP 2 are not supported; take one of fixed size")
    tokenizer = _load_tokenizer(folder)
    return (of_videos or DualEncoder)(name, folder, network, tokenizer)


def pooled(output: Any) -> Tensor:
    """Features as a tensor: Transformers 5 wraps what version 4 returned as it is."""
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


def _load_tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # what Transformers raises for a damaged one is without bound
        reason = " ".join(str(error).split())
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {reason}") from None


def _check_size(folder: Path, config: Any, size: int) -> None:
    """Refuse frames of another side than the network's positions were learned for."""
    wanted = getattr(config, "image_size", size)
    if wanted != size:
        raise ModelError(f"{folder}: the network wants frames of side {wanted}, its processor makes {size}")
