"""Dual encoders of the package open_clip: PE-Core, MobileCLIP2, DFN, SigLIP 2 and whatever else it can build.

A checkpoint is a folder with open_clip_config.json and weights. open_clip makes the network and the tokens; frames are
made ready by zsar, from the numbers in that file. Nothing is fetched and no code of a checkpoint is run: what open_clip
would look up on a hub by a name in the configuration is refused.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli.digests import digest, known_sha256
from zsar_cli.errors import MissingExtraError, ModelError
from zsar_cli.labels import Label
from zsar_cli.models.base import FrameModel
from zsar_cli.models.dual import FRAMES, MANY_WORDS, TEXT_BATCH, TEXT_SCALE, action_texts
from zsar_cli.models.preprocess import Preprocess, colours
from zsar_cli.text.encoder import TextEncoder, encode_text_groups
from zsar_cli.text.minilm import minilm
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.types import Geometry, Sampling
from zsar_cli.weights.checkpoint import text_fingerprint
from zsar_cli.weights.openclip import CONFIG, open_clip_weights, read_open_clip_config

__all__ = ["OpenClip", "open_openclip", "preprocess_of"]

PRECISIONS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
TOKENIZER_SETTINGS = ("clean", "strip_sep_token")  # of those that open_clip takes, what neither fetches nor draws lots
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class OpenClipText:
    """The text half. Implements `text.encoder.TextEncoder`.

    Args:
        network: has `encode_text`.
        tokenizer: of the checkpoint, from texts to int64 [R, L].
        fingerprint: of weights, tokenizer and precision.
        few_words: whether the vocabulary is too small for more languages than English.
    """

    def __init__(self, network: Any, tokenizer: Any, fingerprint: str, few_words: bool) -> None:
        self._network, self._tokenizer, self.fingerprint = network, tokenizer, fingerprint
        self._device = network.logit_scale.device
        self.languages = ("en",) if few_words else ()

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), D], float32, unit rows, on the CPU. Texts longer than the network reads are cut."""
        rows = []
        for start in range(0, len(texts), TEXT_BATCH):
            tokens = self._tokenizer(list(texts[start : start + TEXT_BATCH])).to(self._device)
            rows.append(torch.nn.functional.normalize(self._network.encode_text(tokens).float(), dim=1).cpu())
        return torch.cat(rows)


class OpenClip(FrameModel):
    """A dual encoder of single frames. Implements `models.base.VideoModel` and `HasTextTower`.

    Args:
        name: what the user called it.
        folder: with the configuration and the weights.
        network: made of them, on the device it runs on.
        dtype: the precision it runs in; some layers of it are kept in float32.
        tokenizer: of the checkpoint.
        preprocess: how frames are made ready.
    """

    def __init__(
        self, name: str, folder: Path, network: Any, dtype: torch.dtype, tokenizer: Any, preprocess: Preprocess
    ) -> None:
        self.name, self._network, self._dtype, self._preprocess = name, network, dtype, preprocess
        self.device = network.logit_scale.device
        self.precision = str(dtype).removeprefix("torch.")
        self.geometry, self.sampling = preprocess.geometry, Sampling(frames=FRAMES)
        files = (folder / CONFIG, open_clip_weights(folder))
        content = [(file.name, known_sha256(file)) for file in files]
        self.fingerprint = f"openclip-{digest(content, 'mean of unit frame embeddings')[:12]}"
        few = int(read_open_clip_config(folder)["model_cfg"]["text_cfg"].get("vocab_size", 49408)) < MANY_WORDS
        text = text_fingerprint(folder, self.fingerprint, self.precision)
        self.tower: TextEncoder = OpenClipText(network, tokenizer, text, few)
        self.text: TextEncoder = minilm()
        # So that shares are the softmax the model was trained with.
        sharpness = TEXT_SCALE * float(network.logit_scale.exp())
        self.transfer = TransferSettings(text_weight=1.0, text_scale=TEXT_SCALE, sharpness=sharpness)

    def bank(self) -> None:
        """Labels are compared by their own text; there are no seen classes until the user gives a bank."""
        return None

    def encode_labels(self, labels: Sequence[Label]) -> Tensor:
        """[U, D], unit rows: for each label the normalised mean over its texts (`action_texts`)."""
        return encode_text_groups(self.tower, [action_texts(label) for label in labels])

    @torch.inference_mode()
    def encode_frames(self, frames: Tensor) -> Tensor:
        """uint8 [F, S, S, 3] -> float32 [F, D], unit rows."""
        pixels = self._preprocess.apply(frames, self.device, self._dtype)
        return torch.nn.functional.normalize(self._network.encode_image(pixels).float(), dim=1).cpu()


