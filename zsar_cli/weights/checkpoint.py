"""Checkpoints in the layout of Hugging Face Transformers: config.json, safetensors weights, processor and tokenizer.

Only safetensors are read and no code that comes with a checkpoint is run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsar_cli.digests import digest, known_sha256
from zsar_cli.errors import ModelError
from zsar_cli.plain import read_json

if TYPE_CHECKING:
    import torch

__all__ = [
    "CLASSIFIERS",
    "PICKLES",
    "architecture",
    "fingerprint",
    "listed_files",
    "load_network",
    "of_text_alone",
    "quiet_transformers",
    "read_config",
    "text_fingerprint",
    "weight_files",
]

CLASSIFIERS = ("ForVideoClassification", "ForImageClassification")  # how architectures of classifiers end
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZER_FILES = ("*token*", "vocab*", "merges.txt", "*.model", "spiece*")
SPACE_FILES = ("config.json", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")


def read_config(folder: Path) -> dict[str, Any]:
    """The checkpoint's config.json.

    Raises:
        ModelError: it is missing or no JSON object.
    """
    file = folder / "config.json"
    if not file.is_file():
        raise ModelError(f"{folder}: holds no model (no config.json)")
    content = read_json(file, ModelError)
    if not isinstance(content, dict):
        raise ModelError(f"{file}: is not a model's configuration")
    return content


def architecture(config: Mapping[str, Any]) -> str:
    """The class of network that a configuration names first; "" where it names none."""
    named = config.get("architectures")
    return str(named[0]) if isinstance(named, list) and named else ""


def of_text_alone(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is plainly of a model that sees nothing."""
    return "vocab_size" in config and not any("vision" in key or "image" in key for key in config)


def load_network(folder: Path, auto_class: str, device: torch.device, dtype: torch.dtype, **making: Any) -> Any:
    """The network in evaluation mode, all of its weights from the checkpoint.

    Args:
        folder: a checkpoint.
        auto_class: the Transformers class that makes it, for example "AutoModel".
        making: more for its `from_pretrained`, such as a `config` in the place of the checkpoint's.

    Raises:
        ModelError: the weights are missing, pickled, damaged or of another architecture.
    """
    weights = weight_files(folder)
    _require_known_type(folder)
    import transformers

    maker = getattr(transformers, auto_class)
    try:
        with quiet_transformers():
            network, report = maker.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False,
                output_loading_info=True, **making,
            )  # fmt: skip
    # Transformers builds whatever config.json says; what that raises where it says nonsense is without bound.
    except Exception as error:
        files = ", ".join(file.name for file in weights)
        raise ModelError(f"{folder}: cannot be loaded; {files} may be damaged: {_first_line(error)}") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelError(f"{folder}: its weights lack {len(missing)} tensors of {auto_class}, such as '{missing[0]}'")
    return network.to(device=device, dtype=dtype).eval().requires_grad_(False)


def fingerprint(folder: Path, config: Mapping[str, Any], *parts: Any) -> str:
    """The architecture's name and twelve hex digits over weights, configuration, processor and `parts`.

    All files are read, those too that the Hugging Face cache names by a digest: any content can be given such a name.
    """
    files = [folder / name for name in SPACE_FILES if (folder / name).is_file()]
    content = [(file.name, known_sha256(file)) for file in (*files, *weight_files(folder))]
    return f"{config.get('model_type', 'model')}-{digest(content, parts)[:12]}"


def text_fingerprint(folder: Path, visual: str, *parts: Any) -> str:
    """Of the text half of a checkpoint: `visual`, which covers the weights, the tokenizer's files and `parts`."""
    files = sorted({file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)} - {folder / SPACE_FILES[0]})
    content = [(file.name, known_sha256(file)) for file in files if file.is_file()]
    return f"{visual}-{digest(content, parts)[:8]}"


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Transformers draws bars and logs advice while it loads; what matters of that is raised as an error here."""
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def weight_files(folder: Path) -> list[Path]:
    """model.safetensors, or the shards that its index lists."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        names = listed_files(index)
        absent = [name for name in names if not os.path.isfile(folder / name)]  # which takes any text for a name
        if absent:
            raise ModelError(f"{folder}: the weight file {absent[0]} is missing; pull or copy the model anew")
        return [folder / name for name in names]
    if any(next(folder.glob(pattern), None) for pattern in PICKLES):
        raise ModelError(
            f"{folder}: has only pickled weights, which could run any code when read; "
            f"make a safe copy: zsar models convert {folder} -o NEW_FOLDER"
        )
    raise ModelError(f"{folder}: has no model.safetensors")


def listed_files(index: Path) -> list[str]:
    """The files that an index of sharded weights lists, sorted.

    Raises:
        ModelError: it is none, or lists what is no name of a file beside it.
    """
    content = read_json(index, ModelError)
    listed = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise ModelError(f"{index}: is not an index of weight files: it has no mapping 'weight_map'")
    wrong = [name for name in listed.values() if not isinstance(name, str) or Path(name).name != name]
    if wrong:
        raise ModelError(f"{index}: lists {wrong[0]!r}, which is no name of a file beside it")
    return sorted(set(listed.values()))


def _require_known_type(folder: Path) -> None:
    config = read_config(folder)
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        own = "; it brings code of its own, which zsar never runs" if "auto_map" in config else ""
        raise ModelError(f"{folder}: Transformers {transformers.__version__} knows no model type '{kind}'{own}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
