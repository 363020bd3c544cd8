"""Grid features of clips: shards on disk, memory-mapped, of which only what is asked for is copied.

Shape letters: N clips, V views of a clip, T frames, G cells a side, C channels.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zsar_cli.errors import UsageError

__all__ = ["ClipFeatures", "Grids"]

AT_ONCE = 64  # clips that are read together in order
RELEASE = 256_000_000  # bytes read after which mapped pages are given back


class Grids:
    """Grids of N clips.

    Args:
        shards: [n, V, T, G, G, C] each, of any floating type.
        places: int64 [N, 2], shard and row in it of each clip; None takes the shards one after the other.
        maps: what is to be told to give pages back.
    """

    def __init__(self, shards: Sequence[Tensor], places: Tensor | None = None, maps: Sequence[mmap.mmap] = ()) -> None:
        counts = [len(shard) for shard in shards]
        if places is None:
            number = torch.arange(len(shards)).repeat_interleave(torch.tensor(counts))
            places = torch.stack([number, torch.cat([torch.arange(count) for count in counts])], dim=1)
        self._shards, self._places, self._maps, self._read = shards, places, maps, 0

    @classmethod
    def mapped(cls, files: Sequence[Path], places: Tensor | None = None) -> Grids:
        """Of .npy files."""
        arrays = [np.lib.format.open_memmap(file, "r+") for file in files]
        maps = [vars(array)["_mmap"] for array in arrays]
        return cls([torch.from_numpy(array) for array in arrays], places, maps)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, V, T, G, G, C)."""
        return (len(self._places), *self._shards[0].shape[1:])

    def take(self, rows: Tensor, views: Tensor | None = None) -> Tensor:
        """Copies of some clips in all views, [n, V, T, G, G, C], or of each in one, [n, T, G, G, C]."""
        first = self._shards[0]
        found = torch.empty(len(rows), *first.shape[1 if views is None else 2 :], dtype=first.dtype)
        number, row = self._places[rows].unbind(dim=1)
        for one in sorted(set(number.tolist())):
            mine = (number == one).nonzero()[:, 0]
            where = row[mine] if views is None else (row[mine], views[mine])
            found[mine] = self._shards[one][where]
        self._count(found.nbytes)
        return found

    def _count(self, read: int) -> None:
        """Give pages back from time to time: they stay in the system's cache, but are no longer this process's."""
        self._read += read
        if self._read > RELEASE and hasattr(mmap, "MADV_DONTNEED"):
            for one in self._maps:
                one.madvise(mmap.MADV_DONTNEED)
            self._read = 0


@dataclass(frozen=True)
class ClipFeatures:
    """Grid features of N clips of S classes, each seen in V views (crops, mirror images). A `Source`.

    Args:
        grids: [M, V, T, G, G, C], M >= N; a tensor of any floating type, or shards.
        targets: int64 [N], classes 0..S-1.
        rows: int64 [N], which of the M; None is all of them.
    """

    grids: Grids | Tensor
    targets: Tensor
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        count = self.grids.shape[0] if self.rows is None else len(self.rows)
        if len(self.grids.shape) != 6 or tuple(self.targets.shape) != (count,):
            raise UsageError(
                f"clip features need grids [N, V, T, G, G, C] and targets [N], "
                f"got {list(self.grids.shape)} and {list(self.targets.shape)}"
            )
        if isinstance(self.grids, Tensor):
            object.__setattr__(self, "grids", Grids([self.grids]))

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Tensor, views: Tensor | None = None) -> Tensor:
        """See `Grids.take`."""
        assert isinstance(self.grids, Grids)
        return self.grids.take(rows if self.rows is None else self.rows[rows], views)

    def inputs(self, asked: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
        """See `Source`: each clip in one of its views."""
        views = self.grids.shape[1]
        for rows, random in asked:
            yield self.take(rows, (random[:, 0] * views).long().clamp(max=views - 1))

    def shown(self, inputs: Tensor, random: Tensor) -> Tensor:
        """See `Source`."""
        return inputs.float()

    def plain(self, rows: Tensor) -> Iterator[Tensor]:
        """See `Source`."""
        for part in torch.split(rows, AT_ONCE):
            yield self.take(part)

    def only(self, rows: Tensor, targets: Tensor) -> ClipFeatures:
        """See `Source`."""
        return ClipFeatures(self.grids, targets, rows if self.rows is None else self.rows[rows])
