"""From options to the one object that does the work."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from zsar_cli.cli.console import Messages, without_banner
from zsar_cli.cli.options import ComputeOptions, DecisionOptions, ModelOptions, VideoOptions
from zsar_cli.errors import UsageError, ZsarError
from zsar_cli.labels import LabelSet, some_of

if TYPE_CHECKING:
    from zsar_cli.data.examples import Example
    from zsar_cli.engine.classifier import Classifier, ZeroShotClassifier
    from zsar_cli.engine.examples import Examples
    from zsar_cli.store.library import Library

__all__ = [
    "cache_folder",
    "check_languages",
    "in_windows",
    "open_classifier",
    "open_one",
    "read_examples",
    "read_labels",
    "see_examples",
]

MANY_LABELS = 10_000  # more than this are worth a word
NAMED = 10  # labels in one warning
WINDOW = 4.0  # seconds, where none is given; short actions last about as long


def cache_folder(given: Path | None) -> Path:
    """--cache-dir, else the place the platform keeps such things."""
    return given if given is not None else Path(platformdirs.user_cache_dir("zsar", appauthor=False))


def read_labels(
    file: Path | None, names: list[str] | None, messages: Messages, examples: Sequence[Example] = ()
) -> LabelSet:
    """--labels, --label and the labels of --like together; what was noticed while reading is a warning.

    Raises:
        LabelError: the file or a name cannot be used.
        UsageError: none was given.
    """
    if file is None and not names and not examples:
        raise UsageError("no labels: give --labels FILE, or --label NAME once for each name")
    labels: LabelSet | None = None
    if file is not None:
        stdin = str(file) == "-"
        labels = LabelSet.read_text(sys.stdin.buffer.read(), "standard input") if stdin else LabelSet.read(file)
    if names:
        labels = LabelSet.from_names(names) if labels is None else labels.with_names(names)
    labels = _with_examples(labels, examples, messages)
    for note in labels.notes:
        messages.warning(note)
    for name in names or []:
        if "," in name:
            messages.warning(f"--label {name}: the comma is part of the name; for several labels give --label to each")
    if len(labels) > MANY_LABELS:
        messages.info(f"{len(labels)} labels: they are embedded first, which takes minutes; the cache keeps that")
    return labels


def _with_examples(labels: LabelSet | None, examples: Sequence[Example], messages: Messages) -> LabelSet:
    """The labels, and behind them those that have an example alone."""
    known = {text.casefold() for text in labels.texts} if labels is not None else set()
    new = {example.label.text.casefold(): example.label for example in examples}
    added = [label for text, label in new.items() if text not in known]
    if not added and labels is not None:
        return labels
    messages.info(f"labels of --like alone, whose words are their names: {', '.join(one.name for one in added)}")
    return LabelSet.from_names(added) if labels is None else labels.with_names(added)


def read_examples(given: list[str] | None) -> list[Example]:
    """--like.

    Raises:
        UsageError: a value cannot be used; names it.
    """
    from zsar_cli.data.examples import parse_example

    try:
        return [parse_example(text) for text in given or []]
    except UsageError as error:
        raise UsageError(f"--like {error}") from None


def see_examples(classifier: Classifier, examples: Sequence[Example], messages: Messages) -> Examples | None:
    """--like as the models see it; None where none is given.

    Raises:
        UsageError: an example cannot be read; names it.
    """
    try:
        seen = classifier.see(examples)
    except UsageError as error:
        classifier.close()
        raise UsageError(f"--like {error}") from None
    for note in seen.notes if seen is not None else ():
        messages.warning(f"--like {note}")
    return seen


def check_languages(classifier: Classifier, labels: LabelSet, messages: Messages) -> None:
    """Warn of labels in a language that a model's text encoders do not know: their scores mean little."""
    from zsar_cli.models.base import HasTextTower
    from zsar_cli.text.languages import foreign_labels

    for member in classifier.members:
        encoders = [member.model.tower] if isinstance(member.model, HasTextTower) else []
        encoders += [member.model.text] if member.bank is not None else []
        for languages in dict.fromkeys(encoder.languages for encoder in encoders):
            if foreign := [label.name for label in foreign_labels(labels, languages)]:
                known = ", ".join(languages) if len(languages) <= NAMED else f"{len(languages)} languages"
                other = "" if isinstance(member.model, HasTextTower) else ", or take another --text-encoder"
                messages.warning(
                    f"{member.model.name} understands labels in {known} alone; scores mean little for: "
                    f"{some_of(foreign, NAMED)}; translate them{other}"
                )


