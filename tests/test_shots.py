"""Where films are cut, and segments that begin there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import label_options
from test_localizing import LIGHTS, Light, film

from zsar_cli.engine.localizing import localize_each
from zsar_cli.engine.shots import cuts_of
from zsar_cli.errors import InputError
from zsar_cli.labels import LabelSet
from zsar_cli.transfer.segments import SegmentSettings
from zsar_cli.transfer.shots import at_cuts, find_cuts

# --- differences to cuts ---


def moving(seed: int, count: int = 200, rate: float = 25.0) -> tuple[np.ndarray, np.ndarray]:
    """Times and differences of a camera that moves."""
    random = np.random.default_rng(seed)
    return (np.arange(count) + 1) / rate, random.uniform(4, 9) * random.uniform(0.6, 1.4, size=count)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("again", [1, 2, 3], ids=lambda again: f"{25 // again}-fps")
def test_cuts_stand_out_from_what_moves(seed: int, again: int) -> None:
    times, differences = moving(seed)
    differences[np.arange(200) % again != 0] = 0  # shown again
    planted = [30, 90, 150]
    differences[planted] = 80
    assert find_cuts(times, differences).tolist() == times[planted].tolist()


def test_what_moves_alone_is_not_cut() -> None:
    for seed in range(20):
        times, differences = moving(seed)
        assert not len(find_cuts(times, differences))
        assert not len(find_cuts(times, differences * 8))  # fast, but all alike
    fade = np.where(np.arange(200) // 25 == 3, 15.0, 1.0)
    assert not len(find_cuts(times, fade))


def test_a_still_picture_after_another_is_a_cut() -> None:
    differences = np.zeros(100)
    differences[[10, 70]] = 12.5
    assert find_cuts(np.arange(100) / 10, differences).tolist() == [1.0, 7.0]
    assert not len(find_cuts(np.arange(100) / 10, differences - 1))


# --- cuts to scenes ---


def test_scenes_begin_at_cuts_and_where_none_is_near() -> None:
    borders = np.arange(11.0)
    scenes, moved = at_cuts(np.array([0, 2, 6, 8, 10]), borders, np.array([2.9, 7.2]), near=1.0)
    assert scenes.tolist() == [0, 3, 6, 7, 10]  # 2 and 8 are near to cuts, 6 is not
    assert moved.tolist() == [0, 1, 2, 2.9, 4, 5, 6, 7.2, 8, 9, 10]
    assert borders.tolist() == list(range(11))


def test_cuts_at_the_ends_and_twice_between_two_windows() -> None:
    scenes, borders = at_cuts(np.array([0, 4]), np.arange(5.0), np.array([0.01, 2.1, 2.2, 3.99]), near=1.0)
    assert scenes.tolist() == [0, 1, 2, 3, 4] and (np.diff(borders) > 0).all()
    assert at_cuts(np.array([0, 1]), np.array([0.0, 4.0]), np.array([2.0]), near=1.0)[0].tolist() == [0, 1]
    assert at_cuts(np.array([0, 2, 4]), np.arange(5.0), np.zeros(0), near=1.0)[0].tolist() == [0, 2, 4]


# --- whole films ---


@pytest.fixture(scope="module")
def cut_film(tmp_path_factory: pytest.TempPathFactory) -> str:
    steps = [0.1, 0.05, 0.15]
    return film(tmp_path_factory.mktemp("cut") / "film.mp4", {"left": (5.2, 9.3), "right": (13.7, 15.6)}, steps)


def test_the_cuts_of_a_film_of_variable_rate(cut_film: str, tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("no video")
    with Light() as classifier:
        bad, found = cuts_of(classifier.pipeline, [str(tmp_path / "bad.mp4"), cut_film])
    assert isinstance(bad, InputError) and not isinstance(found, InputError)
    assert found.tolist() == pytest.approx([5.2, 9.3, 13.7, 15.6], abs=0.15)


def test_segments_begin_and_end_at_the_cuts(cut_film: str) -> None:
    how = SegmentSettings(onset=1.0, shots=True)
    with Light() as classifier:
        labelled = classifier.prepare(LabelSet.from_names(LIGHTS))
        (cuts,) = cuts_of(classifier.pipeline, [cut_film])
        (record,) = localize_each(classifier, classifier.embed([cut_film]), labelled, how, [cuts])
        failed = InputError(cut_film, "decode", "it stopped")
        (other,) = localize_each(classifier, classifier.embed([cut_film]), labelled, how, [failed])
        with pytest.raises(ValueError, match="zip"):
            list(localize_each(classifier, classifier.embed([cut_film]), labelled, how))
    assert not isinstance(cuts, InputError)
    left, right = record.segments or ()
    assert [left.start, left.end, right.start, right.end] == cuts.tolist()
    assert other.segments and other.facts is not None
    assert other.facts.notes[-1] == "its cuts are not known: it stopped"


def test_the_command(zsar_here, cut_film: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = zsar_here("localize", cut_film, *label_options(), "--window", "1", "--shots", "-f", "jsonl")
    assert run.records[0]["run"]["settings"]["segments"]["shots"] is True and run.records[0]["segments"] is not None
    run = zsar_here("localize", cut_film, *label_options(), "--shots", "--fast", code=2)
    assert "--shots compares all frames, and --fast reads few" in run.prose
