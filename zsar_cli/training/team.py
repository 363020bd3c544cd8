"""The processes that share the batches of one run: torchrun starts them, torch.distributed connects them.

Every process draws the same batch, which is as many times larger, and encodes its share of the clips; embeddings are
gathered before the objectives, so that contrast and hard negatives see the whole batch. Gradients, and with them the
weights, are then those of one process with that larger batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Team"]

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # features of a large data set take long, and the shares differ


class Team:
    """This process within the group; by itself it is a group of one.

    Attributes:
        rank: of this process, 0..count-1.
        count: processes.
    """

    rank, count = 0, 1

    @classmethod
    def of_torchrun(cls, device: torch.device) -> Team:
        """The group that torchrun's variables describe.

        Args:
            device: of this process; on CUDA tensors travel by NCCL.
        """
        team = cls()
        backend = "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"
        dist.init_process_group(backend, timeout=PATIENCE)
        team.rank, team.count = dist.get_rank(), dist.get_world_size()
        return team

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports to the user."""
        return self.rank == 0

    def share(self, total: int, rank: int | None = None) -> range:
        """Which of `total` rows are of a process, of this one where none is named."""
        size = -(-total // self.count)
        start = min(total, size * (self.rank if rank is None else rank))
        return range(start, min(total, start + size))

    def gather(self, mine: Tensor, total: int) -> Tensor:
        """The rows of all processes, `total` of them, from the share of each; without gradients."""
        mine = mine.detach()
        if self.count == 1:
            return mine
        padded = mine.new_zeros(-(-total // self.count), *mine.shape[1:])
        padded[: len(mine)] = mine
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(parts, padded)
        return torch.cat([part[: len(self.share(total, rank))] for rank, part in enumerate(parts)])

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their sum over the processes."""
        if self.count > 1:
            self._together(list(tensors))

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their mean over the processes."""
        if self.count > 1:
            kept = list(tensors)
            self._together(kept)
            for tensor in kept:
                tensor.div_(self.count)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their sum over the processes; one that some process lacks is 0 there."""
        kept = list(parameters)
        for parameter in kept:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.add(parameter.grad for parameter in kept if parameter.grad is not None)

    def _together(self, tensors: Sequence[Tensor]) -> None:
        """Add up over the processes, as one message."""
        if not tensors:
            return
        flat = torch.cat([tensor.detach().flatten().float() for tensor in tensors])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.detach().copy_(part.reshape(tensor.shape))

    def any(self, mine: bool) -> bool:
        """Whether it is so in one of the processes at least."""
        if self.count == 1:
            return mine
        found = torch.tensor(float(mine))
        dist.all_reduce(found)
        return bool(found > 0)

    def collect(self, mine: T) -> list[T]:
        """What each process has, in their order; it is pickled."""
        if self.count == 1:
            return [mine]
        parts: list[T] = [mine] * self.count
        dist.all_gather_object(parts, mine)
        return parts

    def wait(self) -> None:
        """Until all processes are here."""
        self.any(False)

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1:
            dist.destroy_process_group()
