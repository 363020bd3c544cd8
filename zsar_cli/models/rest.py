"""A trained cross-modal Transformer with its backbone, read from a bundle: the paper's model as one of `VideoModel`.

Relatedness is computed among the model's own label embeddings t, not among the sentence encoder's: `text` runs the
sentence encoder's tokens through the text pass. So prototypes of this model have D semantic and D visual dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.errors import ConfigError, ModelError, UsageError, ZsarError
from zsar_cli.labels import Label
from zsar_cli.models.base import VideoEncoder
from zsar_cli.networks.backbones import PACKAGED, Backbone, BackboneConfig, assemble, network_of, open_backbone
from zsar_cli.networks.pose import FINGERPRINT as POSE
from zsar_cli.networks.rest import RestConfig, RestModel
from zsar_cli.plain import build, typed
from zsar_cli.text.encoder import TextEncoder, encode_labels
from zsar_cli.text.minilm import minilm
from zsar_cli.text.tokens import TokenEncoder
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.video.sampling import check_sampling
from zsar_cli.video.types import Geometry, Sampling
from zsar_cli.weights.bundle import read_bundle, write_bundle

__all__ = [
    "KIND",
    "ClipSettings",
    "EncoderGrid",
    "EncoderName",
    "RestParts",
    "RestSpecialist",
    "RestText",
    "RestVideoModel",
    "open_rest",
    "read_parts",
    "round_weights",
    "seen_classes",
    "write_rest",
]

KIND = "rest"
LARGEST = 4096  # side of frames, frames of a window, windows of a video: beyond is no model but a mistake
CHUNK = 64  # texts in one pass


@dataclass(frozen=True)
class ClipSettings:
    """The frames the model reads, and how often it looks at them.

    Args:
        sampling, geometry: of the frames.
        mirror: also look at the mirror image; the embedding is the mean of both.
    """

    sampling: Sampling
    geometry: Geometry
    mirror: bool = True


class EncoderGrid:
    """Another model in the place of a backbone: its embedding of a window is a grid of one cell.

    Args:
        encoder: on any device.
        device: of the Transformer.
    """

    def __init__(self, encoder: VideoEncoder, device: torch.device) -> None:
        self.encoder, self.device, self.precision = encoder, device, encoder.precision

    def __call__(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, 1, 1, 1, D], rounded to float16 as a library keeps it."""
        rows = self.encoder.encode_video(windows).half().float()
        return rows[:, None, None, None].to(self.device)


@dataclass(frozen=True)
class EncoderName:
    """A model whose embeddings another one was trained on."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class RestParts:
    """What a bundle holds.

    Args:
        fingerprint: of the bundle.
        model: the Transformer, in evaluation mode.
        grid: from windows to grids: the backbone, or the encoder whose embeddings it was trained on.
        seen: the bank.
        clip, transfer, near: its settings; `near` is None for a model that is no specialist.
    """

    fingerprint: str
    model: RestModel
    grid: Backbone | EncoderGrid
    seen: PrototypeBank
    clip: ClipSettings
    transfer: TransferSettings
    near: float | None


class RestText:
    """Implements `semantics.text.TextEncoder` by the model's text pass: unit rows t [R, D].

    Args:
        model: on any device.
        tokens: the sentence encoder it was trained with.
        fingerprint: of the bundle that holds the model.
    """

    def __init__(self, model: RestModel, tokens: TokenEncoder, fingerprint: str) -> None:
        self._model, self._tokens, self.fingerprint = model, tokens, fingerprint
        self.languages = tokens.languages

    @torch.inference_mode()
    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), D], float32, unit rows, on the CPU."""
        device = self._model.modality.device
        read = self._tokens.tokens([[text] for text in texts])
        parts = zip(torch.split(read.tokens, CHUNK), torch.split(read.keep, CHUNK), strict=True)
        rows = [self._model.encode_text(tokens.to(device), keep.to(device)) for tokens, keep in parts]
        return F.normalize(torch.cat(rows).float(), dim=1).cpu().clone()


