"""Progress off a terminal, in-process: what is counted, and what a line says."""

from __future__ import annotations

import threading

import pytest

from zsar_cli.cli.console import Messages, Progressing, _every


def test_a_line_has_count_failures_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    job = Progressing(3000, "videos")
    assert job.line() == "0 of 3000 videos"
    now += 30
    assert job.line() == "0 of 3000 videos, 0:00:30 so far"
    for number in range(120):
        job.advance(failed=number in (7, 9))
    assert job.line() == "120 of 3000 videos, 2 failed, 4/s, 0:12:00 left"  # 2880 of them, 4 a second


def test_what_an_earlier_job_did_counts_but_not_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    job = Progressing(8, "steps")
    job.go_on(4)
    assert job.line() == "4 of 8 steps"
    now += 10
    job.advance()
    assert job.line() == "5 of 8 steps, 0.1/s, 0:00:30 left"


def test_a_line_comes_again_and_again_until_the_job_ends() -> None:
    thrice, count = threading.Event(), 0

    def act() -> None:
        nonlocal count
        count += 1
        if count == 3:
            thrice.set()

    with _every(0.01, act):
        assert thrice.wait(60)
    ended = count
    assert not any(thread.name == "zsar-progress" for thread in threading.enumerate())
    assert count == ended


def test_never_is_0_seconds() -> None:
    with _every(0, lambda: pytest.fail("called")):
        assert not any(thread.name == "zsar-progress" for thread in threading.enumerate())


@pytest.mark.parametrize("quiet", [False, True])
def test_quiet_has_no_lines_and_counts_all_the_same(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZSAR_PROGRESS_EVERY", "0.01")
    messages = Messages(quiet=quiet)
    told = threading.Event()
    monkeypatch.setattr(messages, "info", lambda text: told.set())
    with messages.progress(2, what="steps") as job:
        job.advance()
        assert told.wait(0.1 if quiet else 60) is not quiet
    assert job.done == 1