def open_classifier(
    messages: Messages,
    models: ModelOptions,
    compute: ComputeOptions | None = None,
    reading: VideoOptions | None = None,
    library: Library | None = None,
    decision: DecisionOptions | None = None,
) -> Classifier:
    """Load the models that the options ask for, once nothing of the options is to be refused without them.

    Args:
        library: whose vectors the models are to work on; where the options do not say which models and windows, those
            of the library.

    Raises:
        ZsarError: as `ClassifierSpec.build`.
        UsageError: the library holds vectors that are made in another way.
    """
    compute, reading = compute or ComputeOptions(), reading or VideoOptions()
    deciding = _deciding(decision or DecisionOptions())
    sampling = _sampling(reading, {} if library is None else library.spec.sampling)
    names = _names(models, library, messages)
    from zsar_cli.engine.checks import check_models

    chosen: dict[str, Any] = {
        "weights": _numbers(models.weights),
        "seen_labels": _text(models.seen_labels),
        "prototypes": _text(models.prototypes),
        "bank": models.bank,
        "text_encoder": models.text_encoder,
        "device": compute.device,
        "precision": compute.precision,
        "runtime": compute.runtime,
    }
    check_models(names, **chosen)
    messages.detail(f"loading {', '.join(names)}")
    if models.text_encoder is not None:
        messages.info(f"names are related by {models.text_encoder}; at first use it reads all names of seen classes")
    from zsar_cli.engine.loading import ClassifierSpec
    from zsar_cli.engine.pipeline import EmbedSettings

    cache = None if models.no_cache else _usable(cache_folder(models.cache_dir), messages)
    spec = ClassifierSpec(
        models=tuple(names),
        **chosen,
        embedding=EmbedSettings(
            sampling, reading.decoder, reading.workers, reading.timeout, compute.batch_size, reading.hash
        ),
        **deciding,
        cache_dir=_text(cache),
    )
    from zsar_cli.models.base import RunsOnOpenVINO

    with without_banner():
        classifier = spec.build(messages.warning)
    if library is not None:
        from zsar_cli.engine.adding import spec_of

        kept = library.spec.of([member.model.name for member in classifier.members], library.folder)
        kept.require(spec_of(classifier, [model.width for model in kept.models]), library.folder)
    if models.text_encoder is not None:
        _tell_text_encoder(models.text_encoder, classifier, decision, messages)
    for member in classifier.members:
        one = member.model
        by = f" by OpenVINO {one.openvino}" if isinstance(one, RunsOnOpenVINO) and one.openvino else ""
        messages.detail(f"{one.fingerprint} on {one.device}{by}, {len(member.bank or ())} seen classes")
    return classifier


def _tell_text_encoder(name: str, classifier: Classifier, decision: DecisionOptions | None, messages: Messages) -> None:
    """Say what --text-encoder does not reach."""
    if others := [member.model.name for member in classifier.members if member.text_encoder is None]:
        messages.info(f"--text-encoder {name}: {', '.join(others)} keeps its own")
    if decision is not None and decision.calibration == "auto" and classifier.deciding.calibration is None:
        messages.info(f"--text-encoder {name}: probabilities were not measured with it; 'zsar calibrate' does that")


