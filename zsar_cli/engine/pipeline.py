"""Files in, embeddings out: decoding in other processes overlaps with the models in this one.

Windows are encoded in the order of their arrival, whatever file they are of; what waits for its turn are vectors, not
frames. Memory is bounded by the number of decode workers and the batch size, not by the number of files or their
length, and every failure is a value in its place.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from zsar_cli.digests import FileState, digest
from zsar_cli.engine.encoding import encode, stacked
from zsar_cli.engine.machine import processors
from zsar_cli.engine.memory import give_back
from zsar_cli.errors import InputError, UsageError
from zsar_cli.models.base import VideoEncoder
from zsar_cli.store.cache import EmbeddingCache
from zsar_cli.video.assembly import together
from zsar_cli.video.content import content_digest
from zsar_cli.video.decoding import Part
from zsar_cli.video.reader import decoder_versions, reader_of
from zsar_cli.video.types import Excerpt, Sampling, VideoFacts, View, Window, WindowBatch
from zsar_cli.video.workers import DecodePool

__all__ = ["EmbedSettings", "Embedding", "Pipeline", "Watch"]

ALGORITHM = "windows/1"  # of all between a file and the model's input; another way to frames is another name
BUFFER = 64_000_000  # bytes of results that may wait for a slow file before them
GIVE_BACK = 128  # windows after which free memory goes back to the system
OVERHEAD = 4096  # bytes that are counted for a result beside its vectors


@dataclass(frozen=True)
class EmbedSettings:
    """How files become embeddings.

    Args:
        sampling: fields of each model's own `Sampling` that are replaced, by name.
        decoder: "pyav" or "decord".
        workers: decode processes; None takes one for each processor. Decoding is more work than the model, or waits
            for it: in either case the system shares the processors better than a lower number would.
        timeout: seconds a decoder may take for the next windows of a file.
        batch_size: windows the model is given at a time; None takes 1 on a CPU, where more gain nothing, and 8
            elsewhere.
        hashes: how files are told apart in the cache, see `content.content_digest`.
    """

    sampling: Mapping[str, Any] = field(default_factory=dict)
    decoder: str = "pyav"
    workers: int | None = None
    timeout: float = 120.0
    batch_size: int | None = None
    hashes: str = "sampled"

    @property
    def decode_workers(self) -> int:
        """Decode processes."""
        return self.workers or processors()

    def sampling_of(self, model: VideoEncoder) -> Sampling:
        """The frames that are read for a model. A length of windows takes the place of their number."""
        own = model.sampling
        if self.sampling.get("window") is not None and "windows" not in self.sampling:
            own = replace(own, windows=1)
        return replace(own, **self.sampling)


@dataclass(frozen=True)
class Embedding:
    """One video as a model sees it.

    Args:
        facts: what is known of the file.
        spans: float64 [N, 2], seconds, of the windows.
        windows: float32 [N, D], one visual embedding each.
    """

    facts: VideoFacts
    spans: Tensor
    windows: Tensor


# Called with a path, the number of a model, and spans [n, 2] and vectors [n, D] of windows as they were encoded.
Watch = Callable[[str, int, Tensor, Tensor], None]
Result = tuple[Embedding, ...] | InputError


class Pipeline:
    """Embeds videos for one model or several; a file is read once for all of them.

    Any number of threads may call `embed` at once; they share the decode processes.

    Args:
        models: in order; those that look at the same frames share them.
        settings: how files are read.
        cache: where embeddings are kept; None keeps none.

    Attributes:
        workers: decode processes.
    """

    def __init__(
        self, models: Sequence[VideoEncoder], settings: EmbedSettings, cache: EmbeddingCache | None = None
    ) -> None:
        self.models, self.settings, self.cache = tuple(models), settings, cache
        looks = [View(settings.sampling_of(model), model.geometry) for model in models]
        self.views = tuple(dict.fromkeys(looks))
        self.view_of = tuple(self.views.index(look) for look in looks)
        on_cpu = all(model.device.type == "cpu" for model in models)
        self.batch_size = settings.batch_size or (1 if on_cpu else 8)
        self.workers = settings.decode_workers
        self._pool: DecodePool | None = None
        self._lock = threading.Lock()  # of the pool
        self.computing = threading.Lock()  # of the models

    def embed(
        self, inputs: Iterable[str | Excerpt | InputError], watch: Watch | None = None, digests: bool = True
    ) -> Iterator[Result]:
        """Each video's embeddings, one for each model, or why there are none, in the order of `inputs`.

        Args:
            inputs: paths or parts of files, read as they are needed, and earlier failures, which keep their place.
            watch: sees windows as they are encoded, those of different files mixed; nothing of cached videos. Those of
                a long file come in any order, and again where damage was found in it.
            digests: whether the content of each file is wanted in its facts. A caller without a cache who has digested
                the files itself saves reading them once more.
        """
        job = _Job(self, watch)
        choose = job.choose if digests or self.cache is not None else None
        hold = lambda: job.held > BUFFER  # noqa: E731
        events: Generator[tuple[int, Any], None, None] = self._decoders().stream(
            job.numbered(inputs), choose, hold, self.settings.hashes
        )
        try:
            for number, event in events:
                job.take(number, event)
                if job.waits_for_a_batch:
                    job.encode_waiting()
                yield from job.in_order()
            job.encode_waiting()
            yield from job.in_order()
        finally:
            events.close()

    def stream(self, path: str) -> Iterator[tuple[Tensor, Tensor] | VideoFacts]:
        """The windows of one file in their order, as soon as each is encoded, and then what is known of the file.

        Nothing is kept of them here, and the cache is neither asked nor added to.

        Yields:
            spans float64 [n, 2] in seconds and vectors float32 [n, D] of some windows; last the facts.

        Raises:
            InputError: the file cannot be read on, or its vectors are not finite.
            UsageError: there are several models, which may look at it one after the other, or several decode processes,
                which would share it.
        """
        if len(self.models) > 1 or self.workers > 1:
            raise UsageError(
                f"a video is streamed by one model and one decode process, not {len(self.models)} and {self.workers}"
            )
        known: list[str | None] = [None]

        def choose(number: int, path: str, content: str | None) -> tuple[int, ...]:
            known[0] = content
            return (0,)

        since = 0
        with closing(self._decoders().stream([path], choose, hashes=self.settings.hashes, ahead=1)) as events:
            for _, event in events:
                if isinstance(event, InputError):
                    raise event
                if event is None:
                    continue
                assert event.content is not None  # nothing is read again that one process reads alone
                if isinstance(event.content, VideoFacts):
                    yield replace(event.content, content=known[0])
                    continue
                rows = self.encode(0, event.content)
                if (wrong := next((row for row in rows if isinstance(row, str)), None)) is not None:
                    raise InputError(path, "model", wrong)
                yield _spans(event.content), torch.stack([row for row in rows if isinstance(row, Tensor)])
                since += len(rows)
                if since >= GIVE_BACK:
                    since = 0
                    give_back()

    def encode(self, model: int, batch: WindowBatch) -> list[Tensor | str]:
        """What a model makes of windows: a vector [D] for each, or why there is none."""
        encoder = self.models[model]
        frames, shown = stacked(batch.frames, encoder.device), torch.from_numpy(batch.shown)
        with self.computing:
            return encode(encoder, frames, shown, self.batch_size)

    def close(self) -> None:
        """End the decode processes and close the cache; both come back when they are needed."""
        with self._lock:
            if self._pool is not None:
                self._pool.close()
                self._pool = None
        if self.cache is not None:
            self.cache.close()

    def content(self, path: str) -> str | None:
        """What tells a file from others (see `content_digest`); not read where the cache knows it unchanged."""
        how, cache = self.settings.hashes, self.cache
        if cache is not None and (known := cache.file_digest(path, how)) is not None:
            return known
        before, found = FileState.of(path), content_digest(path, how)
        if cache is not None and before is not None and found is not None:
            cache.keep_digest(before, found, how)
        return found

    def keys(self, path: str, content: str, within: Window | None = None) -> list[str]:
        """For each model the cache's key: a digest of the content and of everything else that decides embeddings."""
        part = () if within is None else (within.start, within.end)
        reader = reader_of(path, self.settings.decoder)
        version = decoder_versions()[reader]
        return [
            digest(
                "video", ALGORITHM, content, model.fingerprint, model.precision, asdict(self.views[view].sampling),
                asdict(self.views[view].geometry), reader, version, *part,
            )
            for model, view in zip(self.models, self.view_of, strict=True)
        ]  # fmt: skip

    def _decoders(self) -> DecodePool:
        with self._lock:
            if self._pool is None:
                self._pool = DecodePool(self.workers, self.settings.timeout, self.views, self.settings.decoder)
                weakref.finalize(self, self._pool.close)
            return self._pool


