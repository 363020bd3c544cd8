"""Several processes that share the batches of one run: torchrun starts them, Accelerate connects them.

Every process draws the same batch, which is as many times larger, and encodes its share of the clips; embeddings are
gathered before the objectives, so that contrast and hard negatives see the whole batch. Gradients, and with them the
weights, are then those of one process with that larger batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, nn

from zsar_cli.errors import ConfigError, MissingExtraError

__all__ = ["Team"]

PATIENCE = timedelta(days=1)  # features of a large data set take long, and the shares differ


class Team:
    """This process within the group.

    Attributes:
        rank: of this process, 0..count-1.
        count: processes.

    Raises:
        MissingExtraError: Accelerate is not installed.
    """

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator, InitProcessGroupKwargs
        except ImportError:
            raise MissingExtraError("accelerate", "distributed", "training in several processes") from None
        self._accelerator = Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        self.rank: int = self._accelerator.process_index
        self.count: int = self._accelerator.num_processes

    @property
    def first(self) -> bool:
        """Whether this process writes the files and reports to the user."""
        return self.rank == 0

    def check(self, batch: int, accumulation: int) -> None:
        """Refuse batches that cannot be shared evenly.

        Raises:
            ConfigError: the batch of a process is no multiple of the parts it is computed in.
        """
        if batch % accumulation:
            raise ConfigError(
                f"train: with several processes batch ({batch}) must be a multiple of accumulation ({accumulation})"
            )

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of the rows [n, ...], n a multiple of `count`."""
        return rows.chunk(self.count)[self.rank]

    def gather(self, mine: Tensor) -> Tensor:
        """The shares of all processes, [n / count, D] -> [n, D]; gradients go to this process's own share.

        `average` divides by the number of processes, which is right for what all of them computed; a share was
        computed by one alone, so its gradient is multiplied by that number first.
        """
        parts = list(self._accelerator.gather(mine.detach()).chunk(self.count))
        parts[self.rank] = mine
        if mine.requires_grad:
            mine.register_hook(lambda gradient: gradient * self.count)  # type: ignore[no-untyped-call]
        return torch.cat(parts)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients by their mean over the processes."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), "mean")
        start = 0
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].reshape(gradient.shape))
            start += gradient.numel()

    def any(self, mine: bool) -> bool:
        """Whether it is so in one of the processes at least."""
        return bool(self._accelerator.reduce(torch.tensor(float(mine)), "sum") > 0)

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()

    def close(self) -> None:
        """Leave the process group."""
        self._accelerator.end_training()
