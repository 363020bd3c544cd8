"""The benchmark of the whole: it runs, and its ratios follow from its seconds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("decord")
BENCHMARK = Path(__file__).parent.parent / "examples" / "benchmarks" / "end_to_end.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    spec = importlib.util.spec_from_file_location("end_to_end", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "end_to_end", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_it_runs_in_small(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--sets 240p 720p --clips 1 --seconds 1 --repeat 1 --workers 1"
    monkeypatch.setattr(sys, "argv", ["end_to_end.py", *options.split()])
    benchmark.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for way in ("naive", "decode", "model", "zsar"):
        rows = [line for line in lines if line[:1] == [way]]
        assert len(rows) == (2 if way == "naive" else 4), way  # two sets, exact and --fast
        assert all(float(row[-1]) >= 0 for row in rows)


def test_ratios_follow_from_seconds(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"naive": (40.0, 60.0), "decode": (4.0, 6.0), "model": (8.0, 10.0), "zsar": (10.0, 20.0)}
    benchmark.processors = lambda: 2
    benchmark.report(seconds)
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last == ["zsar", "10.00", "20.00", "0.80", "0.80", "0.80", "4.00", "3.00"]


def test_a_few_clips_of_the_loop_count_for_all(benchmark: ModuleType) -> None:
    ran: list[str] = []
    found = benchmark.measure({"a": benchmark.Way(lambda: ran.append("a")), "b": benchmark.Way(lambda: None)}, 3)
    assert len(ran) == 4 and set(found) == {"a", "b"}  # the first turn is not counted
    assert benchmark.naive(["x.mp4"] * 4, 40).scale == 10
