"""One folder in the place of another, so that at no moment a failure leaves neither."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

__all__ = ["replace_folder"]


def replace_folder(made: Path, target: Path) -> None:
    """Move a finished folder to `target`; what was there is set aside first, and set back where the move fails.

    After a kill between the two moves the old folder is beside the target, as .<name>.<number>.old.

    Raises:
        OSError: it cannot be moved; the target is as it was.
    """
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    replaces = target.exists()
    if replaces:
        os.rename(target, old)
    try:
        os.rename(made, target)
    except BaseException:
        if replaces:
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)