def _names(models: ModelOptions, library: Library | None, messages: Messages) -> list[str]:
    """--model; where zsar is to choose, the models of the library, else the best that is here, which it says.

    Raises:
        UsageError: it is to choose one of several.
    """
    from zsar_cli.engine.choosing import choose_model, is_auto

    if not is_auto(models.model):
        assert models.model is not None
        return models.model
    if library is not None:
        return [model.name for model in library.spec.models]
    choice = choose_model(models.prototypes, related=models.text_encoder is not None)
    messages.info(choice.said)
    for note in choice.notes:
        messages.warning(note)
    return [choice.name]


def _deciding(decision: DecisionOptions) -> dict[str, Any]:
    """--reject and --calibration, as `ClassifierSpec` has them.

    Raises:
        UsageError: a value that no model is needed to refuse.
    """
    if decision.calibration not in ("auto", "none") and not Path(decision.calibration).is_file():
        given = f"--calibration {decision.calibration}"
        raise UsageError(f"{given}: no such file; give auto, none, or a file of 'zsar calibrate'")
    reject: float | str | None = decision.reject
    if reject not in (None, "auto"):
        try:
            reject = float(str(reject))
        except ValueError:
            raise UsageError(f"--reject {reject}: give auto, or a number from 0 to 1") from None
        if not 0 <= reject <= 1:
            raise UsageError(f"--reject {reject:g}: give auto, or a number from 0 to 1")
    return {"calibration": decision.calibration, "reject": reject}


def _sampling(reading: VideoOptions, kept: Mapping[str, Any]) -> dict[str, Any]:
    """What the options change of each model's own sampling, and what a library has `kept` of it.

    Raises:
        UsageError: no model could work with it, so none need be loaded.
    """
    from zsar_cli.video.content import HASHES
    from zsar_cli.video.limits import check_timeout
    from zsar_cli.video.reader import DECODERS
    from zsar_cli.video.sampling import check_sampling
    from zsar_cli.video.types import Sampling

    asked = {
        **{name: getattr(reading, name) for name in ("windows", "frames", "window", "stride", "frame_step")},
        "exact": False if reading.fast else None,
        "frame_rate": reading.frame_rate,
    }
    sampling = {**kept, **{name: value for name, value in asked.items() if value is not None}}
    check_sampling(replace(Sampling(), **sampling))
    check_timeout(reading.timeout)
    for name, value, allowed in (("decoder", reading.decoder, DECODERS), ("hash", reading.hash, HASHES)):
        if value not in allowed:
            raise UsageError(f"--{name} {value}: unknown; allowed: {', '.join(allowed)}")
    return sampling


def in_windows(reading: VideoOptions) -> VideoOptions:
    """Windows of a length, unless a number of them is given; by default each overlaps the next by half."""
    if reading.windows is not None:
        return reading
    window = WINDOW if reading.window is None else reading.window
    return replace(reading, window=window, stride=window / 2 if reading.stride is None else reading.stride)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _usable(folder: Path, messages: Messages) -> Path | None:
    """The cache's folder, or None with a warning: a cache saves time, and its loss must not cost the job."""
    from zsar_cli.store.cache import EmbeddingCache

    cache = EmbeddingCache(folder)
    try:
        cache.check()
    except ZsarError as error:
        messages.warning(f"{error}; going on without it")
        return None
    finally:
        cache.close()
    return folder


def open_one(messages: Messages, models: ModelOptions, *others: Any) -> ZeroShotClassifier:
    """As `open_classifier`, for what is done with one model.

    Raises:
        UsageError: several were given.
    """
    if models.model and len(models.model) > 1:
        each = ", then with ".join(f"--model {name}" for name in models.model)
        raise UsageError(f"this is done with one model at a time: run it with {each}")
    return open_classifier(messages, models, *others).members[0]


def _numbers(text: str | None) -> tuple[float, ...] | None:
    """--weights: numbers with commas between them."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--weights {text}: write numbers with commas between them, such as 1,2") from None
