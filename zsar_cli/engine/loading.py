"""From the name of a model, or the names of several, to a classifier."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from zsar_cli.digests import remembering
from zsar_cli.engine.calibrations import deciding_for
from zsar_cli.engine.checks import check_models, named_by_hand
from zsar_cli.engine.choosing import AUTO, choose_model, is_auto
from zsar_cli.engine.classifier import Classifier, ZeroShotClassifier
from zsar_cli.engine.ensemble import Ensemble
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import PrototypeError, UsageError
from zsar_cli.labels import Label, LabelSet
from zsar_cli.models.base import HasTextTower, RunsOnOpenVINO, VideoModel
from zsar_cli.models.device import resolve_device, resolve_openvino, resolve_precision
from zsar_cli.models.open import load_model
from zsar_cli.store.cache import CachedTextEncoder, EmbeddingCache
from zsar_cli.text.encoder import encode_labels
from zsar_cli.text.minilm import MiniLM
from zsar_cli.text.sentences import Centred, open_sentences
from zsar_cli.transfer.bank import PrototypeBank
from zsar_cli.transfer.scoring import TransferSettings
from zsar_cli.weights.added import ModelFolder, models_folder

__all__ = ["ClassifierSpec", "load"]


@dataclass(frozen=True)
class ClassifierSpec:
    """Everything a classifier is built from: any process that has it builds the same one. Picklable.

    Args:
        models: one name or several: registered names, those added with `zsar models add`, local folders or .tflite
            files, or ids of models pulled from the hub. Several make an `Ensemble`.
        weights: of several models, in their order; None weighs all alike.
        seen_labels: label file that names a classifier's outputs, in their order, where its own files do not.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "bf16" or "fp16".
        runtime: "auto", "torch" or "openvino": what computes a model on a CPU, where it is one that OpenVINO can.
        prototypes: a prototype file to use beside ("extend") or in place of ("replace") the bank of the model that
            made it.
        bank: "extend" or "replace".
        text_encoder: a registered name, a local folder or the hub id of a sentence encoder that relates names in the
            place of the packaged one, for all models that relate by that.
        transfer, embedding: settings that are not the defaults, for all models.
        calibration, reject: how answers are judged, see `calibrations.deciding_for`.
        cache_dir: a folder for the embedding cache; None keeps no cache.
        models_dir: the folder of added models; None takes the user's own.
    """

    models: tuple[str, ...] = ("builtin",)
    weights: tuple[float, ...] | None = None
    seen_labels: str | None = None
    device: str = "auto"
    precision: str = "auto"
    runtime: str = "auto"
    prototypes: str | None = None
    bank: str = "extend"
    text_encoder: str | None = None
    transfer: TransferSettings | None = None
    embedding: EmbedSettings = field(default_factory=EmbedSettings)
    calibration: str = "auto"
    reject: float | str | None = None
    cache_dir: str | None = None
    models_dir: str | None = None

    def build(self, warn: Callable[[str], None] = warnings.warn) -> Classifier:
        """The classifier.

        Args:
            warn: takes the one warning of a cache that cannot be used.

        Raises:
            ZsarError: see `resolve_device`, `load_model`, `PrototypeBank.read`, `PrototypeBank.require`, `Ensemble`
                and `deciding_for`.
        """
        classifier = _build(self, warn)
        classifier.spec = self
        classifier.deciding = deciding_for(classifier, self.calibration, self.reject)
        return classifier


@overload
def load(model: str = "builtin", **settings: Any) -> ZeroShotClassifier: ...


@overload
def load(model: Sequence[str], **settings: Any) -> Classifier: ...


def load(model: str | Sequence[str] = "builtin", **settings: Any) -> Classifier:
    """A classifier by the name of its model; a list of several names gives an `Ensemble`.

    Args:
        model: see `ClassifierSpec.models`; "auto" takes the best that is on this machine.
        settings: the other fields of `ClassifierSpec`, by name; paths may be `pathlib` paths.

    Raises:
        ZsarError: see `ClassifierSpec.build`.
        TypeError: no setting has that name.
    """
    names = (model,) if isinstance(model, str) else tuple(model)
    if AUTO in names and is_auto(names):
        related = settings.get("text_encoder") is not None
        names = (choose_model(settings.get("prototypes"), settings.get("models_dir"), related).name,)
    values = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()}
    if values.get("weights") is not None:
        values["weights"] = tuple(values["weights"])
    return ClassifierSpec(names, **values).build()


def _build(spec: ClassifierSpec, warn: Callable[[str], None]) -> Classifier:
    names, weights, prototypes = spec.models, spec.weights, spec.prototypes
    check_models(
        names, weights, spec.seen_labels, prototypes, spec.bank, spec.device, spec.precision, spec.runtime,
        spec.models_dir, spec.text_encoder,
    )  # fmt: skip
    given = PrototypeBank.read(prototypes) if prototypes is not None else None
    outputs = LabelSet.read(spec.seen_labels).names if spec.seen_labels is not None else None
    unnamed = named_by_hand(names) if outputs is not None else None
    folder = ModelFolder(Path(spec.models_dir) if spec.models_dir is not None else models_folder())
    cache = EmbeddingCache(Path(spec.cache_dir), warn) if spec.cache_dir is not None else None
    with remembering(cache):
        models = [_open(name, folder, outputs if name == unnamed else None, spec, cache) for name in names]
        if spec.text_encoder is not None:
            _relate_by(spec.text_encoder, models, cache)
    if spec.runtime == "openvino" and not any(isinstance(model, RunsOnOpenVINO) for model in models):
        raise UsageError(f"--runtime openvino: it computes the built-in model alone, not {', '.join(names)}; take auto")
    if given is not None and spec.text_encoder is not None:
        given = _named_anew(given, models)
    owner = _owner(given, models, str(prototypes)) if given is not None else None
    members = []
    for one in models:
        added = given if one is owner else None
        own = None if added is not None and spec.bank == "replace" else one.bank()
        members.append(ZeroShotClassifier(one, own, spec.transfer, spec.embedding, cache, added))
    return members[0] if len(members) == 1 else Ensemble(members, weights)


def _open(
    name: str,
    folder: ModelFolder,
    outputs: Sequence[str] | None,
    spec: ClassifierSpec,
    cache: EmbeddingCache | None,
) -> VideoModel:
    """One model, its label embeddings cached."""
    target = resolve_device(spec.device)
    dtype = resolve_precision(spec.precision, target)
    openvino = resolve_openvino(spec.runtime, target)
    added = folder.find(name)
    if added is None:
        model = load_model(name, target, dtype, outputs)
    elif outputs is not None:
        raise UsageError(f"--seen-labels: the model '{name}' was added with the names of its outputs")
    else:
        model = load_model(str(added.file), target, dtype, added.labels)
        model.name = added.name
    if spec.device != "auto" and model.device.type != target.type:
        raise UsageError(f"--device {spec.device}: the model '{name}' runs on the {model.device} alone; take auto")
    if openvino is not None and isinstance(model, RunsOnOpenVINO):
        model.use_openvino(openvino)
    if cache is not None:
        model.text = CachedTextEncoder(model.text, cache)
        if isinstance(model, HasTextTower):
            model.tower = CachedTextEncoder(model.tower, cache)
    return model


def _relate_by(name: str, models: Sequence[VideoModel], cache: EmbeddingCache | None) -> None:
    """Put a sentence encoder in the place of the packaged one, where a model relates names by that.

    Raises:
        UsageError: none of the models does.
        ZsarError: see `open_sentences`.
    """
    packaged = [model for model in models if model.text.fingerprint == MiniLM.fingerprint]
    related = [model for model in packaged if not isinstance(model, HasTextTower)]
    if not related:
        names = ", ".join(model.name for model in models)
        raise UsageError(
            f"--text-encoder {name}: relates the names of a classifier's classes to labels; {names} understands labels "
            "by the text encoder it was trained with; leave it out, or take --model builtin"
        )
    opened = open_sentences(name)
    encoder = Centred(opened if cache is None else CachedTextEncoder(opened, cache))
    for model in related:
        model.text = encoder


def _named_anew(given: PrototypeBank, models: Sequence[VideoModel]) -> PrototypeBank:
    """A bank of class means, whose texts are the names it has, embedded by the encoder of the model that made it.

    Any other bank stays as it is: its names alone would not be what was embedded.
    """
    for model in models:
        encoder, mine = model.text, given.model == model.fingerprint and given.kind == "class means"
        if mine and given.text_encoder != encoder.fingerprint:
            semantic = encode_labels(encoder, [Label(name) for name in given.labels])
            return replace(given, semantic=semantic, text_encoder=encoder.fingerprint)
    return given


def _owner(given: PrototypeBank, models: Sequence[VideoModel], source: str) -> VideoModel:
    """The model that made a bank.

    Raises:
        PrototypeError: none of them did.
    """
    for model in models:
        if len(models) == 1 or model.fingerprint == given.model:
            given.require(model.fingerprint, model.text.fingerprint, source)
            return model
    raise PrototypeError(
        f"{source} was made by the model {given.model}; here are {', '.join(model.fingerprint for model in models)}"
    )
