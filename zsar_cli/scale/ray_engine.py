"""A library filled by actors of Ray on one machine or many: each does what `zsar library add` does by itself.

An actor builds the classifier from its spec once and keeps a journal of its own in the library's folder, which all
machines must see. Where one dies, Ray starts another and gives it the same videos: those that were added are known by
then. So the library ends up with the same rows, whoever wrote them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import numpy as np

from zsar_cli.engine.adding import Adder, Outcome
from zsar_cli.engine.loading import ClassifierSpec
from zsar_cli.errors import InputError, MissingExtraError, UsageError
from zsar_cli.store.library import Library

__all__ = ["RaySettings", "add_on_ray"]

AT_ONCE = 16  # videos that an actor is given at a time
_TEXTS = ("path", "what", "stage", "reason", "decoder")


@dataclass(frozen=True)
class RaySettings:
    """What Ray is asked for.

    Args:
        address: of a running cluster, "auto" for the one of this machine; None starts one here that ends with the job.
        actors: how many; None takes as many as the cluster has processors for.
        cpus: processors of each; its decode processes and its model share them.
        gpus: of each; a part of one lets several actors share it.
    """

    address: str | None = None
    actors: int | None = None
    cpus: float = 2.0
    gpus: float = 0.0


class _Actor:
    """Adds videos, some at a time."""

    def __init__(self, folder: str, spec: ClassifierSpec, again: bool) -> None:
        self._adder = Adder(Library(Path(folder)), spec.build(), again)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        rows = [_row(outcome) for outcome in self._adder.add([_to_path(one) for one in batch["path"]])]
        return {name: np.array([row[name] for row in rows], object) for name in _TEXTS}


def add_on_ray(
    folder: Path, spec: ClassifierSpec, inputs: Sequence[str | InputError], settings: RaySettings, again: bool = False
) -> Generator[Outcome, None, None]:
    """What becomes of each input, as of `engine.adding.add_videos`, in any order.

    Args:
        folder: of a library that is there, by a path that all machines have for it; so are the inputs.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: no cluster is at the address.
    """
    # Read when it is imported: a cluster of our own sends nothing home, and Ray's log lies in a file of its own.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "ERROR")
    try:
        import ray
        import ray.data
    except ImportError:
        raise MissingExtraError("ray[data]", "ray", "--engine ray") from None
    yield from (Outcome(item.path, "failed", item) for item in inputs if isinstance(item, InputError))
    paths = [_to_text(item) for item in inputs if isinstance(item, str)]
    if not paths:
        return
    started = not ray.is_initialized()
    logging.getLogger("ray").setLevel(logging.ERROR)
    own: dict[str, Any] = {"include_dashboard": False} if settings.address is None else {}
    try:
        ray.init(
            settings.address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR, **own
        )  # fmt: skip
    except ConnectionError as error:
        raise UsageError(f"--address {settings.address}: {error}") from None
    try:
        yield from _outcomes(ray, folder.resolve(), spec, paths, settings, again)
    finally:
        if started:
            ray.shutdown()
        Library(folder).recover()  # the journals of actors that Ray ended


def _outcomes(
    ray: Any, folder: Path, spec: ClassifierSpec, paths: Sequence[str], settings: RaySettings, again: bool
) -> Iterator[Outcome]:
    room = ray.cluster_resources().get("CPU", 1.0) / settings.cpus
    if room < 1:
        raise UsageError(f"--cpus {settings.cpus:g}: this cluster has {ray.cluster_resources().get('CPU', 0):g}")
    batches = -(-len(paths) // AT_ONCE)
    actors = max(1, min(settings.actors or int(room), batches))
    ray.data.DataContext.get_current().enable_progress_bars = False
    videos = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=batches)
    done = videos.map_batches(
        _Actor,
        batch_size=AT_ONCE,
        fn_constructor_args=(str(folder), spec, again),
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=settings.cpus,
        num_gpus=settings.gpus,
    )
    for row in done.iter_rows():
        yield _outcome(row)


def _row(outcome: Outcome) -> dict[str, str | None]:
    error = outcome.error
    about = (None,) * 3 if error is None else (error.stage, error.reason, error.decoder)
    return dict(zip(_TEXTS, (_to_text(outcome.path), outcome.what, *about), strict=True))


def _outcome(row: dict[str, Any]) -> Outcome:
    path = _to_path(row["path"])
    error = None if row["stage"] is None else InputError(path, row["stage"], row["reason"], row["decoder"])
    return Outcome(path, row["what"], error)


def _to_text(path: str) -> str:
    """A path as text that Arrow takes, whatever bytes it has."""
    return quote(os.fsencode(path))


def _to_path(text: str) -> str:
    return os.fsdecode(unquote_to_bytes(text))
