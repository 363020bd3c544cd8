"""Classifiers: what a notebook user holds, and the engine behind the command line. Make one with `loading.load`."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from itertools import chain
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, overload

import torch
from torch import Tensor

from zsar_cli.data.examples import Example
from zsar_cli.engine.background import background_semantic, look_beside
from zsar_cli.engine.deciding import Beside, Best, Deciding, decide
from zsar_cli.engine.examples import Examples, embed_examples
from zsar_cli.engine.pipeline import Embedding, EmbedSettings, Pipeline, Watch
from zsar_cli.errors import InputError, PrototypeError, UsageError
from zsar_cli.labels import Label, LabelSet, some_of
from zsar_cli.models.base import ConditionsText, RunsOnOpenVINO, VideoModel, visual_part
from zsar_cli.records import Prediction, Run, VideoRecord
from zsar_cli.store.cache import EmbeddingCache
from zsar_cli.text.encoder import encode_labels
from zsar_cli.text.lexicon import background_actions
from zsar_cli.text.minilm import MiniLM
from zsar_cli.transfer.bank import PrototypeBank, mean_prototypes
from zsar_cli.transfer.compose import compose, compose_beside, toward_examples
from zsar_cli.transfer.explanation import Explanation, explain
from zsar_cli.transfer.scoring import TransferSettings, aggregate, score_labels, to_shares
from zsar_cli.video.types import Excerpt, VideoFacts

if TYPE_CHECKING:
    from zsar_cli.engine.loading import ClassifierSpec

__all__ = ["Classifier", "Labelled", "LabelsLike", "Views", "ZeroShotClassifier"]

AT_ONCE = 1024  # windows that are scored: a film of hours takes no more memory on the way than minutes do
ENOUGH = 0.5  # share of a damaged video; an answer from less is doubtful
CONDITIONED = 30_000_000  # numbers of labels as windows see them, at a time

PathLike = str | os.PathLike[str]
LabelsLike = LabelSet | str | os.PathLike[str] | Iterable[str | Label]
Views = tuple[Embedding, ...]  # one video as each model of a classifier sees it
Self = TypeVar("Self", bound="Classifier")


@dataclass(frozen=True)
class Labelled:
    """Labels made ready for one model.

    Args:
        labels: U of them.
        prototypes: composed from the bank; None where there is no bank.
        weights: who composed whom, A [U, S].
        text: from the model's text tower, [U, D]; None where it has none.
        examples: what draws `text` towards the labels' examples (see `compose.toward_examples`), [U, D]; None where
            there is nothing to draw. In `prototypes` they are already.
        by_example: whether a label has one: no calibration holds then.
    """

    labels: LabelSet
    prototypes: PrototypeBank | None = None
    weights: Tensor | None = None
    text: Tensor | None = None
    examples: Tensor | None = None
    by_example: bool = False


class Classifier(ABC):
    """Any list of labels, any videos. One model (`ZeroShotClassifier`) or several (`ensemble.Ensemble`).

    Use it in a `with` block, or call `close`, to end its decode processes and close its cache at a moment of your
    choice. Any number of threads may use one classifier at once; models that compute on one device take turns there.

    Args:
        pipeline: embeds videos for the members.

    Attributes:
        spec: what it was built from; None where it was put together by hand.
        deciding: how answers are judged.
    """

    spec: ClassifierSpec | None = None

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.deciding = Deciding()
        self._beside: tuple[Labelled, Beside] | None = None

    @property
    @abstractmethod
    def members(self) -> tuple[ZeroShotClassifier, ...]:
        """One for each model, in order; settings are theirs."""

    @property
    @abstractmethod
    def weights(self) -> tuple[float, ...]:
        """How much each model counts; they sum to 1."""

    @property
    @abstractmethod
    def sharpness(self) -> float:
        """Of the softmax that turns similarities into shares."""

    @abstractmethod
    def prepare(self, labels: LabelSet, examples: Examples | None = None) -> Labelled:
        """Labels made ready for `similarity`, those with `examples` (see `see`) by these beside their words."""

    @property
    @abstractmethod
    def background(self) -> Labelled:
        """Everyday actions (`lexicon.background_actions`), made ready as labels are: what these stand out against."""

    @abstractmethod
    def score(self, rows: Sequence[Tensor], labelled: Labelled) -> Tensor:
        """Similarity of windows to each label, [N, U], in units of the typical spread over labels.

        Args:
            rows: for each model its `encode_video` of the windows, [N, D].
        """

    def window_similarity(self, video: Views, labelled: Labelled) -> Tensor:
        """Similarity of each window of a video to each label, [N, U].

        Raises:
            UsageError: the models divide the video into different windows.
        """
        if len({len(part.windows) for part in video}) > 1:
            counts = ", ".join(
                f"{model.name} {len(part.windows)}" for model, part in zip(self.pipeline.models, video, strict=True)
            )
            raise UsageError(f"the models divide a video into different windows ({counts}); give --window SECONDS")
        return self.score([part.windows for part in video], labelled)

    @abstractmethod
    def similarities(self, videos: Sequence[Views], labelled: Labelled) -> Tensor:
        """Similarity of V embedded videos to each label, [V, U], in units of the typical spread over labels."""

    def similarity(self, video: Views, labelled: Labelled) -> Tensor:
        """Of one, [U]."""
        return self.similarities([video], labelled)[0]

    @abstractmethod
    def describe(self, labels: LabelSet, examples: Examples | None = None) -> Run:
        """What every result of a job depends on. Two results with equal descriptions were made alike."""

    def see(self, examples: Sequence[Example]) -> Examples | None:
        """Examples of labels, for `prepare` and `describe`; None where there are none.

        Raises:
            UsageError: one cannot be read.
        """
        return embed_examples(self.pipeline, examples) if examples else None

    def embed(
        self, inputs: Iterable[str | Excerpt | InputError], watch: Watch | None = None
    ) -> Iterator[Views | InputError]:
        """Visual embeddings of each video, one for each member, in the order of `inputs` (see `Pipeline.embed`)."""
        return self.pipeline.embed(inputs, watch)

    @overload
    def classify(self, videos: PathLike, labels: LabelsLike) -> VideoRecord: ...  # type: ignore[overload-overlap]

    @overload
    def classify(self, videos: Iterable[PathLike], labels: LabelsLike) -> list[VideoRecord]: ...

    def classify(self, videos: PathLike | Iterable[PathLike], labels: LabelsLike) -> VideoRecord | list[VideoRecord]:
        """Which of the labels happens in each video.

        Args:
            videos: the path of one video (or folder of frames), or several.
            labels: names, a label file, or a `LabelSet`.

        Returns:
            for one path its record; for several their records, in order, a failed one with `error` set.

        Raises:
            InputError: one path was given and cannot be used.
            LabelError: the labels cannot be used.
        """
        labelled = self.prepare(LabelSet.of(labels))
        if not isinstance(videos, str | os.PathLike):
            return list(self.classify_each([_text(path) for path in videos], labelled))
        (item,) = self.embed([_text(videos)])
        (record,) = self.records([item], labelled)
        if record.error is not None:
            raise InputError(record.path, record.error.stage, record.error.reason, record.error.decoder)
        return record

    def classify_each(
        self, inputs: Iterable[str | InputError], labelled: Labelled, top_k: int | None = None
    ) -> Iterator[VideoRecord]:
        """Records in the order of `inputs`, as they are ready; a file that fails gives a record with `error` set.

        Args:
            top_k: how many labels a record has; None has all.
        """
        for item in self.embed(inputs):
            yield from self.records([item], labelled, top_k)

    def records(
        self, videos: Sequence[Views | InputError], labelled: Labelled, top_k: int | None = None
    ) -> list[VideoRecord]:
        """The best labels of embedded videos, best first, in one go; of those that failed, why.

        Args:
            top_k: how many labels; None gives all.
        """
        embedded = [video for video in videos if not isinstance(video, InputError)]
        similarity = self.similarities(embedded, labelled) if embedded else torch.zeros(0, len(labelled.labels))
        finite = torch.isfinite(similarity).all(dim=1)
        similarity = similarity.nan_to_num()
        shares = to_shares(similarity, self.sharpness)
        order = _best(shares, None if top_k is None else max(top_k, 2))
        best = Best(labelled.labels.names, order, shares.gather(1, order), similarity.gather(1, order))
        judged = decide(best, *self._against(embedded, labelled)) if embedded else ()
        columns = (column.tolist() for column in (order, best.shares, best.similarity))
        rows = zip(embedded, finite.tolist(), judged, *columns, strict=True)
        found = []
        for video in videos:
            if isinstance(video, InputError):
                found.append(VideoRecord.failed(video))
                continue
            _, usable, (decision, probabilities), labels, *values = next(rows)
            facts = self.facts(video)
            if not usable:
                wrong = InputError(facts.path, "model", "its similarities are not finite numbers")
                found.append(VideoRecord.failed(wrong))
                continue
            if facts.partial is not None and facts.partial.share < ENOUGH:
                seen = f"only {facts.partial.share:.0%} of the video was read"
                decision = replace(decision, doubtful=True, reasons=(seen, *decision.reasons))
            names = [best.names[label] for label in labels[:top_k]]
            predictions = tuple(map(Prediction, names, *values, probabilities))
            record = VideoRecord(facts.path, predictions, facts=facts, windows=len(video[0].windows), decision=decision)
            found.append(record)
        return found

    def _against(self, videos: Sequence[Views], labelled: Labelled) -> tuple[Tensor, Beside, Deciding]:
        """What the labels of videos are judged by, see `deciding.decide`."""
        known, beside = self._beside or (None, None)
        if beside is None or known is not labelled:
            beside = look_beside(self.members, labelled.labels)
            self._beside = labelled, beside
        background = self.similarities(videos, self.background)[:, beside.far].nan_to_num()
        how = replace(self.deciding, calibration=None) if labelled.by_example else self.deciding
        return background, beside, how

    def facts(self, video: Views) -> VideoFacts:
        """What is known of the file, as the first model sees it."""
        return video[0].facts

    def close(self) -> None:
        """End the decode processes and close the cache. Both come back when they are needed again."""
        self.pipeline.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ZeroShotClassifier(Classifier):
    """A model, its bank of seen classes and the settings of transfer, for any list of labels.

    Args:
        model: encodes video.
        bank: seen classes; must have been made by `model`. None for a model with a text tower alone.
        transfer: how scores are made, where not in the model's own way.
        embedding: how files become embeddings.
        cache: where embeddings are kept; None keeps none.
        added: a second bank, which composes only the labels near to its classes (see `compose.compose_beside`).
    """

    def __init__(
        self,
        model: VideoModel,
        bank: PrototypeBank | None,
        transfer: TransferSettings | None = None,
        embedding: EmbedSettings | None = None,
        cache: EmbeddingCache | None = None,
        added: PrototypeBank | None = None,
    ) -> None:
        super().__init__(Pipeline([model], embedding or EmbedSettings(), cache))
        for given in filter(None, (bank, added)):
            given.require(model.fingerprint, model.text.fingerprint, "the prototype bank")
        if bank is None:  # alone, an added bank is the bank
            bank, added = added, None
        self.model, self.bank, self.added = model, bank, added
        self.transfer = transfer or model.transfer

    @property
    def members(self) -> tuple[ZeroShotClassifier]:
        """Itself."""
        return (self,)

    @property
    def weights(self) -> tuple[float]:
        """All."""
        return (1.0,)

    @property
    def sharpness(self) -> float:
        """See `TransferSettings`."""
        return self.transfer.sharpness

    @property
    def text_encoder(self) -> str | None:
        """Fingerprint of the sentence encoder that relates names, if it is neither the packaged one nor the model's."""
        own = (None, MiniLM.fingerprint, self.model.fingerprint)
        used = None if self.bank is None else self.bank.text_encoder
        return None if used in own else used

    def prepare(self, labels: LabelSet, examples: Examples | None = None) -> Labelled:
        """Compose a prototype for each label (see `compose`), and ask the text tower if there is one."""
        labelled = self._from_words(labels)
        if examples is None:
            return labelled
        rows, prototypes = examples.rows(labels), labelled.prototypes
        if prototypes is not None:
            prototypes = replace(prototypes, visual=toward_examples(prototypes.visual, rows))
        toward = None if labelled.text is None else self._less_blank(rows)
        return replace(labelled, prototypes=prototypes, examples=toward, by_example=True)

    def _less_blank(self, examples: Tensor) -> Tensor:
        """Unit rows [U, D] (or zeros) less how the model sees grey frames, unless it sees those as unlike videos.

        All videos are nearer to each other than to any text, and so is a video that shows nothing: less that, an
        example can be added to a text without making it like all videos.
        """
        frames, side = self.pipeline.settings.sampling_of(self.model).frames, self.model.geometry.size
        with self.pipeline.computing:
            rows = self.model.encode_video(torch.full((1, frames, side, side, 3), 128, dtype=torch.uint8))
        blank = torch.nn.functional.normalize(visual_part(self.model, rows), dim=1)
        return examples - (examples @ blank.T > 0) * blank

    @cached_property
    def background(self) -> Labelled:
        """See `Classifier.background`."""
        return self._from_words(LabelSet.from_names(background_actions().names), background_semantic(self.model.text))

    def _from_words(self, labels: LabelSet, semantic: Tensor | None = None) -> Labelled:
        text = self.model.encode_labels(labels.labels)
        if self.bank is None:
            return Labelled(labels, text=text)
        if semantic is None:
            semantic = encode_labels(self.model.text, labels.labels)
        how = (self.transfer.top_k, self.transfer.temperature)
        prototypes, weights = compose(self.bank, labels.names, semantic, *how)
        if self.added is not None:
            prototypes, weights = compose_beside(prototypes, weights, self.added, *how)
        return Labelled(labels, prototypes, weights, text)

    def score(self, rows: Sequence[Tensor], labelled: Labelled) -> Tensor:
        """Blended similarity of windows to each label, [N, U]."""
        (own,) = rows
        most = AT_ONCE
        if isinstance(self.model, ConditionsText) and labelled.text is not None:  # its labels are [N, U, D]
            most = min(most, CONDITIONED // labelled.text.numel())
        parts = (self._score(part, labelled) for part in torch.split(own, max(most, 1)))
        first = next(parts)
        result, end = first.new_empty(len(own), first.shape[1]), 0
        for part in chain([first], parts):  # not `cat`, for which all would stand here twice
            end += len(part)
            result[end - len(part) : end] = part
        return result

    def _score(self, rows: Tensor, labelled: Labelled) -> Tensor:
        visual, text = self._seen_by(rows, labelled.text)
        if text is not None and labelled.examples is not None:
            text = toward_examples(text, labelled.examples)
        return score_labels(visual, self.transfer, self.bank, labelled.prototypes, text)

    def similarities(self, videos: Sequence[Views], labelled: Labelled) -> Tensor:
        """Similarity of videos to each label, [V, U]: of their windows, aggregated."""
        windows = [own.windows for (own,) in videos]
        counts = [len(own) for own in windows]
        rows = self.score([windows[0] if len(windows) == 1 else torch.cat(windows)], labelled)  # no copy of a long one
        if len(rows) == len(videos):  # a window each: nothing to aggregate
            return rows
        return torch.stack([aggregate(part, self.transfer.aggregate) for part in torch.split(rows, counts)])

    def _seen_by(self, rows: Tensor, text: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Visual embeddings [N, D] of rows of `encode_video`, and the labels, rewritten by a model that does so."""
        if not isinstance(self.model, ConditionsText):
            return rows, text
        return visual_part(self.model, rows), None if text is None else self.model.condition_text(rows, text)

    def class_means(
        self, labelled_paths: Iterable[tuple[str | Excerpt, str]], done: Callable[[], None] = lambda: None
    ) -> tuple[PrototypeBank, list[InputError]]:
        """Prototypes of classes from example videos (see `bank.mean_prototypes`).

        Args:
            labelled_paths: (path or part of a file, class name) pairs.
            done: called after each video.

        Returns:
            the bank, classes in order of first mention, and the videos that could not be used.

        Raises:
            PrototypeError: a class is left without a single usable video.
        """
        pairs = list(labelled_paths)
        groups: dict[str, list[Tensor]] = {name: [] for _, name in pairs}
        failures: dict[str, list[InputError]] = {name: [] for _, name in pairs}
        for (_, name), item in zip(pairs, self.embed(path for path, _ in pairs), strict=True):
            done()
            if isinstance(item, InputError):
                failures[name].append(item)
            else:
                groups[name].append(self._seen_by(item[0].windows, None)[0].mean(dim=0))
        for name, group in groups.items():
            if not group:
                why = some_of([str(failure) for failure in failures[name]], 1)
                raise PrototypeError(f"the class '{name}' has no usable video ({why}); mend or remove it")
        bank = PrototypeBank(
            labels=tuple(groups),
            semantic=encode_labels(self.model.text, LabelSet.from_names(groups).labels),
            visual=mean_prototypes([torch.stack(group) for group in groups.values()]),
            model=self.model.fingerprint,
            text_encoder=self.model.text.fingerprint,
            kind="class means",
        )
        return bank, [failure for group in failures.values() for failure in group]

    def explain(self, labels: LabelsLike, top: int = 5) -> Explanation:
        """What composes each label and what the model will confuse (see `explanation.explain`).

        Raises:
            PrototypeError: the model has no bank of seen classes, so nothing is composed.
        """
        labelled = self.prepare(LabelSet.of(labels))
        if self.bank is None or labelled.prototypes is None or labelled.weights is None:
            raise PrototypeError(f"the model '{self.model.name}' has no bank of seen classes; give --prototypes")
        bank = self.bank if self.added is None else self.bank.beside(self.added)
        return explain(bank, labelled.prototypes, labelled.weights, top)

    def _versions(self) -> dict[str, str]:
        """Of what computes."""
        found = {"torch": torch.__version__, "av": version("av"), "python": platform.python_version()}
        if isinstance(self.model, RunsOnOpenVINO) and self.model.openvino is not None:
            found["openvino"] = self.model.openvino
        return found

    def describe(self, labels: LabelSet, examples: Examples | None = None) -> Run:
        """What every result of a job depends on."""
        settings = self.pipeline.settings
        return Run(
            model=self.model.name,
            fingerprint=self.model.fingerprint,
            labels_digest=labels.digest,
            labels_count=len(labels),
            settings={
                **asdict(self.transfer),
                **self.deciding.described,
                "decoder": settings.decoder,
                "sampling": asdict(settings.sampling_of(self.model)),
                **({} if self.text_encoder is None else {"text_encoder": self.text_encoder}),
                **({} if examples is None else {"like": examples.described}),
            },
            bank=" + ".join(f"{bank.kind} {bank.digest}" for bank in (self.bank, self.added) if bank) or None,
            device=str(self.model.device),
            precision=self.model.precision,
            versions=self._versions(),
            notes=labels.notes,
        )


def _best(shares: Tensor, top_k: int | None) -> Tensor:
    """Numbers of the labels with the highest shares, best first, of equal ones the first: [V, U] -> [V, top_k]."""
    if top_k is None or top_k >= shares.shape[1]:
        return torch.sort(shares, dim=1, descending=True, stable=True).indices
    chosen = shares.topk(top_k, dim=1).indices.sort(dim=1).values
    return chosen.gather(1, torch.sort(shares.gather(1, chosen), dim=1, descending=True, stable=True).indices)


def _text(path: PathLike) -> str:
    """A path as text.

    Raises:
        UsageError: it is none.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str):
        raise UsageError(f"{path!r} is no path of a video; give text or a pathlib.Path")
    return text
