"""A library filled by Ray has the rows of one filled here, also when an actor is killed in mid job."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runner import LABELS
from videos import write_video

from zsar_cli.engine.adding import add_videos, make_library
from zsar_cli.engine.loading import ClassifierSpec
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.errors import InputError, UsageError
from zsar_cli.scale import ray_engine
from zsar_cli.scale.ray_engine import RaySettings, add_on_ray
from zsar_cli.store.library import Library

pytestmark = [
    pytest.mark.uses_ray,
    # Ray's own, at its start and at its end.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning",
                               "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::UserWarning"),
]  # fmt: skip
ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def spec(tmp_path: Path) -> ClassifierSpec:
    from tflite_files import write_linear

    matrix = np.random.default_rng(0).normal(size=(len(LABELS), 16 * 16 * 3)) / 16
    (tmp_path / "classes.txt").write_text("\n".join(LABELS), encoding="utf-8")
    model = str(write_linear(tmp_path / "tiny.tflite", matrix))
    settings = EmbedSettings({"window": 0.4, "frames": 2}, workers=1)
    return ClassifierSpec((model,), seen_labels=str(tmp_path / "classes.txt"), embedding=settings)


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    home = tmp_path / "films"
    home.mkdir()
    for number in range(7):
        write_video(home / f"{number}.mp4", first=100 * number, frames=30 + number)
    (home / "bad.mp4").write_text("this is text")
    odd = os.fsdecode(os.fsencode(str(home / "odd-")) + b"\xff.mp4")
    os.rename(home / "6.mp4", odd)
    return [*sorted(str(path) for path in home.iterdir()), str(home / "absent.mp4")]


def rows(library: Path) -> dict[str, bytes]:
    """By path the vectors, or the reason."""
    kept = Library(library)
    (column,) = [name for name, _ in kept.spec.columns]
    found = {path: b"failed" for path, bad in zip(kept.videos.paths, kept.videos.failed, strict=True) if bad}
    for block in kept.blocks([column]):
        ends = np.cumsum(block.counts)
        for video, end, count in zip(block.videos.tolist(), ends, block.counts, strict=True):
            assert kept.videos.paths[video] not in found
            found[kept.videos.paths[video]] = block.vectors[0][end - count : end].tobytes()
    return found


@pytest.fixture
def expected(spec: ClassifierSpec, paths: list[str], tmp_path: Path) -> dict[str, bytes]:
    """Of a library that is filled in this process; an empty one for Ray beside it."""
    with spec.build() as classifier:
        make_library(tmp_path / "ray.lib", classifier)
        local = make_library(tmp_path / "local.lib", classifier)
        assert len(list(add_videos(local, classifier, paths))) == len(paths)
    return rows(tmp_path / "local.lib")


def test_the_rows_are_those_of_the_local_engine(
    cluster: None, spec: ClassifierSpec, paths: list[str], expected: dict[str, bytes], tmp_path: Path
) -> None:
    found = InputError("x", "find", "gone")
    outcomes = list(add_on_ray(tmp_path / "ray.lib", spec, [*paths, found], RaySettings(actors=1, cpus=1)))
    assert sorted(outcome.path for outcome in outcomes) == sorted([*paths, "x"])
    errors = {outcome.path: outcome.error for outcome in outcomes if outcome.error is not None}
    assert {Path(path).name for path in errors} == {"bad.mp4", "absent.mp4", "x"}
    assert "not" in errors[next(path for path in errors if path.endswith("bad.mp4"))].reason
    assert rows(tmp_path / "ray.lib") == expected
    again = list(add_on_ray(tmp_path / "ray.lib", spec, paths[:3], RaySettings(actors=1, cpus=1)))
    assert {outcome.what for outcome in again} == {"known"}


def actors() -> list[int]:
    """Process numbers."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and b"ray::MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_killed_actor_costs_nothing(
    cluster: None, spec: ClassifierSpec, paths: list[str], expected: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(ray_engine, "AT_ONCE", 1)
    job = add_on_ray(tmp_path / "ray.lib", spec, paths, RaySettings(actors=1, cpus=1))
    outcomes = [next(job)]
    for actor in actors():
        os.kill(actor, signal.SIGKILL)
    outcomes += job
    assert sorted(outcome.path for outcome in outcomes) == sorted(paths)
    assert rows(tmp_path / "ray.lib") == expected
    assert len(expected) == len(paths)


def test_too_few_processors_are_said(cluster: None, spec: ClassifierSpec, expected: object, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cpus 64"):
        list(add_on_ray(tmp_path / "ray.lib", replace(spec), ["a.mp4"], RaySettings(cpus=64)))
