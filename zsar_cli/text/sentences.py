"""A sentence encoder by name, in the place of the packaged one: any folder in the layout of sentence-transformers.

Only safetensors are read, and no code that comes with an encoder is run: its parts must be those of the package.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli.digests import digest, known_sha256
from zsar_cli.errors import ModelError
from zsar_cli.plain import read_json
from zsar_cli.text.encoder import TextEncoder
from zsar_cli.text.lexicon import background_actions
from zsar_cli.weights.catalogue import locate_text
from zsar_cli.weights.checkpoint import quiet_transformers, read_config, weight_files
from zsar_cli.weights.hub import MODULES
from zsar_cli.weights.text_entries import text_entry

__all__ = ["Centred", "SentenceEncoder", "open_sentences"]

PARTS = ("Transformer", "Pooling", "Dense", "Normalize")  # classes of sentence-transformers
READ = ("*.json", "*.txt", "*.model", "*.safetensors")  # what the vectors depend on
BATCH = 32  # texts in one pass


class SentenceEncoder:
    """Implements `text.encoder.TextEncoder`; loaded on first use, on the CPU in float32, for any number of threads.

    Args:
        folder: in the layout of sentence-transformers.
        prompt: what is put before each text; None takes what the folder has as its default.
        languages: see `TextEncoder.languages`.

    Raises:
        ModelError: the folder is no such encoder, has pickled weights or brings code of its own.
    """

    def __init__(self, folder: Path, prompt: str | None = None, languages: Sequence[str] = ()) -> None:
        self._folder, self._prompt, self.languages = folder, prompt, tuple(languages)
        files = list(_files(folder))
        content = [(file.relative_to(folder).as_posix(), known_sha256(file)) for file in files]
        self.fingerprint = f"{read_config(folder).get('model_type', 'encoder')}-{digest(content, prompt)[:12]}"
        self._lock = threading.Lock()
        self._network: Any = None

    def encode(self, texts: Sequence[str]) -> Tensor:
        """[len(texts), E], float32, unit rows, on the CPU: the same for any device the video model runs on.

        Raises:
            ModelError: the folder is damaged.
        """
        with self._lock:  # its tokenizer is for one thread at a time
            if self._network is None:
                self._network = _load(self._folder)
            rows: Tensor = self._network.encode(
                list(texts), prompt=self._prompt, batch_size=BATCH, show_progress_bar=False, convert_to_tensor=True,
                normalize_embeddings=True,
            )  # fmt: skip
        return rows.float().clone()


class Centred:
    """Sentences of another encoder less the direction that all of them share. Implements `text.encoder.TextEncoder`.

    To some encoders any two texts are alike: of multilingual-e5-small two everyday actions have a cosine of 0.8 on
    average, of the packaged one 0.1. Temperature and thresholds of relatedness are made for the latter.

    Args:
        encoder: better with a cache, which embeds the actions once (see `lexicon.background_actions`) that tell
            the direction.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder, self._actions = encoder, background_actions().names
        self.fingerprint = f"{encoder.fingerprint}-{digest(*self._actions)[:6]}"

    @property
    def languages(self) -> tuple[str, ...]:
        """As `TextEncoder.languages`."""
        return self._encoder.languages

    @cached_property
    def _shared(self) -> Tensor:
        """[E]."""
        return self._encoder.encode(self._actions).mean(dim=0)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """As `TextEncoder.encode`."""
        return torch.nn.functional.normalize(self._encoder.encode(texts) - self._shared, dim=1)


def open_sentences(name: str) -> SentenceEncoder:
    """The encoder of a registered name, a local folder, or the hub id of one that was pulled before.

    Raises:
        UsageError: no encoder has that name.
        ModelError: it is not on this machine, or as `SentenceEncoder`.
    """
    folder = locate_text(name)
    entry = None if Path(name).is_dir() else text_entry(name.partition("@")[0])
    return SentenceEncoder(folder) if entry is None else SentenceEncoder(folder, entry.prompt, entry.languages)


def _files(folder: Path) -> Iterator[Path]:
    """Everything the vectors depend on, in order. Raises ModelError as `SentenceEncoder`."""
    if not (folder / MODULES).is_file():
        raise ModelError(f"--text-encoder {folder}: is none of sentence-transformers: it has no {MODULES}")
    yield from _read(folder)
    listed = read_json(folder / MODULES, ModelError)
    for part in listed if isinstance(listed, list) and listed else [None]:
        kind, path = (str(part.get(key, "")) for key in ("type", "path")) if isinstance(part, dict) else ("", "")
        package, _, known = kind.rpartition(".")
        if not package.startswith("sentence_transformers.") or known not in PARTS:
            allowed = f"{', '.join(PARTS)} of sentence-transformers"
            raise ModelError(f"{folder / MODULES}: has the part {kind!r}; zsar runs no code of others, only {allowed}")
        if path == ".." or path not in ("", Path(path).name):
            raise ModelError(f"{folder / MODULES}: has a part in {path!r}, which is no folder beside it")
        inner = folder / path
        if known in ("Transformer", "Dense"):
            weight_files(inner)
        if (inner / "adapter_config.json").exists():
            raise ModelError(f"{inner}: has weights that are added to another model's; merge them first")
        if path:
            yield from _read(inner)


def _read(folder: Path) -> list[Path]:
    return sorted(file for pattern in READ for file in folder.glob(pattern) if file.is_file())


def _load(folder: Path) -> Any:
    """The network of sentence-transformers. Raises ModelError where it cannot be made."""
    log = logging.getLogger("sentence_transformers")
    level = log.level
    try:
        with quiet_transformers():
            from sentence_transformers import SentenceTransformer

            log.setLevel(logging.ERROR)
            return SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": torch.float32},
            )  # fmt: skip
    except Exception as error:  # what the package raises for a damaged folder is without bound
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"--text-encoder {folder}: cannot be loaded, it may be damaged: {reason}") from None
    finally:
        log.setLevel(level)