@dataclass
class _File:
    """A file under way.

    Args:
        path: of it.
        within: the part that is looked at.
        parts: for each model its spans and vectors so far.
        keys: for each model its key in the cache.
        known: for each model what the cache had.
        facts: of each view that was read to its end.
        waiting: windows that are not encoded yet.
        ended: whether all of it was decoded.
        state: of the file before it was digested.
        content: its digest.
    """

    path: str
    within: Window | None
    parts: list[list[tuple[Tensor, Tensor]]]
    known: list[Embedding | None]
    keys: list[str] = field(default_factory=list)
    facts: dict[int, VideoFacts] = field(default_factory=dict)
    waiting: int = 0
    ended: bool = False
    state: FileState | None = None
    content: str | None = None


class _Job:
    """One run over inputs: what is under way, what waits for its turn. All but `choose` is called by one thread."""

    def __init__(self, pipeline: Pipeline, watch: Watch | None) -> None:
        self._pipeline, self._watch = pipeline, watch
        self._files: dict[int, _File] = {}
        self._batch: list[tuple[int, int, WindowBatch]] = []
        self._done: dict[int, Result] = {}
        self._next = 0
        self.held = 0  # bytes of results that wait
        self._since = 0  # windows since memory was given back

    def numbered(self, inputs: Iterable[str | Excerpt | InputError]) -> Iterator[str | Excerpt | Result]:
        """The inputs; in the place of a video whose embeddings are known already, those."""
        for number, item in enumerate(inputs):
            if isinstance(item, InputError):
                yield item
                continue
            models = len(self._pipeline.models)
            path, within = (item, None) if isinstance(item, str) else (item.path, item.within)
            file = _File(path, within, [[] for _ in range(models)], [None] * models, state=FileState.now(path))
            self._files[number] = file
            cache = self._pipeline.cache
            content = cache.file_digest(path, self._pipeline.settings.hashes) if cache is not None else None
            if content is not None and not self._look_up(file, content):
                del self._files[number]
                yield tuple(one for one in file.known if one is not None)
            else:
                yield item

    def choose(self, number: int, path: str, content: str | None) -> tuple[int, ...]:
        """Which views of a file must be decoded, now that its content is known; on a thread of the pool."""
        file, cache = self._files[number], self._pipeline.cache
        file.content = content
        if content is None or cache is None:
            return tuple(range(len(self._pipeline.views)))
        if file.state is not None and file.state == FileState.of(path):
            cache.keep_digest(file.state, content, self._pipeline.settings.hashes)
        return self._look_up(file, content)

    def _look_up(self, file: _File, content: str) -> tuple[int, ...]:
        """Fetch what the cache has; returns the views of the models that it has nothing for."""
        pipeline = self._pipeline
        assert pipeline.cache is not None
        file.content = content
        file.keys = pipeline.keys(file.path, content, file.within)
        found = pipeline.cache.get(file.keys)
        file.known = [_from_cache(file.path, content, *found[key]) if key in found else None for key in file.keys]
        missing = {view for view, known in zip(pipeline.view_of, file.known, strict=True) if known is None}
        return tuple(sorted(missing))

    def take(self, number: int, event: Part | Result | None) -> None:
        """One event of the pool."""
        if not isinstance(event, Part | None):  # a failure, or known embeddings
            self._files.pop(number, None)
            self._finish(number, event)
            return
        if (file := self._files.get(number)) is None:  # it failed before; the rest of it is of no use
            return
        if event is None:
            file.ended = True
            self._conclude(number)
        elif isinstance(event.content, VideoFacts):
            file.facts[event.view] = event.content
        elif event.content is None:
            self.encode_waiting()
            file.parts = [[] for _ in file.parts]
        else:
            self._batch.append((number, event.view, event.content))
            file.waiting += 1
            if sum(len(batch.windows) for _, _, batch in self._batch) >= self._pipeline.batch_size:
                self.encode_waiting()

    @property
    def waits_for_a_batch(self) -> bool:
        """Whether results pile up behind a file that only lacks the model's answer."""
        head = self._files.get(self._next)
        return head is not None and head.ended and head.waiting > 0 and len(self._done) >= self._pipeline.batch_size

    def encode_waiting(self) -> None:
        """Encode all windows that wait, those of a view together, and conclude the files that are whole."""
        batch, self._batch = self._batch, []
        for number, _, _ in batch:
            if number in self._files:
                self._files[number].waiting -= 1
        for model, view in enumerate(self._pipeline.view_of):
            mine = [(number, part) for number, seen, part in batch if seen == view and self._lacks(number, model)]
            if mine:
                self._encode(model, mine)
        self._since += sum(len(part.windows) for _, _, part in batch)
        if self._since >= GIVE_BACK:
            self._since = 0
            give_back()
        for number in dict.fromkeys(number for number, _, _ in batch):
            self._conclude(number)

    def _lacks(self, number: int, model: int) -> bool:
        return number in self._files and self._files[number].known[model] is None

    def _encode(self, model: int, parts: list[tuple[int, WindowBatch]]) -> None:
        results = self._pipeline.encode(model, together([part for _, part in parts]))
        for number, part in parts:
            mine, results = results[: len(part.windows)], results[len(part.windows) :]
            wrong = next((one for one in mine if isinstance(one, str)), None)
            if (file := self._files.get(number)) is None:
                continue
            if wrong is not None:
                del self._files[number]
                self._finish(number, InputError(file.path, "model", wrong))
                continue
            spans = _spans(part)
            vectors = torch.stack([one for one in mine if isinstance(one, Tensor)])
            file.parts[model].append((spans, vectors))
            if self._watch is not None:
                self._watch(file.path, model, spans, vectors)

    def _conclude(self, number: int) -> None:
        """Put a file together once it is decoded and encoded to its end."""
        file = self._files.get(number)
        if file is None or not file.ended or file.waiting:
            return
        del self._files[number]
        result = []
        for known, view, parts in zip(file.known, self._pipeline.view_of, file.parts, strict=True):
            if known is None:
                spans, vectors = _joined(parts)
                if (spans[1:, 0] < spans[:-1, 0]).any():  # several processes have read a long file
                    order = spans[:, 0].argsort(stable=True)
                    spans, vectors = spans[order], vectors[order]
                known = Embedding(replace(file.facts[view], content=file.content), spans, vectors)
            result.append(known)
        self._keep(file, result)
        self._finish(number, tuple(result))

    def _keep(self, file: _File, result: Sequence[Embedding]) -> None:
        """Into the cache, unless the file changed since it was digested."""
        cache = self._pipeline.cache
        if cache is None or not file.keys or FileState.now(file.path) != file.state:
            return
        new = [
            (key, one.windows, _to_meta(one))
            for key, one, known in zip(file.keys, result, file.known, strict=True)
            if known is None
        ]
        cache.put("video", new)

    def _finish(self, number: int, result: Result) -> None:
        self._done[number] = result
        self.held += _size(result)

    def in_order(self) -> Iterator[Result]:
        """The results whose turn it is."""
        while self._next in self._done:
            result = self._done.pop(self._next)
            self._next += 1
            self.held -= _size(result)
            yield result


