"""`zsar` and `python -m zsar_cli`."""

from __future__ import annotations

import atexit
import gc
import os


def main() -> None:
    """Run the command line."""
    # torch shares the processors with the decode processes. Threads that wait for each other must sleep, not spin: a
    # spinning one keeps the processor from the one it waits for, and the model takes several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Almost nothing here is freed by the search for cycles, which after every 700 new objects takes a tenth of a run.
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)  # nor at its end, where it looks at all that torch has, for 0.4 s
    from zsar_cli.cli.app import app

    app(prog_name="zsar")


if __name__ == "__main__":
    main()