class RestVideoModel:
    """See the module. Implements `models.base.VideoModel`.

    Args:
        name: what the user typed.
        fingerprint: of the bundle.
        backbone: frozen, on the device of `model`; or an encoder in its place.
        model: in evaluation mode.
        seen: the bank of the bundle.
        tokens: the sentence encoder.
        clip, transfer: as the bundle says.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        backbone: Backbone | EncoderGrid,
        model: RestModel,
        seen: PrototypeBank,
        tokens: TokenEncoder,
        clip: ClipSettings,
        transfer: TransferSettings,
    ) -> None:
        self.name, self.fingerprint = name, fingerprint
        self.sampling, self.geometry, self.transfer = clip.sampling, clip.geometry, transfer
        self.device = model.modality.device
        self.precision: str = (
            str(next(backbone.parameters()).dtype).removeprefix("torch.")
            if isinstance(backbone, Backbone)
            else backbone.precision
        )
        self.text: TextEncoder = RestText(model, tokens, fingerprint)
        self._backbone, self._model, self._seen, self._mirror = backbone, model, seen, clip.mirror
        self._tokens = tokens

    def bank(self) -> PrototypeBank:
        """The classes it was trained on: their label embeddings and their learned prototypes."""
        return self._seen

    @torch.inference_mode()
    def encode_video(self, windows: Tensor) -> Tensor:
        """uint8 [B, T, S, S, 3] -> float32 [B, D], unit rows (the mean of two where mirror images are read too)."""
        frames = windows.to(self.device, non_blocking=windows.is_pinned())
        views = [frames, frames.flip(3)] if self._mirror else [frames]
        rows = [F.normalize(self._model.encode_video(self._backbone(view)), dim=1) for view in views]
        return torch.stack(rows).mean(dim=0).float().cpu().clone()

    def encode_labels(self, labels: Sequence[Label]) -> Tensor:
        """t of the labels, [U, D]: videos and labels share one space."""
        return encode_labels(self.text, labels)


class RestSpecialist(RestVideoModel):
    """A `RestVideoModel` that decides among the labels it knows. Implements `models.base.Specialist` too.

    Args:
        parts: see `RestVideoModel`.
        near: cosine of the sentence embeddings of two names from which on a label counts as known.
    """

    def __init__(self, *parts: Any, near: float) -> None:
        super().__init__(*parts)
        self._near = near

    @cached_property
    def _seen_names(self) -> Tensor:
        """Sentence embeddings of the seen classes' names, [S, E]."""
        return self._tokens.encode(list(self._seen.labels))

    def knows(self, labels: Sequence[Label]) -> Tensor:
        """Which labels are near to a seen class: bool [U].

        What is compared are sentence embeddings of names. A bare noun such as "dips" is also read as "doing dips".
        """
        texts = [label.text for label in labels]
        readings = torch.stack([self._tokens.encode(texts), self._tokens.encode([f"doing {text}" for text in texts])])
        known: Tensor = (readings @ self._seen_names.T).amax(dim=(0, 2)) >= self._near
        return known


def seen_classes(model: RestModel, prototypes: Tensor, labels: Sequence[Label], tokens: TokenEncoder) -> PrototypeBank:
    """The bank of a trained model: t of every class and its learned prototype, not yet of any bundle.

    Args:
        model: in evaluation mode.
        prototypes: [S, D], learned.
        labels: of the S classes.
        tokens: the sentence encoder.
    """
    semantic = encode_labels(RestText(model, tokens, ""), labels)
    visual = F.normalize(prototypes.detach().float().cpu(), dim=1)
    return PrototypeBank(tuple(label.name for label in labels), semantic, visual, "", tokens.fingerprint)