def _spans(batch: WindowBatch) -> Tensor:
    """float64 [n, 2], seconds."""
    return torch.tensor([[window.start, window.end] for window in batch.windows], dtype=torch.float64)


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Spans and vectors of all parts, which are let go on the way: those of a film of hours do not stand here twice."""
    count = sum(len(spans) for spans, _ in parts)
    spans, vectors = (one.new_empty(count, *one.shape[1:]) for one in parts[0])
    parts.reverse()
    end = given_back = 0
    while parts:
        some = parts.pop()
        start, end = end, end + len(some[0])
        spans[start:end], vectors[start:end] = some
        if end - given_back >= GIVE_BACK:
            given_back = end
            give_back()
    return spans, vectors


def _size(result: Result) -> int:
    """Bytes, about."""
    if isinstance(result, InputError):
        return OVERHEAD
    return sum(OVERHEAD + one.windows.nbytes + one.spans.nbytes for one in result)


def _to_meta(item: Embedding) -> dict[str, Any]:
    facts = asdict(item.facts)
    del facts["content"]  # the key knows it
    return {**facts, "spans": item.spans.tolist()}


def _from_cache(path: str, content: str, windows: Tensor, meta: dict[str, Any]) -> Embedding:
    facts = {name: value for name, value in meta.items() if name != "spans"}
    spans = torch.tensor(meta["spans"], dtype=torch.float64)
    return Embedding(VideoFacts.from_dict({**facts, "path": path, "content": content}), spans, windows)
