"""Files into a library: only what is not in it yet is read."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from zsar_cli.digests import FileState, digest
from zsar_cli.engine.classifier import Classifier, Views
from zsar_cli.engine.pipeline import ALGORITHM, Pipeline
from zsar_cli.errors import InputError
from zsar_cli.models.base import VideoEncoder
from zsar_cli.records import Failure
from zsar_cli.store.library import LARGE, Library
from zsar_cli.store.library_spec import LibrarySpec, StoredModel
from zsar_cli.store.shards import Entry, Journal
from zsar_cli.video.content import content_digest
from zsar_cli.video.types import View

__all__ = ["Adder", "Outcome", "add_videos", "make_library", "spec_of"]


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Args:
        path: as it was given.
        what: "added", "known", "copy" (of a file that is in the library), "moved", "failed", or "failed before", when
            another job tried.
        error: why it failed.
    """

    path: str
    what: str
    error: InputError | None = None


def spec_of(classifier: Classifier, widths: Sequence[int]) -> LibrarySpec:
    """What a classifier would put into a library.

    Args:
        widths: D of each of its models.
    """
    pipeline = classifier.pipeline
    models = tuple(
        StoredModel(model.name, model.fingerprint, width, asdict(pipeline.views[view]))
        for model, view, width in zip(pipeline.models, pipeline.view_of, widths, strict=True)
    )
    settings = pipeline.settings
    return LibrarySpec(models, dict(settings.sampling), settings.decoder, ALGORITHM)


def make_library(folder: Path, classifier: Classifier) -> Library:
    """The library of a folder, which is made where there is none.

    Raises:
        UsageError, OutputError: see `Library.make`.
    """
    pipeline = classifier.pipeline
    views = [pipeline.views[number] for number in pipeline.view_of]
    return Library.make(folder, spec_of(classifier, list(map(_width, pipeline.models, views))))


def _width(model: VideoEncoder, view: View) -> int:
    side = view.geometry.size
    return model.encode_video(torch.zeros(1, view.sampling.frames, side, side, 3, dtype=torch.uint8)).shape[1]


def add_videos(
    library: Library, classifier: Classifier, inputs: Iterable[str | InputError], again: bool = False
) -> Generator[Outcome, None, None]:
    """Put videos into a library, as `Adder.add`.

    Raises:
        OutputError: the library cannot be written; what was added before is kept.
    """
    adder = Adder(library, classifier, again)
    try:
        yield from adder.add(inputs)
    finally:
        adder.close()