def write_rest(
    folder: Path,
    *,
    name: str,
    model: RestModel,
    backbone: Backbone | EncoderName,
    seen: PrototypeBank,
    clip: ClipSettings,
    transfer: TransferSettings,
    specialist: float | None = None,
    provenance: Mapping[str, Any],
    changed: bool = False,
    overwrite: bool = False,
) -> str:
    """Write a bundle that `open_rest` opens; returns its fingerprint.

    Args:
        folder, name, provenance, overwrite: see `bundle.write_bundle`.
        model: its weights are rounded as `round_weights` does; do so before anything is computed with it.
        backbone: see `RestVideoModel`; or the model whose embeddings it was trained on, which the bundle names.
        seen, clip, transfer: see `RestVideoModel` and `seen_classes`.
        specialist: makes it a `RestSpecialist` to which names of this cosine are near; None makes it none.
        changed: the backbone was fine-tuned. Its weights then travel in the bundle, as do all that come from
            elsewhere than a Python package.

    Raises:
        OutputError: see `write_bundle`.
    """
    weights = {f"rest.{key}": value for key, value in _stored(model).items()}
    if isinstance(backbone, Backbone):
        refer = backbone.config.weights == PACKAGED and not changed
        if not refer:
            weights |= {f"backbone.{key}": value for key, value in backbone.network.state_dict().items()}
        own = {**asdict(backbone.config), "fingerprint": backbone.fingerprint, "in_bundle": not refer}
        sees = {"backbone": own}
    else:
        sees = {"encoder": {"name": backbone.name, "fingerprint": backbone.fingerprint}}
    settings = {
        "shape": asdict(model.config),
        **sees,
        "clip": asdict(clip),
        "transfer": asdict(transfer),
        "specialist": specialist,
    }
    return write_bundle(
        folder, kind=KIND, name=name, weights=weights, bank=seen, settings=settings, provenance=provenance,
        overwrite=overwrite,
    )  # fmt: skip


def round_weights(model: RestModel) -> None:
    """Give a model the weights that it will have when it is read from a bundle."""
    model.load_state_dict(_stored(model))


def _stored(model: RestModel) -> dict[str, Tensor]:
    """Its weights as a bundle holds them: matrices in float16, half the size; vectors and numbers as they are."""
    return {key: value.half() if value.ndim > 1 else value for key, value in model.state_dict().items()}


Load = Callable[[str], VideoEncoder]


def no_other(name: str) -> VideoEncoder:
    """Opens no model.

    Raises:
        ModelError: always.
    """
    raise ModelError(f"the model '{name}' cannot be opened from here; use models.open.load_model")


def open_rest(
    name: str, folder: Path, device: torch.device, dtype: torch.dtype, load: Load = no_other
) -> RestVideoModel:
    """The model of a bundle.

    Args:
        name: what the user typed.
        folder: of the bundle.
        device: where both parts run.
        dtype: of the backbone; the Transformer always computes in float32.
        load: opens another model, by its name.

    Raises:
        ModelError: see `bundle.read_bundle`; or the bundle's settings do not fit its weights, or the encoder that it
            was trained on is not there.
    """
    parts = read_parts(folder, device, dtype, load)
    seen = replace(parts.seen, text_encoder=parts.fingerprint)
    given = (name, parts.fingerprint, parts.grid, parts.model, seen, minilm(), parts.clip, parts.transfer)
    return RestVideoModel(*given) if parts.near is None else RestSpecialist(*given, near=parts.near)


def read_parts(folder: Path, device: torch.device, dtype: torch.dtype, load: Load = no_other) -> RestParts:
    """What a bundle holds; see `open_rest`."""
    bundle = read_bundle(folder, KIND, minilm().fingerprint)
    try:
        settings = bundle.settings
        clip, transfer = _clip(settings["clip"]), build(TransferSettings, settings["transfer"])
        near = typed(settings["specialist"], float | None)
        model = _model(build(RestConfig, settings["shape"]), _under("rest.", bundle.weights)).to(device)
        grid: Backbone | EncoderGrid
        if "encoder" in settings:
            grid = EncoderGrid(_encoder(folder, settings["encoder"], load), device)
        else:
            grid = _backbone(folder, settings["backbone"], _under("backbone.", bundle.weights), device, dtype)
            _check_sizes(model.config, grid.config)
        _check_space(model.config, bundle.bank)
    except ModelError:
        raise
    # Of weights and settings that do not go together torch raises now this and now that.
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, ZsarError) as error:
        raise ModelError(f"{folder}: its settings do not fit its weights: {' '.join(str(error).split())}") from None
    return RestParts(bundle.fingerprint, model, grid, bundle.bank, clip, transfer, near)


