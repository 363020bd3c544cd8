"""Videos themselves as clips: random pieces of them, decoded while training, cut and coloured on the device.

Nothing is kept on disk, and in memory no more than two steps hold.

Shape letters: B clips, T frames, R side of a decoded frame, S side of a frame the backbone sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zsar_cli.data.dataset import Item
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError
from zsar_cli.training.config import RawConfig
from zsar_cli.training.features import content_of
from zsar_cli.training.settings import ClipConfig
from zsar_cli.video.types import DecodedVideo, Excerpt, Geometry, Sampling, View, Window
from zsar_cli.video.workers import DecodePool

__all__ = ["RawClips", "Video", "augment", "look_at", "piece"]

MARGIN = 8 / 7  # R / S, so that crops keep their resolution
AT_ONCE = 8  # clips that are looked at together in order


@dataclass(frozen=True)
class Video:
    """One usable video, or a part of one.

    Args:
        item: what it is.
        content: a digest of what is looked at.
        seconds: where it ends, from its first frame; None where that is not known.
    """

    item: Item
    content: str
    seconds: float | None


def look_at(
    items: Sequence[Item], decoding: EmbedSettings, done: Callable[[], None] = lambda: None
) -> tuple[list[Video | None], list[InputError]]:
    """Which videos can be used, by a key frame of each.

    Returns:
        for each item the video, or None where it cannot be used; and why not.
    """
    view = View(Sampling(frames=1, exact=False), Geometry(16))
    found: list[Video | None] = []
    failures: dict[str, InputError] = {}
    with DecodePool(decoding.decode_workers, decoding.timeout, [view], decoding.decoder) as pool:
        for item, result in zip(items, pool.decode(item.source for item in items), strict=True):
            if isinstance(result, InputError):
                failures.setdefault(item.name, result)
                found.append(None)
            else:
                found.append(Video(item, content_of(item.source) or "", result.facts.info.duration))
            done()
    return found, list(failures.values())


class RawClips:
    """Clips of videos. A `Source`; `close` ends its decode processes.

    Args:
        videos: N of them.
        targets: int64 [N], classes 0..S-1.
        side: S.
        clip: the frames.
        raw: how much clips may differ.
        decoding: decoder, workers and timeout.
    """

    def __init__(
        self, videos: Sequence[Video], targets: Tensor, side: int, clip: ClipConfig, raw: RawConfig,
        decoding: EmbedSettings,
    ) -> None:  # fmt: skip
        self.videos, self.targets, self.side, self.clip, self.raw = videos, targets, side, clip, raw
        self.decoding = decoding
        self._pools: dict[tuple[View, bool], DecodePool] = {}

    def inputs(self, asked: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """See `Source`: uint8 [n, T, R, R, 3], a random piece of each video."""
        geometry = self.clip.geometries(round(self.side * MARGIN))[0]
        view = View(Sampling(frames=self.clip.frames), geometry)
        waiting: list[list[tuple[int, Tensor]]] = []

        def sources() -> Iterator[str | Excerpt]:
            for rows, random in asked:
                waiting.append(list(zip(rows.tolist(), random, strict=True)))
                for row, numbers in waiting[-1]:
                    yield piece(self.videos[row], self.clip, self.raw, *numbers[:2].tolist())

        pool, spare = self._pool(view, self.decoding.decode_workers), self._pool(view, 1, spare=True)
        kept: list[Tensor] = []
        for result in pool.decode(sources()):
            row, numbers = waiting[0][len(kept)]
            place, length = numbers[:2].tolist()
            kept.append(
                self._frames(
                    result, row, spare, partial(piece, clip=self.clip, raw=self.raw, place=place, length=length)
                )
            )
            if len(kept) == len(waiting[0]):
                waiting.pop(0)
                yield torch.stack(kept)
                kept = []

    def _frames(
        self, result: DecodedVideo | InputError, row: int, spare: DecodePool, source: Callable[[Video], str | Excerpt]
    ) -> Tensor:
        """[T, ...] of a clip; of the next one of its class where it could not be read after all.

        Raises:
            InputError: no clip of the class can be.
        """
        if not isinstance(result, InputError):
            return torch.from_numpy(np.ascontiguousarray(result.frames[0]))
        same = (self.targets == self.targets[row]).nonzero()[:, 0]
        place = int((same == row).nonzero()[0, 0])
        for other in same.roll(-place)[1:].tolist():
            (again,) = spare.decode([source(self.videos[other])])
            if not isinstance(again, InputError):
                return torch.from_numpy(np.ascontiguousarray(again.frames[0]))
        raise result

    def shown(self, inputs: Tensor, random: Tensor) -> Tensor:
        """See `Source`: float32 [B, T, S, S, 3], 0..255, augmented."""
        return augment(inputs, self.side, self.raw, self.clip.flip, random)

    def plain(self, rows: Tensor) -> Iterator[Tensor]:
        """See `Source`: uint8 [n, 1 or 2, T, S, S, 3], the clip and its mirror image."""
        settings = self.clip.settings(self.side)
        view = View(settings.sampling, settings.geometry)
        pool, spare = self._pool(view, self.decoding.decode_workers), self._pool(view, 1, spare=True)
        wanted, kept = rows.tolist(), []
        for row, result in zip(wanted, pool.decode(self.videos[row].item.source for row in wanted), strict=True):
            frames = self._frames(result, row, spare, lambda video: video.item.source)
            kept.append(torch.stack([frames, frames.flip(2)]) if settings.mirror else frames[None])
            if len(kept) == AT_ONCE:
                yield torch.stack(kept)
                kept = []
        if kept:
            yield torch.stack(kept)

    def _pool(self, view: View, workers: int, spare: bool = False) -> DecodePool:
        """The pool of that view; processes start with its first video. A spare one reads while the other waits."""
        if (view, spare) not in self._pools:
            self._pools[view, spare] = DecodePool(workers, self.decoding.timeout, [view], self.decoding.decoder)
        return self._pools[view, spare]

    def only(self, rows: Tensor, targets: Tensor) -> RawClips:
        """See `Source`."""
        kept = [self.videos[row] for row in rows.tolist()]
        some = RawClips(kept, targets, self.side, self.clip, self.raw, self.decoding)
        some._pools = self._pools
        return some

    def close(self) -> None:
        """End the decode processes."""
        while self._pools:
            self._pools.popitem()[1].close()


def piece(video: Video, clip: ClipConfig, raw: RawConfig, place: float, length: float) -> str | Excerpt:
    """What is decoded of a video: a piece that lasts T strides, or all of it, a little more or less, anywhere in it.

    Args:
        place, length: in 0..1.
    """
    item = video.item
    first = item.start or 0.0
    last = min((end for end in (item.end, video.seconds) if end is not None), default=None)
    if last is None or last <= first:
        return item.source
    whole = last - first
    if clip.stride is None:
        seconds = whole * (1 - raw.jitter * length)
    else:
        seconds = min(whole, clip.frames * clip.stride * (1 + raw.jitter * (2 * length - 1)))
    start = first + place * (whole - seconds)
    return Excerpt(item.path, Window(start, start + seconds))


def augment(frames: Tensor, size: int, raw: RawConfig, flip: bool, random: Tensor) -> Tensor:
    """Random crop, mirror image, brightness and contrast, the same for all frames of a clip.

    Args:
        frames: uint8 [B, T, R, R, 3]. size: S.
        random: [B, NUMBERS] in 0..1, on the same device; those from the third on are used.

    Returns:
        float32 [B, T, S, S, 3], 0..255.
    """
    scale, x, y, mirror, bright, contrast = random[:, 2:8].unbind(dim=1)
    kept = raw.crop + (1 - raw.crop) * scale
    corner = (2 * torch.stack([x, y], dim=1) - 1) * (1 - kept)[:, None]
    sign = torch.where(mirror < 0.5 * float(flip), -1.0, 1.0)
    views = _resampled(frames, size, kept, corner, sign)
    mean = views.mean(dim=(1, 2, 3, 4), keepdim=True)
    brightness, contrast = (1 + raw.colour * (2 * one.reshape(-1, 1, 1, 1, 1) - 1) for one in (bright, contrast))
    return ((mean + contrast * (views - mean)) * brightness).clamp(0, 255)


def _resampled(frames: Tensor, size: int, kept: Tensor, centre: Tensor, sign: Tensor) -> Tensor:
    """A square of each clip, scaled to S x S bilinearly.

    Args:
        frames: uint8 [B, T, R, R, 3].
        kept: [B], share of the side. centre: [B, 2], x and y of the square in -1..1. sign: [B], -1 mirrors.
    """
    batch, count = frames.shape[:2]
    zero = torch.zeros_like(kept)
    rows = [torch.stack([kept * sign, zero, centre[:, 0]], dim=1), torch.stack([zero, kept, centre[:, 1]], dim=1)]
    theta = torch.stack(rows, dim=1).repeat_interleave(count, dim=0)
    images = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
    grid = F.affine_grid(theta, [batch * count, 3, size, size], align_corners=False)
    views = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return views.permute(0, 2, 3, 1).reshape(batch, count, size, size, 3)
