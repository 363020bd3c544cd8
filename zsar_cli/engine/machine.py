"""What this machine has: processors and memory. Nothing here needs torch but the question for a GPU."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "processors", "this_machine"]

CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")  # of Linux: microseconds of processor time in so many by the clock
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # bytes


@dataclass(frozen=True)
class Machine:
    """What models can be run on.

    Args:
        memory: gigabytes (10^9 bytes); None where it is not known.
        cores: processors.
        gpu: gigabytes of the first CUDA device; None where there is none, or where it was not asked for.
    """

    memory: float | None
    cores: int
    gpu: float | None = None


def this_machine(gpu: bool = True) -> Machine:
    """This one; without `gpu` no device is looked for, which takes the import of torch."""
    found = None
    if gpu:
        import torch

        if torch.cuda.is_available():
            found = torch.cuda.get_device_properties(0).total_memory / 1e9
    return Machine(_memory(), processors(), found)


def processors() -> int:
    """Processors this process may use: those it is bound to, and in a container no more than its share of time."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        limit, period = CPU_LIMIT.read_text().split()
        return max(1, min(bound, math.ceil(int(limit) / int(period))))
    except (OSError, ValueError):  # another system, or no limit: "max"
        return bound


def _memory() -> float | None:
    """Gigabytes that this process may use, in a container no more than its share."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # another system
        return None
    try:
        return min(whole, int(MEMORY_LIMIT.read_text())) / 1e9
    except (OSError, ValueError):
        return whole / 1e9