def _encoder(folder: Path, settings: Mapping[str, Any], load: Load) -> VideoEncoder:
    """The model whose embeddings a bundle was trained on."""
    name, fingerprint = typed(settings["name"], str), typed(settings["fingerprint"], str)
    try:
        encoder = load(name)
    except ZsarError as error:
        raise ModelError(
            f"{folder} was trained on embeddings of the model '{name}', which is needed: {error}"
        ) from None
    if encoder.fingerprint != fingerprint:
        raise ModelError(
            f"{folder} was trained on embeddings of the model '{name}' {fingerprint}, but this is {encoder.fingerprint}"
        )
    return encoder


def _clip(settings: Mapping[str, Any]) -> ClipSettings:
    """Raises KeyError, TypeError or UsageError for what is none."""
    sampling, geometry = build(Sampling, settings["sampling"]), build(Geometry, settings["geometry"])
    check_sampling(sampling)
    sizes = {"windows": sampling.windows, "frames": sampling.frames, "size": geometry.size, "resize": geometry.resize}
    for name, size in sizes.items():
        if size is not None and not 1 <= size <= LARGEST:
            raise UsageError(f"clip: {name} is {size}; it must lie in 1..{LARGEST}")
    if geometry.resize is not None and (geometry.letterbox or geometry.resize < geometry.size):
        raise UsageError(f"clip: resize is {geometry.resize}; it must be the size ({geometry.size}) or more, unpadded")
    return ClipSettings(sampling, geometry, typed(settings["mirror"], bool))


def _model(shape: RestConfig, weights: Mapping[str, Tensor]) -> RestModel:
    """The Transformer, float32. What is claimed of its size allocates nothing, only the weights that are there do."""
    with torch.device("meta"):
        model = RestModel(shape)
    model.load_state_dict({key: value.float() for key, value in weights.items()}, assign=True)
    return model.eval().requires_grad_(False)


def _check_sizes(shape: RestConfig, backbone: BackboneConfig) -> None:
    """Raises ConfigError where the parts have other sizes than the Transformer between them."""
    if (shape.features, shape.posture) != (backbone.channels, backbone.posture_channels):
        raise ConfigError(
            f"the backbone gives {backbone.channels} channels, {backbone.posture_channels} of them of a posture, but "
            f"the model takes {shape.features} and {shape.posture}"
        )


def _check_space(shape: RestConfig, bank: PrototypeBank) -> None:
    """Raises ConfigError where prototypes lie in another space."""
    for rows in (bank.semantic, bank.visual):
        if rows.shape[1] != shape.space:
            raise ConfigError(f"its prototypes have {rows.shape[1]} dimensions, its space {shape.space}")


def _backbone(
    folder: Path, settings: Mapping[str, Any], weights: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> Backbone:
    """The bundle's own backbone, or the packaged one that it names."""
    own = ("fingerprint", "in_bundle")
    fingerprint, in_bundle = typed(settings["fingerprint"], str), typed(settings["in_bundle"], bool)
    config = build(BackboneConfig, {key: value for key, value in settings.items() if key not in own})
    if not in_bundle:
        if config.weights != PACKAGED:
            raise ConfigError(f"backbone: weights is '{config.weights}', which the bundle must hold, but does not")
        backbone = open_backbone(config, device, dtype)
        if backbone.fingerprint != fingerprint:
            raise ModelError(f"{folder} was trained on {fingerprint}, but this is {backbone.fingerprint}")
        return backbone
    if config.posture and POSE not in fingerprint:
        raise ModelError(f"{folder} was trained on {fingerprint}, but this version brings {POSE}")
    network = network_of(config)
    network.load_state_dict(dict(weights))
    return assemble(config, network, fingerprint, device, dtype)


def _under(prefix: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
