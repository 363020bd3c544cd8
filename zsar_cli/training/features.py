"""Videos to grid features, once: decoded in processes of their own, kept on disk, handed to training memory-mapped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zsar_cli.data.dataset import Item
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, OutputError
from zsar_cli.networks.backbones import Backbone
from zsar_cli.store.cache import digest
from zsar_cli.store.features import FeatureCache
from zsar_cli.training.arrays import allocate
from zsar_cli.training.settings import ClipConfig
from zsar_cli.video.content import content_digest
from zsar_cli.video.reader import decoder_versions
from zsar_cli.video.types import DecodedVideo, Excerpt, Geometry, View
from zsar_cli.video.workers import DecodePool

__all__ = ["Extracted", "content_of", "extract", "pack"]

Array = NDArray[np.float16]
Source = str | Excerpt  # what is decoded: a file or a part of it


@dataclass(frozen=True)
class Extracted:
    """One usable video: a digest of what is looked at, and where each of its geometries' features are in the cache."""

    item: Item
    content: str
    keys: tuple[str, ...]


def extract(
    items: Sequence[Item],
    backbone: Backbone,
    clip: ClipConfig,
    decoding: EmbedSettings,
    cache: FeatureCache,
    done: Callable[[], None] = lambda: None,
) -> tuple[list[Extracted], list[InputError]]:
    """Fill the cache with the features of all videos.

    Args:
        items: the videos.
        backbone: frozen.
        clip: which frames, in which views.
        decoding: decoder, workers and timeout; its sampling is not used.
        cache: what it holds already is not computed again, so a killed run resumes.
        done: called after each video.

    Returns:
        the usable videos in order, and why the others are not.
    """
    geometries = clip.geometries(backbone.config.side)
    contents = {source: content_of(source) for source in dict.fromkeys(item.source for item in items)}
    failures: dict[Source, InputError] = {}
    keys: dict[Source, list[str]] = {source: [] for source in contents}
    for number, geometry in enumerate(geometries):
        left = [source for source in contents if source not in failures]
        named = {source: _key(contents[source], backbone, clip, geometry, decoding.decoder) for source in left}
        for source, found in _through(left, named, geometry, backbone, clip, decoding, cache):
            if isinstance(found, InputError):
                failures[source] = found
            keys[source].append(named[source])
            if number == len(geometries) - 1 or source in failures:
                done()
    usable = [
        Extracted(item, contents[item.source] or "", tuple(keys[item.source]))
        for item in items
        if item.source not in failures
    ]
    return usable, list(failures.values())


def _through(
    sources: Sequence[Source], keys: dict[Source, str], geometry: Geometry, backbone: Backbone, clip: ClipConfig,
    decoding: EmbedSettings, cache: FeatureCache,
) -> Iterator[tuple[Source, InputError | None]]:  # fmt: skip
    """One geometry: each source when its features are in the cache, or with the reason why they are not."""
    known = {source for source in sources if cache.get(keys[source]) is not None}
    with DecodePool(
        decoding.decode_workers, decoding.timeout, [View(clip.sampling, geometry)], decoding.decoder
    ) as pool:
        fresh = pool.decode(source for source in sources if source not in known)
        for source in sources:
            result = None if source in known else next(fresh)
            if isinstance(result, DecodedVideo):
                cache.put(keys[source], _grids(result, backbone, clip.flip))
            yield source, result if isinstance(result, InputError) else None


def content_of(source: Source) -> str | None:
    """A digest of what is looked at; None where the file cannot be read."""
    if isinstance(source, str):
        return content_digest(source)
    content = content_digest(source.path)
    return content and digest("part", content, source.within.start, source.within.end)


@torch.inference_mode()
def _grids(video: DecodedVideo, backbone: Backbone, flip: bool) -> Array:
    """float16 [V, T', G, G, C], V = clips, then their mirror images."""
    device = next(backbone.parameters()).device
    clips = torch.from_numpy(video.frames).to(device)
    views = [clips, clips.flip(3)] if flip else [clips]
    grids: Array = torch.cat([backbone(view) for view in views]).half().cpu().numpy()
    return grids


def _key(content: str | None, backbone: Backbone, clip: ClipConfig, geometry: Geometry, decoder: str) -> str:
    """Of all that the features depend on."""
    precision = str(next(backbone.parameters()).dtype)
    network = [backbone.fingerprint, precision, backbone.config.cells]
    return digest("grid", content, network, asdict(clip.sampling), asdict(geometry), clip.flip, decoder,
                  decoder_versions())  # fmt: skip


def pack(videos: Sequence[Extracted], cache: FeatureCache, target: Path) -> Tensor:
    """The features of all videos as one array on disk, memory-mapped: float16 [N, V, T', G, G, C].

    Args:
        videos: N, all of them in the cache.
        cache: see `extract`.
        target: the file, which is replaced. The tensor lives as long as the file.

    Raises:
        OutputError: the file cannot be written, or the cache lost an entry.
    """
    packed: Array | None = None
    try:
        for row, video in enumerate(videos):
            parts = [cache.get(key) for key in video.keys]
            if any(part is None for part in parts):
                raise OutputError(f"{cache.folder}: the features of {video.item.path} were removed; run again")
            views = np.concatenate([part for part in parts if part is not None])
            if packed is None:
                packed = allocate(target, views.dtype, (len(videos), *views.shape))
            packed[row] = views
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from None
    assert packed is not None, "no videos"
    return torch.from_numpy(packed)
