"""Files in, embeddings out: decoding in other processes overlaps with the model in this one.

Memory is bounded by the number of decode workers and the batch size, not by the number of files, and every failure
is a value in its place.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsar_cli.errors import InputError
from zsar_cli.models.base import VideoModel
from zsar_cli.store.cache import EmbeddingCache, digest
from zsar_cli.video.reader import decoder_versions
from zsar_cli.video.types import DecodedVideo, Partial, Sampling, VideoInfo
from zsar_cli.video.workers import DecodePool

__all__ = ["EmbedSettings", "Embedding", "content_digest", "embed", "processors"]


@dataclass(frozen=True)
class EmbedSettings:
    """How files become embeddings.

    Args:
        sampling: which frames; None takes the model's own.
        decoder: "pyav" or "decord".
        workers: decode processes; None takes one for each processor but one, at most 8.
        timeout: seconds one file may take.
        batch_size: clips the model is given at a time; None takes 1 on a CPU, where more gain nothing, and 8 elsewhere.
    """

    sampling: Sampling | None = None
    decoder: str = "pyav"
    workers: int | None = None
    timeout: float = 120.0
    batch_size: int | None = None


@dataclass(frozen=True)
class Embedding:
    """One video as the model sees it, and where that came from.

    `clips` is float32 [N, D], one visual embedding per clip; the other fields are those of `DecodedVideo`.
    """

    path: str
    clips: Tensor
    times: tuple[float, ...]
    info: VideoInfo
    sampling: Sampling
    decoder: str
    decoder_version: str
    partial: Partial | None
    notes: tuple[str, ...]


def embed(
    inputs: Iterable[str | InputError],
    model: VideoModel,
    settings: EmbedSettings,
    cache: EmbeddingCache | None = None,
) -> Iterator[Embedding | InputError]:
    """Embeddings in the order of `inputs`, whatever the number of workers, the batch size or the cache's content."""
    sampling = settings.sampling or model.sampling
    workers = settings.workers or max(1, min(8, processors() - 1))
    batch_size = settings.batch_size or (1 if model.device.type == "cpu" else 8)
    keys = _Keys(model, sampling, settings.decoder)
    with DecodePool(workers, settings.timeout, sampling, model.geometry, settings.decoder) as pool:
        ready: Iterator[DecodedVideo | Embedding | InputError] = pool.decode(_known_or_path(inputs, keys, cache))
        batch: list[DecodedVideo | Embedding | InputError] = []
        clips = 0
        for item in ready:
            batch.append(item)
            clips += item.sampling.clips if isinstance(item, DecodedVideo) else 0
            if clips >= batch_size or clips == 0:
                yield from _encode_batch(batch, model, batch_size, keys, cache)
                batch, clips = [], 0
        yield from _encode_batch(batch, model, batch_size, keys, cache)


def _known_or_path(
    inputs: Iterable[str | InputError], keys: _Keys, cache: EmbeddingCache | None
) -> Iterator[str | Embedding | InputError]:
    """A path for what must be decoded, the result itself for what is known already."""
    for item in inputs:
        key = keys.of(item) if cache is not None and isinstance(item, str) else None
        hit = cache.get([key]).get(key) if cache is not None and key is not None else None
        yield _from_cache(str(item), *hit) if hit else item


def _encode_batch(
    items: list[DecodedVideo | Embedding | InputError],
    model: VideoModel,
    batch_size: int,
    keys: _Keys,
    cache: EmbeddingCache | None,
) -> list[Embedding | InputError]:
    """Encode the decoded videos among `items`, at most `batch_size` clips at a time, and keep them in the cache."""
    decoded = [item for item in items if isinstance(item, DecodedVideo)]
    if not decoded:
        return [item for item in items if not isinstance(item, DecodedVideo)]
    clips = torch.cat([torch.from_numpy(video.clips()) for video in decoded])
    rows = torch.cat([model.encode_video(part) for part in torch.split(clips, batch_size)])
    counts = [video.sampling.clips for video in decoded]
    embedded = [_embedding(video, part) for video, part in zip(decoded, torch.split(rows, counts), strict=True)]
    if cache is not None:
        known = [(keys.of(item.path), item) for item in embedded]
        cache.put("video", [(key, item.clips, _to_meta(item)) for key, item in known if key])
    fresh = iter(embedded)
    return [next(fresh) if isinstance(item, DecodedVideo) else item for item in items]


def _embedding(video: DecodedVideo, clips: Tensor) -> Embedding:
    return Embedding(
        path=video.path,
        clips=clips.clone(),
        times=tuple(video.times.tolist()),
        info=video.info,
        sampling=video.sampling,
        decoder=video.decoder,
        decoder_version=video.decoder_version,
        partial=video.partial,
        notes=video.notes,
    )


class _Keys:
    """Cache keys: a digest of a file's content and of everything else its embedding depends on."""

    def __init__(self, model: VideoModel, sampling: Sampling, decoder: str) -> None:
        self._settings = [
            model.fingerprint,
            model.precision,
            asdict(sampling),
            asdict(model.geometry),
            decoder,
            decoder_versions(),
        ]
        self._contents: dict[str, str | None] = {}

    def of(self, path: str) -> str | None:
        """None for what cannot be read here; the decoder will say why."""
        if path not in self._contents:
            self._contents[path] = content_digest(path)
        content = self._contents[path]
        return content and digest("video", content, *self._settings)


def content_digest(path: str) -> str | None:
    """sha256 of a file, or of the names and contents of a folder of frames; None for what cannot be read."""
    try:
        if os.path.isdir(path):
            names = sorted(name for name in os.listdir(path) if os.path.isfile(os.path.join(path, name)))
            return digest("folder", [(name, content_digest(os.path.join(path, name))) for name in names])
        if not os.path.isfile(path):  # a FIFO would block
            return None
        hasher = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                hasher.update(block)
    except OSError:
        return None
    # FFmpeg chooses its demuxer by the name's suffix as well as by content.
    return f"{hasher.hexdigest()}{Path(path).suffix.lower()}"


def _to_meta(item: Embedding) -> dict[str, Any]:
    meta = {name: getattr(item, name) for name in ("times", "decoder", "decoder_version", "notes")}
    partial = asdict(item.partial) if item.partial else None
    return {**meta, "info": asdict(item.info), "sampling": asdict(item.sampling), "partial": partial}


def _from_cache(path: str, clips: Tensor, meta: dict[str, Any]) -> Embedding:
    return Embedding(
        path=path,
        clips=clips,
        times=tuple(meta["times"]),
        info=VideoInfo(**meta["info"]),
        sampling=Sampling(**meta["sampling"]),
        decoder=meta["decoder"],
        decoder_version=meta["decoder_version"],
        partial=Partial(**meta["partial"]) if meta["partial"] else None,
        notes=tuple(meta["notes"]),
    )


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
