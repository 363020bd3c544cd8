"""One classifier used by many threads at once, as a web service would: equal to one call after another."""

from __future__ import annotations

import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_model import FakeModel
from videos import write_video

from zsar_cli import ZeroShotClassifier
from zsar_cli.engine.pipeline import EmbedSettings
from zsar_cli.records import VideoRecord
from zsar_cli.store.cache import EmbeddingCache

THREADS, CALLS = 8, 50
NAMES = ("jumping", "sleeping", "bright", "dark", "swimming")


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("threads")
    return [str(write_video(folder / f"{index}.mp4", first=100 * index, frames=9).path) for index in range(6)]


def question(call: int, paths: list[str]) -> tuple[str, list[str]]:
    return paths[call % len(paths)], [NAMES[call % 5], NAMES[(call + 1 + call // 5 % 4) % 5]]


@pytest.mark.parametrize("cached", [False, True])
def test_many_threads_get_what_one_gets(cached: bool, paths: list[str], tmp_path: Path) -> None:
    calls = THREADS * CALLS

    def ask(classifier: ZeroShotClassifier, call: int) -> VideoRecord:
        return classifier.classify(*question(call, paths))

    model = FakeModel()
    with ZeroShotClassifier(model, model.bank()) as alone:
        expected = {str(question(call, paths)): ask(alone, call) for call in range(60)}
    cache = EmbeddingCache(tmp_path) if cached else None
    settings = EmbedSettings(workers=2)
    with ZeroShotClassifier(model, model.bank(), embedding=settings, cache=cache) as shared:
        before = threading.active_count()
        with ThreadPoolExecutor(THREADS) as threads:
            found = list(threads.map(lambda call: ask(shared, call), range(100)))
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            found += threads.map(lambda call: ask(shared, call), range(100, calls))
        assert threading.active_count() <= before + 2  # the decode workers' own
    for call, record in enumerate(found):
        wanted = expected[str(question(call, paths))]
        assert record.facts == wanted.facts
        for one, other in zip(record.predictions, wanted.predictions, strict=True):
            assert one.label == other.label and one.score == pytest.approx(other.score, abs=1e-5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 1.2 * memory