class Adder:
    """Puts videos into a library; each is safe there once its outcome is given.

    - A file that has not changed since it was added is known, by its size and time, and not opened.
    - Another is known by its content. At a new path it has moved, or it is a copy where the file at the old path is
      still there. At a known path it takes the place of what was there.

    Args:
        library: of the classifier's spec. What killed processes left in it is taken over.
        classifier: embeds what is new.
        again: try those again that failed before.

    Raises:
        OutputError: the library cannot be written.
    """

    def __init__(self, library: Library, classifier: Classifier, again: bool = False) -> None:
        library.recover()
        # The library itself keeps what is found; a cache beside it would keep all of it twice.
        self._pipeline = Pipeline(classifier.pipeline.models, classifier.pipeline.settings)
        self._precision = " + ".join(model.precision for model in self._pipeline.models)
        self._library, self._again = library, again
        videos = library.videos
        self._id_of = dict(zip(videos.paths, videos.ids, strict=True))
        self._path_of = dict(zip(videos.ids, videos.paths, strict=True))
        self._failed = {videos.ids[number] for number in np.flatnonzero(videos.failed).tolist()}
        states = zip(videos.sizes.tolist(), videos.modified.tolist(), strict=True)
        self._state_of = dict(zip(videos.paths, states, strict=True))
        self._journal: Journal | None = None

    def add(self, inputs: Iterable[str | InputError]) -> Iterator[Outcome]:
        """What becomes of each of the inputs: paths, and earlier failures; what is known comes first.

        Raises:
            OutputError: the library cannot be written; what was added before is kept.
        """
        unknown: list[str] = []
        for item in inputs:
            if isinstance(item, InputError):
                yield Outcome(item.path, "failed", item)
            elif self._unchanged(item):
                yield Outcome(item, self._as_before(self._id_of[os.path.abspath(item)]))
            else:
                unknown.append(item)
        skipped: deque[Outcome] = deque()
        waiting: deque[tuple[str, str, FileState | None]] = deque()
        for result in self._pipeline.embed(self._new(unknown, skipped, waiting), digests=False):
            yield self._take(result, *waiting.popleft())
            while skipped:
                yield skipped.popleft()
        yield from skipped

    def close(self) -> None:
        """End the decode processes, and make what was added a shard, which is read faster."""
        self._pipeline.close()
        if self._journal is not None:
            self._journal.seal()
        self._library.forget()

    def _unchanged(self, path: str) -> bool:
        """Whether a file need not be opened to be known."""
        name = os.path.abspath(path)
        if name not in self._state_of or (self._again and self._id_of[name] in self._failed):
            return False
        # The time of a folder says nothing of the frames in it.
        return not os.path.isdir(path) and self._stands(name, self._id_of[name])

    def _stands(self, name: str, content: str) -> bool:
        """Whether the file at a path is still the one of this content that is in the library."""
        state = FileState.now(name)
        kept = self._state_of.get(name)
        return state is not None and self._id_of.get(name) == content and (state.size, state.modified) == kept

    def _new(
        self, paths: Iterable[str], skipped: deque[Outcome], waiting: deque[tuple[str, str, FileState | None]]
    ) -> Iterator[str]:
        """Those that must be read."""
        for path in paths:
            state, found = FileState.now(path), content_digest(path)
            name = os.path.abspath(path)
            # What cannot be read has no content; it is known by its path.
            content = found or digest("unreadable", name)
            if (what := self._known(name, content, state)) is not None:
                skipped.append(Outcome(path, what))
                continue
            self._place(name, content, state)
            waiting.append((path, content, state))
            yield path

    def _as_before(self, content: str) -> str:
        """What is said of a file that is as it was when it was read."""
        return "failed before" if content in self._failed else "known"

    def _known(self, name: str, content: str, state: FileState | None) -> str | None:
        """What became of a file whose content is in the library; None where it is to be read."""
        if content not in self._path_of or (self._again and content in self._failed):
            return None
        old = self._path_of[content]
        if self._stands(old, content):
            if old == name:
                return self._as_before(content)
            if name not in self._id_of:
                return "copy"
        # A library knows what is at a path by the latest entry about it, so what came to a known path is said anew.
        self._write(_entry(content, name, state, kind="moved"))
        self._place(name, content, state)
        return self._as_before(content) if old == name else "moved"

    def _place(self, name: str, content: str, state: FileState | None) -> None:
        """From now on this content is at this path."""
        self._path_of[content], self._id_of[name] = name, content
        self._state_of[name] = (-1, -1) if state is None else (state.size, state.modified)

    def _take(self, result: Views | InputError, path: str, content: str, state: FileState | None) -> Outcome:
        name = os.path.abspath(path)
        if not isinstance(result, InputError):
            result = self._checked(result)
        if isinstance(result, InputError):
            error = Failure(result.stage, result.reason, result.decoder)
            self._failed.add(content)
            self._write(_entry(content, name, state, error=json.dumps(error.to_dict())))
            return Outcome(path, "failed", result)
        facts = json.dumps(asdict(replace(result[0].facts, path="")))
        vectors = [view.windows.half().numpy() for view in result]
        spans = result[0].spans.numpy()
        entry = _entry(content, name, state, precision=self._precision, facts=facts)
        self._write(replace(entry, spans=spans, vectors=vectors))
        return Outcome(path, "added")

    def _checked(self, result: Views) -> Views | InputError:
        """What can be one row a window."""
        path = result[0].facts.path
        if any(not torch.equal(view.spans, result[0].spans) for view in result):
            return InputError(path, "model", "the models divide it into different windows; give --window SECONDS")
        if any(not view.windows.half().isfinite().all() for view in result):
            return InputError(path, "model", "its embeddings are too large for the 16 bits that a library keeps")
        return result

    def _write(self, entry: Entry) -> None:
        if self._journal is None:
            self._journal = Journal(self._library.shards, self._library.spec.columns)
        self._journal.append(entry)
        if self._journal.size > LARGE:
            self._journal.seal()
            self._journal = None


def _entry(
    content: str, path: str, state: FileState | None, kind: str = "video", *, precision: str | None = None,
    facts: str | None = None, error: str | None = None,
) -> Entry:  # fmt: skip
    size, modified = (None, None) if state is None else (state.size, state.modified)
    return Entry(content, path, kind, size, modified, precision, facts, error)