def open_openclip(name: str, folder: Path, device: torch.device, dtype: torch.dtype) -> OpenClip:
    """A dual encoder of any architecture of open_clip.

    Raises:
        MissingExtraError: open_clip is not installed.
        ModelError: the checkpoint is damaged, or asks for what zsar does not do.
    """
    config = read_open_clip_config(folder)
    weights = open_clip_weights(folder)
    _refuse_lookups(folder, config["model_cfg"])
    open_clip = _package()
    text = config["model_cfg"]["text_cfg"]
    own = {"trust_remote_code": False, "local_files_only": True} if text.get("hf_tokenizer_name") else {}
    with _quiet_root():
        try:
            network = open_clip.create_model(
                f"local-dir:{folder}",
                load_weights=False,
                pretrained_text=False,
                precision=PRECISIONS[dtype],
                device=device,
            )
            tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}", **own)
        except Exception as error:  # it builds whatever the file says; what that raises for nonsense is without bound
            raise ModelError(f"{folder}: open_clip cannot make it: {' '.join(str(error).split())}") from None
    _load(network, weights)
    preprocess = preprocess_of(folder, config.get("preprocess_cfg") or {}, network.visual.image_size)
    return OpenClip(name, folder, network.eval().requires_grad_(False), dtype, tokenizer, preprocess)


def preprocess_of(folder: Path, given: Mapping[str, Any], side: int | Sequence[int]) -> Preprocess:
    """What open_clip's own transform does, from its configuration.

    Args:
        given: its `preprocess_cfg`; what is missing is as open_clip has it.
        side: of the frames the network takes, which goes before `given`.

    Raises:
        ModelError: it asks for what zsar does not do.
    """
    sides = (side, side) if isinstance(side, int) else tuple(side)
    mode, fill = given.get("resize_mode") or "shortest", given.get("fill_color") or 0
    if len(set(sides)) != 1 or mode not in ("shortest", "longest", "squash") or given.get("mode", "RGB") != "RGB":
        raise ModelError(f"{folder / CONFIG}: asks for frames of {sides} by '{mode}'; zsar makes squares in RGB")
    if mode == "longest" and fill != 0:
        raise ModelError(f"{folder / CONFIG}: asks for a border of colour {fill}; zsar makes black ones")
    size = int(sides[0])
    geometry = Geometry(size, resize=size if mode == "shortest" else None, letterbox=mode == "longest")
    try:
        mean, std = (
            colours(list(given.get(key) or usual)) for key, usual in (("mean", OPENAI_MEAN), ("std", OPENAI_STD))
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG}: its mean or std is no three numbers: {error}") from None
    return Preprocess(geometry, scale=1 / 255, offset=0.0, mean=mean, std=std)


def _refuse_lookups(folder: Path, model: Mapping[str, Any]) -> None:
    """Refuse a configuration by which open_clip would fetch something, or draw lots over words.

    Raises:
        ModelError: it is one.
    """
    text, vision = model["text_cfg"], model["vision_cfg"]
    if "hf_model_name" in text:
        why = f"its text encoder is {text['hf_model_name']}, which open_clip looks up on the hub each time"
    elif ":" in str(vision.get("timm_model_name", "")):
        why = f"its image encoder is {vision['timm_model_name']}, which open_clip would look up"
    elif other := sorted(set(text.get("tokenizer_kwargs") or {}) - set(TOKENIZER_SETTINGS)):
        why = f"it sets '{other[0]}' of the tokenizer"
    else:
        return
    raise ModelError(f"{folder / CONFIG}: {why}; zsar does not support that")


def _package() -> Any:
    """The package open_clip.

    Raises:
        MissingExtraError: it is not installed.
        ModelError: it is, but does not import.
    """
    try:
        import open_clip
    except ImportError:
        raise MissingExtraError("open-clip-torch", "openclip", "this model") from None
    except RuntimeError as error:  # a torchvision that was built for another torch
        reason = " ".join(str(error).split())
        raise ModelError(
            f"open_clip cannot be imported: {reason}; torch and torchvision must be of one build"
        ) from None
    return open_clip


def _load(network: Any, file: Path) -> None:
    """Put the weights of a file into a network, as `open_clip.load_checkpoint` does, but never a pickle's code.

    Raises:
        ModelError: the file is damaged or of another architecture.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    weights: Any = convert_state_dict(network, _read(file))
    if "positional_embedding" in weights and not hasattr(network, "positional_embedding"):
        weights = convert_to_custom_text_state_dict(weights)
    for name in ("logit_scale", "logit_bias"):
        if name in weights and getattr(network, name, None) is not None:
            weights[name] = weights[name].reshape(getattr(network, name).shape)
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelError(f"{file}: does not fit {CONFIG} beside it: {' '.join(str(error).split())[:300]}") from None


def _read(file: Path) -> dict[str, Tensor]:
    from zsar_cli.weights.convert import read_pickled

    if file.suffix != ".safetensors":
        return read_pickled(file)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file}: is damaged: {error}; pull or copy the model anew") from None


@contextlib.contextmanager
def _quiet_root() -> Iterator[None]:
    """open_clip logs by the root logger, and the first line there would set up a handler for the whole process."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
