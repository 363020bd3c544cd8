"""PrototypeBank: what a model knows of the classes it has seen.

Shape letters: S seen classes, E semantic dimensions, D visual dimensions.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from zsar_cli.digests import to_json
from zsar_cli.errors import OutputError, PrototypeError
from zsar_cli.tensors import write_tensors

__all__ = ["FORMAT", "PrototypeBank", "mean_prototypes", "require_width"]

FORMAT = "zsar.prototypes/1"
KINDS = ("seen", "composed", "class means")


@dataclass(frozen=True)
class PrototypeBank:
    """Classes with their semantic embeddings and visual prototypes, made by one model.

    Args:
        labels: S names, unique.
        semantic: float32 [S, E], unit rows, from the text encoder `text_encoder`.
        visual: float32 [S, D], unit rows, in the visual space of `model`.
        model: fingerprint of the model whose space `visual` lives in.
        text_encoder: fingerprint of the encoder that made `semantic`.
        kind: "seen" (learned classes), "composed" (from others, by relatedness) or "class means" (of videos).
        phrases: float32 [S, K, E], unit rows, where each class is described by up to K phrases (repeated to fill
            up) of which `semantic` is the mean.
    """

    labels: tuple[str, ...]
    semantic: Tensor
    visual: Tensor
    model: str
    text_encoder: str
    kind: str = "seen"
    phrases: Tensor | None = None

    def __post_init__(self) -> None:
        count = len(self.labels)
        if len(set(self.labels)) != count:
            twice = Counter(self.labels).most_common(1)[0][0]
            raise PrototypeError(f"a prototype bank names the class '{twice}' twice")
        for name, rows in (("semantic", self.semantic), ("visual", self.visual)):
            if rows.ndim != 2 or rows.shape[0] != count:
                raise PrototypeError(
                    f"a prototype bank of {count} classes needs {name} rows [{count}, n], got {list(rows.shape)}"
                )
            if not torch.isfinite(rows).all():
                raise PrototypeError(f"a prototype bank holds {name} values that are not finite numbers")
        if self.phrases is not None:
            shape = list(self.phrases.shape)
            if len(shape) != 3 or shape[1] == 0 or [shape[0], shape[2]] != list(self.semantic.shape):
                raise PrototypeError(
                    f"a prototype bank needs phrases [{count}, K, {self.semantic.shape[1]}], got {shape}"
                )
            if not torch.isfinite(self.phrases).all():
                raise PrototypeError("a prototype bank holds phrases that are not finite numbers")
        if self.kind not in KINDS:
            raise PrototypeError(f"a prototype bank has the kind '{self.kind}'; allowed: {', '.join(KINDS)}")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def digest(self) -> str:
        """Of its classes, their embeddings and prototypes: equal banks compose alike."""
        hasher = hashlib.sha256(to_json([self.labels, self.kind, self.model, self.text_encoder]))
        for rows in (self.semantic, self.visual, self.phrases):
            hasher.update(b"" if rows is None else rows.detach().float().contiguous().numpy().tobytes())
        return f"sha256:{hasher.hexdigest()[:16]}"

    def select(self, names: Sequence[str]) -> PrototypeBank:
        """The named classes, in the given order. Raises PrototypeError for a name the bank does not hold."""
        position = {label: index for index, label in enumerate(self.labels)}
        unknown = [name for name in names if name not in position]
        if unknown:
            raise PrototypeError(f"the prototype bank holds no class '{unknown[0]}'; it holds {len(self)} others")
        rows = [position[name] for name in names]
        phrases = None if self.phrases is None else self.phrases[rows]
        return replace(
            self, labels=tuple(names), semantic=self.semantic[rows], visual=self.visual[rows], phrases=phrases
        )

    def beside(self, other: PrototypeBank) -> PrototypeBank:
        """The classes of both banks in one list, to look them up; a class of `other` with a name known here is marked.

        Phrases are left out.
        """
        other.require(self.model, self.text_encoder, "the other bank")
        known = set(self.labels)
        return replace(
            self,
            labels=self.labels + tuple(f"{name} (added)" if name in known else name for name in other.labels),
            semantic=torch.cat([self.semantic, other.semantic]),
            visual=torch.cat([self.visual, other.visual]),
            phrases=None,
        )

    def require(self, model: str, text_encoder: str, source: str) -> None:
        """Refuse a bank of another model: its numbers would be compared with numbers of another space.

        Raises:
            PrototypeError: names `source`, both models or both text encoders.
        """
        if self.model != model:
            raise PrototypeError(
                f"{source} was made by the model {self.model}, but this is {model}; "
                "make it anew with 'zsar export-prototypes' and this model"
            )
        if self.text_encoder != text_encoder:
            raise PrototypeError(
                f"{source} was made with the text encoder {self.text_encoder}, but this is {text_encoder}; "
                "make it anew with 'zsar export-prototypes'"
            )

    def write(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write one .safetensors file, whole or not at all.

        Raises:
            OutputError: the file exists and `overwrite` is False, or it cannot be written.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists; --overwrite replaces it")
        metadata = {
            "format": FORMAT,
            "kind": self.kind,
            "labels": json.dumps(self.labels, ensure_ascii=False),
            "model": self.model,
            "text_encoder": self.text_encoder,
        }
        tensors = {"semantic": self.semantic.contiguous(), "visual": self.visual.contiguous()}
        if self.phrases is not None:
            tensors["phrases"] = self.phrases.contiguous()
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            write_tensors(tensors, part, metadata)
            os.replace(part, path)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise OutputError(f"cannot write {path}: {error}") from None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PrototypeBank:
        """Read what `write` wrote.

        Raises:
            PrototypeError: the file is missing, damaged, of another kind or of a newer format.
        """
        if not Path(path).is_file():
            raise PrototypeError(f"{path}: no such prototype file")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        # A damaged header can name types that torch lacks, or text that is none.
        except (OSError, SafetensorError, ValueError, AttributeError, RuntimeError) as error:
            raise PrototypeError(
                f"{path} is no prototype file, or a damaged one ({error}); 'zsar export-prototypes' makes one"
            ) from None
        if "format" not in metadata:
            raise PrototypeError(f"{path} holds tensors, but is no prototype file; 'zsar export-prototypes' makes one")
        if metadata["format"] != FORMAT:
            raise PrototypeError(f"{path} has the format '{metadata['format']}'; this version reads '{FORMAT}'")
        try:
            return cls(
                labels=_labels(metadata["labels"]),
                semantic=_rows(tensors["semantic"]),
                visual=_rows(tensors["visual"]),
                model=metadata["model"],
                text_encoder=metadata["text_encoder"],
                kind=metadata["kind"],
                phrases=_rows(tensors["phrases"]) if "phrases" in tensors else None,
            )
        except (KeyError, ValueError, RecursionError) as error:
            raise PrototypeError(f"{path} lacks a part of a prototype file: {error}") from None
        except PrototypeError as error:
            raise PrototypeError(f"{path}: {error}") from None


def require_width(rows: Tensor, bank: Tensor, what: str) -> None:
    """Refuse a bank whose rows have not the width of a model's own.

    Args:
        rows: of the model, [.., n].
        bank: of the bank, [S, m].
        what: "semantic" or "visual".

    Raises:
        PrototypeError: names both widths.
    """
    if rows.shape[-1] != bank.shape[-1]:
        raise PrototypeError(
            f"the prototype bank has {bank.shape[-1]} {what} columns, the model's embeddings have {rows.shape[-1]}; "
            "make it anew with 'zsar export-prototypes' and this model"
        )


def _labels(text: str) -> tuple[str, ...]:
    """Names from JSON. Raises PrototypeError, or ValueError for what is no JSON."""
    labels = json.loads(text)
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise PrototypeError("its labels are no list of names")
    return tuple(labels)


def _rows(stored: Tensor) -> Tensor:
    """float32. Raises PrototypeError for numbers of another kind."""
    if not stored.is_floating_point() or 0 in stored.shape:
        raise PrototypeError(f"it holds {list(stored.shape)} numbers of the type {stored.dtype}; float32 is expected")
    return stored.float()


def mean_prototypes(groups: Sequence[Tensor]) -> Tensor:
    """Prototypes of S classes from their videos: P_s = normalise(m_s - mean of m), m_s the mean of unit embeddings.

    Videos of one collection share a setting, and with it a direction that says nothing about their classes; left in, it
    would make every such prototype win over prototypes from elsewhere. It is taken out where there are two classes or
    more to tell it by.

    Args:
        groups: for each class the embeddings of its videos, [n, D] with n >= 1.

    Returns:
        [S, D], unit rows.
    """
    unit = torch.nn.functional.normalize
    means = torch.stack([unit(group, dim=1).mean(dim=0) for group in groups])
    return unit(means - means.mean(dim=0) if len(groups) > 1 else means, dim=1)
