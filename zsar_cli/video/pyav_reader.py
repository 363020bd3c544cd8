"""Exact and cheap reading with PyAV, the default decoder.

The packets' timestamps are read first, which needs no decoding; for key frames alone the index of the file does,
where it has one that tells as much. They tell which frame is on the screen at each wanted instant. Each of those
frames is then decoded from the key frame before it, frames that no other frame refers to are skipped, and what comes
out is known by its own timestamp. Windows leave as they are complete. If a frame is missing, or the file has no
timestamps to trust, or anything in it is damaged, the windows that are still to come are decoded from the start of
the file instead, keeping what can be kept. FFmpeg runs on one thread: parallelism belongs to the worker pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import av
import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import InputError
from zsar_cli.video.assembly import Pick, windows_of
from zsar_cli.video.pyav_index import scan_index
from zsar_cli.video.pyav_source import NAME, Source, Timed, Timeline, in_order, open_source, scan, why_no_frame
from zsar_cli.video.sampling import Allot, Indivisible, frames_shown, nearest, repeats, sample_times, spans
from zsar_cli.video.types import Geometry, Partial, Sampling, VideoFacts, VideoInfo, Window, WindowBatch

__all__ = ["probe", "read", "version"]

# Skipping frames that nothing refers to is only safe where the decoder marks them truthfully.
_SKIPPABLE = ("h264", "hevc")


def version() -> str:
    """PyAV's version and that of the FFmpeg inside it."""
    return f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})"


# --- three ways to the frames ---


_Shaped = tuple[int, NDArray[np.uint8]]  # a frame's presentation time, and its picture uint8 [S, S, 3]


def _by_seeking(source: Source, line: Timeline, targets: NDArray[np.int64]) -> Iterator[_Shaped]:
    """Decode the target frames in order, each from the key frame before it; ends at the first that is missing.

    Args:
        targets: int64 [K], sorted, without repeats.
    """
    group_of = np.searchsorted(line.keys, targets, side="right") - 1
    groups, begins = np.unique(group_of, return_index=True)
    for group, members in zip(groups.tolist(), np.split(targets, begins[1:]), strict=True):
        if group < 0:  # shown before the first key frame: only decoding from the start can tell
            return
        missing = deque(members.tolist())
        for pts, image in _decode_group(source, int(line.keys[group]), members.tolist()):
            if source.damage.errors or pts != missing.popleft():
                return
            yield pts, image
        if source.damage.errors or missing:
            return


def _decode_group(source: Source, key: int, wanted: list[int]) -> Iterator[_Shaped]:
    """Decode on from a key frame until every wanted frame has come out or has been passed."""
    targets, last = set(wanted), wanted[-1]
    context = source.stream.codec_context
    skippable = source.stream.codec.canonical_name in _SKIPPABLE
    source.seek(key)
    for packet in source.packets():
        if packet.pts is not None and packet.pts < key:
            continue  # shown before the key frame, so nothing after it refers to it; it may need what was skipped
        context.skip_frame = "NONREF" if skippable and packet.pts not in targets else "DEFAULT"
        for frame in source.decode(packet):
            if frame.pts in targets and not frame.is_corrupt:
                yield frame.pts, source.shape(frame)
            if frame.pts is not None and frame.pts >= last:
                return


def _by_key_frames(source: Source, targets: NDArray[np.int64]) -> Iterator[_Shaped]:
    """Decode key frames alone, one packet each; ends at the first that is missing."""
    for target in targets.tolist():
        image = _key_frame(source, target)
        if image is None or source.damage.errors:
            return
        yield target, image


def _key_frame(source: Source, target: int) -> NDArray[np.uint8] | None:
    source.seek(target)
    for packet in source.packets():
        if packet.dts is not None and packet.dts > target:
            return None  # no frame is shown before it is decoded
        if packet.pts == target:
            frames = source.decode(packet) + source.decode(None)
            return next((source.shape(f) for f in frames if f.pts == target and not f.is_corrupt), None)
    return None


