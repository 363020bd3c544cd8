"""From decoded frames to a network's input, as the checkpoint's own processor would do it, without that processor.

Scaling and cropping happen in the decoder (`Geometry`); here the bytes become the numbers the network was trained on.
Given the same resized bytes the result differs from Transformers' own processors by no more than 2e-6. The resized
bytes differ slightly: the decoder always scales bicubically with anti-aliasing, whatever filter a processor names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli.errors import ModelError
from zsar_cli.plain import read_json
from zsar_cli.video.types import Geometry

__all__ = ["Preprocess", "colours", "read_preprocess"]

STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_sample_frames")
OTHER_STEPS = ("rescale_offset", "use_square_size")  # steps of a few processors that do not begin with do_
CONVNEXT_WARPS_FROM = 384  # ConvNeXT's processor cuts nothing off images of this side or more


@dataclass(frozen=True)
class Preprocess:
    """x = (byte * scale - offset - mean) / std, for frames shaped by `geometry`.

    Args:
        geometry: of the frames.
        scale, offset: from bytes to the range the mean was taken in.
        mean, std: one number for each colour, RGB.
    """

    geometry: Geometry
    scale: float
    offset: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def apply(self, frames: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
        """uint8 [.., S, S, 3] -> [.., 3, S, S] of `dtype` on `device`; the arithmetic is float32."""
        pixels = frames.to(device, non_blocking=frames.is_pinned()).movedim(-1, -3).float()
        mean = torch.tensor(self.mean, device=device).reshape(3, 1, 1)
        std = torch.tensor(self.std, device=device).reshape(3, 1, 1)
        return ((pixels * self.scale - self.offset - mean) / std).to(dtype)


def read_preprocess(folder: Path) -> Preprocess:
    """What the checkpoint's processor does, from its own file.

    Raises:
        ModelError: there is no such file, or it asks for a step that this tool does not know.
    """
    file, config = _find(folder)
    given = {key: value for key, value in config.items() if value is not None}
    unknown = [key for key, value in given.items() if value and _is_step(key) and key not in STEPS]
    if unknown:
        raise ModelError(f"{file}: asks for '{unknown[0]}', a step that zsar does not know; use another checkpoint")
    rescale, normalise = given.get("do_rescale", True), given.get("do_normalize", True)
    kind = str(given.get("image_processor_type") or given.get("video_processor_type") or "")
    try:
        return Preprocess(
            geometry=_geometry(given, kind),
            scale=float(given.get("rescale_factor", 1 / 255)) if rescale else 1.0,
            # ViViT's processor takes 1 away after its rescaling, and does so unless its file says otherwise.
            offset=1.0 if rescale and given.get("offset", kind.startswith("Vivit")) else 0.0,
            mean=colours(given["image_mean"]) if normalise else (0.0, 0.0, 0.0),
            std=colours(given["image_std"]) if normalise else (1.0, 1.0, 1.0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{file}: lacks or misspells {error}; it must say how frames are made ready") from None


def _find(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """The processor's file and its content; newer checkpoints nest it in the file of a joint processor."""
    for name in ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"):
        file = folder / name
        if not file.is_file():
            continue
        content = read_json(file, ModelError)
        for key in ("image_processor", "video_processor"):
            content = content.get(key, content) if isinstance(content, dict) else None
        if isinstance(content, dict):
            return file, content
    raise ModelError(f"{folder}: has no preprocessor_config.json, which says how frames are made ready")


def _is_step(key: str) -> bool:
    return key.startswith("do_") or key in OTHER_STEPS


def _geometry(given: Mapping[str, Any], kind: str) -> Geometry:
    """Scaling and cropping. Sizes come as a number or as a mapping, by the age of the file."""
    crop = _side(given["crop_size"]) if given.get("do_center_crop") else None
    size = given["size"]
    shortest = size.get("shortest_edge") if isinstance(size, Mapping) else (size if crop else None)
    if not given.get("do_resize", True):
        raise ValueError("do_resize (frames of any size must be scaled)")
    if shortest is None:
        side = _side(size)
        if crop not in (None, side):
            raise ValueError(f"size {size} (scaling to a square and cutting {crop} out of it is not supported)")
        return Geometry(size=side)
    if kind.startswith("ConvNext"):
        if shortest >= CONVNEXT_WARPS_FROM:
            return Geometry(size=shortest)
        return Geometry(size=shortest, resize=int(shortest / given.get("crop_pct", 224 / 256)))
    return Geometry(size=crop or shortest, resize=shortest)


def _side(size: Any) -> int:
    """The side of a square given as 224 or {"height": 224, "width": 224}."""
    if isinstance(size, Mapping):
        if size["height"] != size["width"]:
            raise ValueError(f"size {dict(size)} (only squares are supported)")
        size = size["height"]
    return int(size)


def colours(values: Any) -> tuple[float, float, float]:
    """One number for each colour, from three or from one for all. Raises TypeError or ValueError."""
    red, green, blue = [float(value) for value in (values if isinstance(values, list) else [values] * 3)]
    return red, green, blue
