"""The only door to a model: a name, a folder, a file or a hub id becomes a `VideoModel`.

What one kind of model needs is imported when that kind is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from zsar_cli.errors import ModelError, UsageError
from zsar_cli.weights.catalogue import Located, locate, nameless_classes

if TYPE_CHECKING:
    import torch

    from zsar_cli.models.base import VideoModel

__all__ = ["load_model"]


def load_model(
    name: str, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None = None
) -> VideoModel:
    """The model of that name, ready on `device`.

    Args:
        name: a registered name, a local folder, a .tflite file, or the hub id (org/name, org/name@revision) of a
            model pulled before.
        device, dtype: where and in which precision it runs.
        seen_labels: names of a classifier's outputs, in their order, where its own files do not tell them.

    Raises:
        UsageError: no model has that name.
        ModelError: its weights are missing or damaged.
    """
    located = locate(name)
    return _OPENERS[located.kind](located, device, dtype, seen_labels)


def _open_builtin(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    from zsar_cli.models.builtin import BuiltinModel

    _refuse_names(located, seen_labels, "knows its own")
    return BuiltinModel(device, dtype)


def _open_folder(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    assert located.path is not None
    from zsar_cli.weights.bundle import find_bundle

    if bundle := find_bundle(located.path):
        return _open_bundle(Located(located.name, "folder", bundle), device, dtype, seen_labels)
    if (located.path / "run.yaml").is_file():
        raise ModelError(f"{located.path}: its training has not ended; zsar train as before, with --resume, goes on")
    from zsar_cli.weights.openclip import is_open_clip

    if is_open_clip(located.path):
        from zsar_cli.models.openclip import open_openclip

        _refuse_names(located, seen_labels, "is none")
        return open_openclip(located.name, located.path, device, dtype)
    from zsar_cli.weights.checkpoint import CLASSIFIERS, architecture, of_text_alone, read_config

    if of_text_alone(read_config(located.path)):
        raise ModelError(f"--model {located.name}: is a model of text, which sees no video; --text-encoder may take it")
    if architecture(read_config(located.path)).endswith(CLASSIFIERS):
        from zsar_cli.models.supervised import open_supervised

        return open_supervised(located.name, located.path, device, dtype, seen_labels)
    _refuse_names(located, seen_labels, "is none")
    from zsar_cli.models.dual import open_dual

    return open_dual(located.name, located.path, device, dtype)


def _open_bundle(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    assert located.path is not None
    from zsar_cli.models.rest import open_rest

    _refuse_names(located, seen_labels, "knows its own")
    return open_rest(located.name, located.path, device, dtype, lambda name: load_model(name, device, dtype))


def _open_litert(
    located: Located, device: torch.device, dtype: torch.dtype, seen_labels: Sequence[str] | None
) -> VideoModel:
    import torch

    from zsar_cli.models.litert import LiteRTModel

    assert located.path is not None
    if seen_labels is None:
        raise nameless_classes(located.name)
    if dtype != torch.float32:
        raise UsageError(f"--model {located.name}: computes in the precision of the file; take --precision auto")
    return LiteRTModel(located.path, seen_labels, located.name)


def _refuse_names(located: Located, seen_labels: Sequence[str] | None, why: str) -> None:
    if seen_labels is not None:
        raise UsageError(f"--seen-labels names the outputs of a classifier; the model '{located.name}' {why}")


_Opener = Callable[["Located", "torch.device", "torch.dtype", "Sequence[str] | None"], "VideoModel"]
_OPENERS: Mapping[str, _Opener] = MappingProxyType(
    {"builtin": _open_builtin, "folder": _open_folder, "litert": _open_litert}
)