@dataclass
class _Plan:
    """Which frames stand for the wanted instants, and what became of it.

    Args:
        line: when frames are shown, corrected by what decoding showed.
        sampling: what was asked for.
        chosen: int64 [N, T], presentation times of the frames.
        within: the part that is looked at.
        decoded: presentation times of all frames that came out when everything was decoded.
    """

    line: Timeline
    sampling: Sampling
    chosen: NDArray[np.int64]
    within: Window | None
    notes: tuple[str, ...] = ()
    decoded: list[int] = field(default_factory=list)

    @property
    def spans(self) -> NDArray[np.float64]:
        """float64 [N, 2], seconds."""
        return spans(self.line.duration, self.sampling, self.within)


def _from_the_start(source: Source, plan: _Plan, first: int) -> Iterator[Pick]:
    """Decode everything in order and keep what is on the screen at each instant of the windows from `first` on."""
    frames = in_order(source, plan.line)
    before = next(frames, None)
    if before is None:
        raise InputError(source.path, "decode", why_no_frame(source), NAME)
    if before[0] > plan.line.starts[0] and not source.damage.errors and not first:
        # A recording that was cut open: the frames before its first key frame cannot be shown by anyone.
        plan.line = replace(plan.line, starts=plan.line.starts[plan.line.starts >= before[0]])
    line = plan.line
    wanted = sample_times(line.duration, plan.sampling, plan.within)
    if len(wanted) != len(plan.chosen):
        plan.chosen = np.zeros(wanted.shape, dtype=np.int64)
    expected = line.starts[frames_shown(line.seconds(line.starts), wanted)].ravel()
    instants = wanted.ravel() / float(line.unit) + int(line.starts[0])
    chosen = plan.chosen.reshape(-1)
    order = np.argsort(wanted.ravel(), kind="stable")
    waiting = deque(order[order >= first * plan.sampling.frames].tolist())
    last: tuple[int, NDArray[np.uint8]] | None = None
    for after in chain(frames, [None]):
        plan.decoded.append(before[0])
        while waiting and (after is None or expected[waiting[0]] < after[0]):
            index = waiting.popleft()
            pick = after if after and _is_nearer(source, line, instants[index], before, after) else before
            chosen[index] = pick[0]
            if last is None or last[0] != pick[0]:
                last = pick[0], source.shape(pick[1])
            yield index, last[1]
        if after is None or not (waiting or source.damage.errors):
            return
        before = after


def _is_nearer(source: Source, line: Timeline, instant: float, before: Timed, after: Timed) -> bool:
    """In a damaged video: was the right frame lost, and is the later of its neighbours the nearer one?"""
    lost = source.damage.errors > 0 and instant >= before[0] + 2 * line.usual
    return lost and after[0] - instant < instant - before[0]


def _share(line: Timeline, decoded: list[int]) -> float:
    """How much of a damaged video was decoded; a long pause without packets counts as lost."""
    lengths = np.diff(np.append(line.starts, line.end))
    good = np.minimum(lengths, 2 * line.usual)[np.isin(line.starts, decoded)]
    return float(good.sum()) / float(lengths.sum())


# --- the whole ---


def read(
    path: str,
    sampling: Sampling,
    geometry: Geometry,
    within: Window | None = None,
    allot: Allot = lambda windows, _: range(windows),
) -> Iterator[WindowBatch | VideoFacts]:
    """Windows as they are complete, and last what is known of the file; see `zsar_cli.video.reader.read_windows`.

    Raises:
        InputError: the file cannot be opened as a video, or no frame of it can be decoded.
        Indivisible: `allot` left windows out, and those that are wanted cannot be read by seeking.
    """
    done, plan, share, alone = 0, None, None, True
    for look in (scan,) if sampling.exact else (scan_index, scan):
        with open_source(path, geometry) as source:
            found = look(source)
            if found is None:
                continue
            line, plan = found, _plan(source, found, sampling, within)
            if plan is None:
                continue
            if share is None:
                share = allot(len(plan.chosen), float(plan.spans[-1, 1] - plan.spans[0, 0]))
                done, alone = share.start, share == range(len(plan.chosen))
            picks = _seeking(source, plan, range(done, share.stop))
            for window in windows_of(picks, plan.spans, sampling.frames, done):
                yield window
                done += 1
            if done == share.stop:
                yield _facts(source, plan)
                return
    if not alone:
        raise Indivisible
    with open_source(path, geometry) as source:  # afresh: nothing that broke is carried over
        if plan is None:
            times = sample_times(line.duration, sampling, within)
            plan = _Plan(line, sampling, np.zeros(times.shape, dtype=np.int64), within)
        if plan.notes:
            exact = f"from {plan.spans[done, 0]:.1f} s on key frames could not be read alone: exact frames were decoded"
            plan.notes = (*plan.notes, exact) if done else ()
        picks = _from_the_start(source, plan, done)
        first = next(picks, None)  # only now the timeline is certain
        yield from windows_of(chain([first] if first else [], picks), plan.spans, sampling.frames, done)
        yield _facts(source, plan)


