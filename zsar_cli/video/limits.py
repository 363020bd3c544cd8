"""How much one file may take: pixels of a picture, memory of a decode process, time.

A file of a hundred bytes can claim a picture of gigabytes. What a file claims is checked before anything is
decoded; the limit of the process is the last wall, for what no header tells.
"""

from __future__ import annotations

from zsar_cli.errors import InputError, UsageError

__all__ = ["MAX_PIXELS", "check_pixels", "check_timeout", "limit_memory", "too_large"]

# The largest picture of H.264, HEVC and AV1 at level 6.2 (8K). Pillow needs up to 20 bytes a pixel: 0.7 GB.
MAX_PIXELS = 8192 * 4352
# What a decode process may add to what it has when it starts: 0.1 GB by then, so below 1 GB together.
_ROOM = 800 * 2**20
_LONGEST_TIMEOUT = 86_400.0  # seconds; timers of the operating system overflow far above


def check_timeout(seconds: float) -> None:
    """Refuse a time limit that no timer takes. Raises UsageError."""
    if not 0 < seconds <= _LONGEST_TIMEOUT:
        raise UsageError(
            f"a time limit of {seconds:g} s is not possible: give seconds above 0, at most {_LONGEST_TIMEOUT:g} (a day)"
        )


def check_pixels(path: str, width: int, height: int, decoder: str) -> None:
    """Refuse a picture that is too large to be decoded.

    Raises:
        InputError: it has more than `MAX_PIXELS`.
    """
    reason = too_large(width, height)
    if reason:
        raise InputError(path, "open", reason, decoder)


def too_large(width: int, height: int) -> str | None:
    """Why a picture is refused, None where it is not."""
    if width * height <= MAX_PIXELS:
        return None
    return f"a picture of {width} x {height} pixels is too large: at most {MAX_PIXELS} pixels (8K) are decoded"


def limit_memory(room: int = _ROOM) -> None:
    """Let this process's own data grow by at most `room` bytes: who asks for more gets a MemoryError.

    Linux only; elsewhere nothing happens. Of all limits RLIMIT_DATA counts what a decoder allocates, and neither
    libraries nor memory that is shared with other processes.
    """
    try:
        import resource

        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            kilobytes = next(int(line.split()[1]) for line in file if line.startswith("VmData:"))
    except (ImportError, OSError, StopIteration):
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = kilobytes * 1024 + room
    if soft == resource.RLIM_INFINITY or wanted < soft:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
