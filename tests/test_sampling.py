"""Instants and the frames shown then, against plain loops."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from zsar_cli.errors import UsageError
from zsar_cli.video.sampling import BehindTheEnd, check_sampling, frames_shown, nearest, repeats, sample_times, spans
from zsar_cli.video.types import Excerpt, Sampling, Window

CASES = [
    (duration, Sampling(clips, frames, frame_step=stride))
    for duration in (0.04, 0.2, 1.0, 10.0, 5400.123)
    for clips in (1, 2, 5)
    for frames in (1, 2, 8, 16)
    for stride in (None, 0.01, 0.5)
]


def times_by_hand(duration: float, sampling: Sampling) -> list[float]:
    """The definition, one instant at a time."""
    times = []
    segment = duration / sampling.windows
    for clip in range(sampling.windows):
        for frame in range(sampling.frames):
            if sampling.frame_step is None:
                cell = segment / sampling.frames
                time = clip * segment + (frame + 0.5) * cell
            else:
                first = (clip + 0.5) * segment - (sampling.frames - 1) * sampling.frame_step / 2
                time = first + frame * sampling.frame_step
            times.append(min(max(time, 0.0), math.nextafter(duration, 0.0)))
    return times


@pytest.mark.parametrize(("duration", "sampling"), CASES)
def test_instants_follow_the_definition(duration: float, sampling: Sampling) -> None:
    times = sample_times(duration, sampling)

    assert times.shape == (sampling.windows, sampling.frames)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times.ravel(), times_by_hand(duration, sampling), rtol=0, atol=duration * 1e-12)


@pytest.mark.parametrize(("duration", "sampling"), CASES)
def test_instants_are_inside_sorted_in_each_clip_and_symmetric(duration: float, sampling: Sampling) -> None:
    times = sample_times(duration, sampling)

    assert (times >= 0).all() and (times < duration).all()
    assert (np.diff(times, axis=1) >= 0).all()
    np.testing.assert_allclose(times + times[::-1, ::-1], duration, rtol=1e-12)


def test_one_clip_without_a_stride_is_uniform_over_the_whole_video() -> None:
    assert sample_times(8.0, Sampling(frames=4)).ravel().tolist() == [1.0, 3.0, 5.0, 7.0]
    assert sample_times(8.0, Sampling(windows=2, frames=2)).ravel().tolist() == [1.0, 3.0, 5.0, 7.0]


def test_a_stride_is_kept_and_centred_in_each_segment() -> None:
    times = sample_times(20.0, Sampling(windows=2, frames=3, frame_step=0.5))
    assert times.ravel().tolist() == [4.5, 5.0, 5.5, 14.5, 15.0, 15.5]


def test_a_stride_too_long_for_the_video_is_clamped_to_it() -> None:
    times = sample_times(1.0, Sampling(frames=4, frame_step=1.0)).ravel()
    assert times[0] == times[1] == 0.0
    assert 0.999999 < times[2] == times[3] < 1.0


def spans_by_hand(duration: float, length: float, stride: float) -> list[tuple[float, float]]:
    """One window after another until the end of the video is reached."""
    found: list[tuple[float, float]] = []
    while not found or (found[-1][1] < duration - 1e-6 and len(found) * stride < duration):
        start = len(found) * stride
        found.append((start, min(start + length, duration)))
    return found


@pytest.mark.parametrize("duration", [0.04, 1.0, 9.999999, 10.0, 10.3, 61.7])
@pytest.mark.parametrize(("length", "stride"), [(4.0, None), (4.0, 4.0), (4.0, 1.0), (2.0, 0.7), (1.0, 3.0)])
def test_windows_of_a_length_cover_the_video(duration: float, length: float, stride: float | None) -> None:
    found = spans(duration, Sampling(window=length, stride=stride))
    np.testing.assert_allclose(found, spans_by_hand(duration, length, stride or length), atol=1e-9)
    assert found[0, 0] == 0 and (found[:, 1] > found[:, 0]).all() and found[-1, 1] <= duration


def test_a_number_of_windows_divides_the_whole_video() -> None:
    assert spans(9.0, Sampling(windows=3)).tolist() == [[0, 3], [3, 6], [6, 9]]
    assert spans(9.1, Sampling()).tolist() == [[0, 9.1]]


def test_each_window_of_a_length_is_sampled_as_a_video_of_its_own() -> None:
    times = sample_times(10.0, Sampling(frames=4, window=4.0))
    assert times.tolist() == [[0.5, 1.5, 2.5, 3.5], [4.5, 5.5, 6.5, 7.5], [8.25, 8.75, 9.25, 9.75]]


@pytest.mark.parametrize(("duration", "sampling"), [*CASES, (9.7, Sampling(window=2.0, stride=0.7, frames=3))])
def test_a_part_of_a_video_is_sampled_as_a_video_of_its_own(duration: float, sampling: Sampling) -> None:
    within = Window(12.5, 12.5 + duration)
    for measure in (spans, sample_times):
        part, alone = measure(10_000.0, sampling, within), measure(duration, sampling)
        np.testing.assert_allclose(part, 12.5 + alone, rtol=0, atol=1e-9 + duration * 1e-12)
        assert (measure(within.end, sampling, Window(12.5, 1e6)) == measure(within.end, sampling, within)).all()
    times = sample_times(10_000.0, sampling, within)
    assert (times >= within.start).all() and (times < within.end).all()


def test_a_part_must_begin_before_the_end() -> None:
    with pytest.raises(BehindTheEnd, match=r"it ends at 4.00 s, before the part from 4 to 5.5 s"):
        spans(4.0, Sampling(), Window(4.0, 5.5))
    for start, end in ((2.0, 2.0), (3.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, 1.0)):
        with pytest.raises(ValueError, match=r"a.mp4: .* is no part of a video"):
            Excerpt("a.mp4", Window(start, end))


def test_the_frame_shown_is_the_last_that_started() -> None:
    dice = random.Random(0)
    for _ in range(200):
        starts = sorted({round(dice.uniform(0, 5), 3) for _ in range(dice.randint(1, 30))})
        wanted = [dice.uniform(-0.5, 6) for _ in range(10)] + starts
        expected = [max([i for i, start in enumerate(starts) if start <= t] or [0]) for t in wanted]
        assert frames_shown(np.array(starts), np.array(wanted)).tolist() == expected


def test_an_instant_on_the_start_of_a_frame_does_not_hang_on_rounding() -> None:
    starts = np.arange(100) / 25
    assert frames_shown(starts, starts - 1e-12).tolist() == list(range(100))
    assert frames_shown(starts, starts + 1e-12).tolist() == list(range(100))


def test_the_nearest_start_is_found() -> None:
    dice = random.Random(1)
    for _ in range(200):
        starts = sorted({round(dice.uniform(0, 5), 3) for _ in range(dice.randint(1, 30))})
        wanted = [dice.uniform(-0.5, 6) for _ in range(10)]
        expected = [min(range(len(starts)), key=lambda i: abs(starts[i] - t)) for t in wanted]
        assert nearest(np.array(starts), np.array(wanted)).tolist() == expected


def test_repeated_frames_are_noted() -> None:
    assert repeats(np.array([0.0, 1.0])) == ()
    (note,) = repeats(np.array([0.0, 0.0, 1.0]))
    assert note.startswith("2 different frames for the 3 instants")


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (Sampling(windows=0), "windows is 0"),
        (Sampling(frames=-1), "frames is -1"),
        (Sampling(frame_step=0.0), "frame step is 0.0"),
        (Sampling(frame_step=math.nan), "frame step is nan"),
        (Sampling(frame_rate=math.inf), "frame rate is inf"),
        (Sampling(window=-1.0), "window is -1.0"),
        (Sampling(stride=2.0), "stride is 2.0, but windows have no length: give --window"),
        (Sampling(windows=3, window=2.0), "window is 2.0 s and windows is 3: give the length or the number"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sampling: Sampling, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_sampling(sampling)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_must_be_positive(duration: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        sample_times(duration, Sampling())