def _plan(source: Source, line: Timeline, sampling: Sampling, within: Window | None) -> _Plan | None:
    """Which frames to seek, or None where seeking cannot be trusted."""
    if source.damage.errors or not line.trusted:
        return None
    wanted = sample_times(line.duration, sampling, within)
    shown_keys = np.intersect1d(line.keys, line.starts)
    if sampling.exact or not len(shown_keys):
        return _Plan(line, sampling, line.starts[frames_shown(line.seconds(line.starts), wanted)], within)
    chosen = shown_keys[nearest(line.seconds(shown_keys), wanted)]
    off = float(np.abs(line.seconds(chosen) - wanted).max())
    return _Plan(line, sampling, chosen, within, (f"key frames: up to {off:.1f} s from the instants asked for",))


def _seeking(source: Source, plan: _Plan, windows: range) -> Iterator[Pick]:
    """Each instant of these windows with its frame, in order of time; ends early where a frame is missing."""
    flat, count = plan.chosen.ravel(), plan.sampling.frames
    begin, end = windows.start * count, windows.stop * count
    order = np.argsort(flat[begin:end], kind="stable") + begin
    targets, begins = np.unique(flat[order], return_index=True)
    groups = np.split(order, begins[1:])
    frames = _by_key_frames(source, targets) if plan.notes else _by_seeking(source, plan.line, targets)
    for instants, (_, image) in zip(groups, frames, strict=False):
        yield from ((int(instant), image) for instant in instants)


def _facts(source: Source, plan: _Plan) -> VideoFacts:
    line, sampling, notes = plan.line, plan.sampling, list(plan.notes)
    if not sampling.exact and not notes:
        notes.append("key frames could not be read alone: the exact frames were decoded instead")
    if line.nominal:
        notes.append(f"the file holds no times: they follow from {float(1 / line.unit):g} frames per second")
    times = line.seconds(plan.chosen)
    whole = sampling.window is None
    return VideoFacts(
        path=source.path,
        info=source.info(line.duration, len(line.starts) / line.duration),
        sampling=sampling,
        decoder=NAME,
        decoder_version=version(),
        times=tuple(times.ravel().tolist()) if whole else (),
        partial=_partial(source, line, _share(line, plan.decoded) if source.damage.errors else 1.0),
        notes=(*notes, *(repeats(times) if whole else ())),
    )


def _partial(source: Source, line: Timeline, share: float) -> Partial | None:
    damage = source.damage
    start, end = float(line.starts[0] * line.unit), float(line.end * line.unit)
    # Headers round: less than a frame or a fiftieth missing is not a cut.
    slack = max(line.duration / 50, line.duration / len(line.starts))
    if line.claimed and end + slack < line.claimed:
        share *= line.duration / (line.claimed - start)
        reason = f"nothing can be read after {line.duration:.2f} s of {line.claimed - start:.2f} s"
        return Partial(share, f"{reason}: the frames are spread over the part before")
    if damage.errors:
        places = f"{damage.errors} damaged place{'s' * (damage.errors > 1)} ({damage.first})"
        return Partial(share, f"{places}: where a frame is lost the nearest one was taken")
    return None


def probe(path: str) -> VideoInfo:
    """What is known of a video file; decodes its first frame, which knows the rotation.

    Raises:
        InputError: as `read`.
    """
    *_, facts = read(path, Sampling(frames=1, exact=False), Geometry(size=16))
    assert isinstance(facts, VideoFacts)
    return facts.info
