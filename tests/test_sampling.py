"""Instants and the frames shown then, against plain loops."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from zsar_cli.errors import UsageError
from zsar_cli.video.sampling import check_sampling, frames_shown, nearest, repeats, sample_times
from zsar_cli.video.types import Sampling

CASES = [
    (duration, Sampling(clips, frames, stride))
    for duration in (0.04, 0.2, 1.0, 10.0, 5400.123)
    for clips in (1, 2, 5)
    for frames in (1, 2, 8, 16)
    for stride in (None, 0.01, 0.5)
]


def times_by_hand(duration: float, sampling: Sampling) -> list[float]:
    """The definition, one instant at a time."""
    times = []
    segment = duration / sampling.clips
    for clip in range(sampling.clips):
        for frame in range(sampling.frames):
            if sampling.stride is None:
                cell = segment / sampling.frames
                time = clip * segment + (frame + 0.5) * cell
            else:
                first = (clip + 0.5) * segment - (sampling.frames - 1) * sampling.stride / 2
                time = first + frame * sampling.stride
            times.append(min(max(time, 0.0), math.nextafter(duration, 0.0)))
    return times


@pytest.mark.parametrize(("duration", "sampling"), CASES)
def test_instants_follow_the_definition(duration: float, sampling: Sampling) -> None:
    times = sample_times(duration, sampling)

    assert times.shape == (sampling.clips * sampling.frames,)
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, times_by_hand(duration, sampling), rtol=0, atol=duration * 1e-12)


@pytest.mark.parametrize(("duration", "sampling"), CASES)
def test_instants_are_inside_sorted_in_each_clip_and_symmetric(duration: float, sampling: Sampling) -> None:
    times = sample_times(duration, sampling)

    assert (times >= 0).all() and (times < duration).all()
    assert (np.diff(times.reshape(sampling.clips, sampling.frames), axis=1) >= 0).all()
    np.testing.assert_allclose(times + times[::-1], duration, rtol=1e-12)


def test_one_clip_without_a_stride_is_uniform_over_the_whole_video() -> None:
    assert sample_times(8.0, Sampling(frames=4)).tolist() == [1.0, 3.0, 5.0, 7.0]
    assert sample_times(8.0, Sampling(clips=2, frames=2)).tolist() == [1.0, 3.0, 5.0, 7.0]


def test_a_stride_is_kept_and_centred_in_each_segment() -> None:
    times = sample_times(20.0, Sampling(clips=2, frames=3, stride=0.5))
    assert times.tolist() == [4.5, 5.0, 5.5, 14.5, 15.0, 15.5]


def test_a_stride_too_long_for_the_video_is_clamped_to_it() -> None:
    times = sample_times(1.0, Sampling(frames=4, stride=1.0))
    assert times[0] == times[1] == 0.0
    assert 0.999999 < times[2] == times[3] < 1.0


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
        (Sampling(clips=0), "clips is 0"),
        (Sampling(frames=-1), "frames is -1"),
        (Sampling(stride=0.0), "stride is 0.0"),
        (Sampling(stride=math.nan), "stride is nan"),
        (Sampling(frame_rate=math.inf), "frame rate is inf"),
    ],
)
def test_what_cannot_be_sampled_is_refused(sampling: Sampling, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_sampling(sampling)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_must_be_positive(duration: float) -> None:
    with pytest.raises(ValueError, match="duration"):
        sample_times(duration, Sampling())
