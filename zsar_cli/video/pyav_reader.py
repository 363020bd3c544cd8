"""Exact and cheap reading with PyAV, the default decoder.

The packets' timestamps are read first, which needs no decoding. They tell which frame is on the screen at
each wanted instant. Each of those frames is then decoded from the key frame before it, frames that no other
frame refers to are skipped, and what comes out is known by its own timestamp. If one is missing, or the file
has no timestamps to trust, or anything in it is damaged, the whole video is decoded from its start instead,
keeping what can be kept. FFmpeg runs on one thread: parallelism belongs to the worker pool.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain

import av
import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import InputError
from zsar_cli.video.pyav_source import NAME, Source, Timeline, open_source, scan
from zsar_cli.video.sampling import frames_shown, nearest, repeats, sample_times
from zsar_cli.video.types import DecodedVideo, Geometry, Partial, Sampling, VideoInfo

__all__ = ["probe", "read", "version"]

# Skipping frames that nothing refers to is only safe where the decoder marks them truthfully.
_SKIPPABLE = ("h264", "hevc")


def version() -> str:
    """PyAV's version and that of the FFmpeg inside it."""
    return f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})"


# --- three ways to the frames ---


def _by_seeking(source: Source, line: Timeline, targets: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """Decode the target frames, each from the key frame before it; what does not come out is left out."""
    found: dict[int, NDArray[np.uint8]] = {}
    group_of = np.searchsorted(line.keys, targets, side="right") - 1
    for group in np.unique(group_of):
        if group < 0:  # shown before the first key frame: only decoding from the start can tell
            continue
        wanted = {int(pts) for pts in targets[group_of == group]}
        found.update(_decode_group(source, int(line.keys[group]), wanted))
    return found


def _decode_group(source: Source, key: int, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Decode on from a key frame until every wanted frame has come out or has been passed."""
    found: dict[int, NDArray[np.uint8]] = {}
    context = source.stream.codec_context
    skippable = source.stream.codec.canonical_name in _SKIPPABLE
    source.container.seek(key, stream=source.stream)
    for packet in source.packets():
        if packet.pts is not None and packet.pts < key:
            continue  # shown before the key frame, so nothing after it refers to it; it may need what was skipped
        context.skip_frame = "NONREF" if skippable and packet.pts not in wanted else "DEFAULT"
        for frame in source.decode(packet):
            if frame.pts in wanted and not frame.is_corrupt:
                found[frame.pts] = source.shape(frame)
            if len(found) == len(wanted) or (frame.pts is not None and frame.pts > max(wanted)):
                return found
    return found


def _by_key_frames(source: Source, targets: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """Decode key frames alone, one packet each; what does not come out is left out."""
    found: dict[int, NDArray[np.uint8]] = {}
    for target in targets.tolist():
        source.container.seek(target, stream=source.stream)
        for packet in source.packets():
            if packet.pts == target:
                frames = source.decode(packet) + source.decode(None)
                found.update((target, source.shape(f)) for f in frames if f.pts == target and not f.is_corrupt)
                break
    return found


@dataclass(frozen=True)
class _Picked:
    """Frames chosen for the wanted instants.

    Args:
        images: K arrays uint8 [S, S, 3]; the same object where a frame is repeated.
        pts: int64 [K].
        line: when frames are shown, corrected by what decoding showed.
        share: of that line's duration that could be decoded.
    """

    images: list[NDArray[np.uint8]]
    pts: NDArray[np.int64]
    line: Timeline
    share: float = 1.0
    notes: tuple[str, ...] = ()


def _from_the_start(source: Source, line: Timeline, sampling: Sampling) -> _Picked:
    """Decode everything in order and keep what is on the screen at each wanted instant."""
    frames = _in_order(source, line)
    first = next(frames, None)
    if first is None:
        reason = f"no frame can be decoded ({source.damage.first or 'the data is damaged'})"
        raise InputError(source.path, "decode", reason, NAME)
    if first[0] > line.starts[0] and not source.damage.errors:
        # A recording that was cut open: the frames before its first key frame cannot be shown by anyone.
        line = replace(line, starts=line.starts[line.starts >= first[0]])
    wanted = sample_times(line.duration, sampling)
    expected = line.starts[frames_shown(line.seconds(line.starts), wanted)]
    instants = wanted / float(line.unit) + int(line.starts[0])
    waiting = deque(np.argsort(wanted, kind="stable").tolist())
    images: dict[int, NDArray[np.uint8]] = {}
    chosen = np.empty_like(expected)
    decoded: list[int] = []
    before = first
    for after in chain(frames, [None]):
        decoded.append(before[0])
        while waiting and (after is None or expected[waiting[0]] < after[0]):
            index = waiting.popleft()
            pick = after if after and _is_nearer(source, line, instants[index], before, after) else before
            chosen[index] = pick[0]
            if pick[0] not in images:
                images[pick[0]] = source.shape(pick[1])
        if after is None or not (waiting or source.damage.errors):
            break
        before = after
    share = _share(line, decoded) if source.damage.errors else 1.0
    return _Picked([images[int(pts)] for pts in chosen], chosen, line, share)


_Timed = tuple[int, av.VideoFrame]


def _is_nearer(source: Source, line: Timeline, instant: float, before: _Timed, after: _Timed) -> bool:
    """In a damaged video: was the right frame lost, and is the later of its neighbours the nearer one?"""
    lost = source.damage.errors > 0 and instant >= before[0] + 2 * line.usual
    return lost and after[0] - instant < instant - before[0]


def _share(line: Timeline, decoded: list[int]) -> float:
    """How much of a damaged video was decoded; a long pause without packets counts as lost."""
    lengths = np.diff(np.append(line.starts, line.end))
    good = np.minimum(lengths, 2 * line.usual)[np.isin(line.starts, decoded)]
    return float(good.sum() / lengths.sum())


def _in_order(source: Source, line: Timeline) -> Iterator[_Timed]:
    """All frames with the times they are shown at, which always grow."""
    count, last = 0, None
    for packet in source.packets():
        lost = source.damage.errors
        for frame in source.decode(packet):
            if line.trusted:
                pts = frame.pts
            else:
                pts = int(line.starts[count]) if count < len(line.starts) else line.end + count
                count += 1
            if pts is not None and pts >= line.starts[0] and (last is None or pts > last):
                last = pts
                yield pts, frame
        count += source.damage.errors - lost  # a frame that is lost still had its time


# --- the whole ---


def read(path: str, sampling: Sampling, geometry: Geometry) -> DecodedVideo:
    """Read the frames shown at the wanted instants; see `zsar_cli.video.reader.read_video`.

    Raises:
        InputError: the file cannot be opened as a video, or no frame of it can be decoded.
    """
    with open_source(path, geometry) as source:
        line = scan(source)
        picked = _try_seeking(source, line, sampling)
        if picked:
            return _result(source, sampling, picked)
    with open_source(path, geometry) as source:  # afresh: nothing that broke is carried over
        return _result(source, sampling, _from_the_start(source, line, sampling))


def _try_seeking(source: Source, line: Timeline, sampling: Sampling) -> _Picked | None:
    """The cheap way, or None where it does not lead to every frame."""
    if source.damage.errors or not line.trusted:
        return None
    wanted = sample_times(line.duration, sampling)
    notes: tuple[str, ...] = ()
    shown_keys = np.intersect1d(line.keys, line.starts)
    if sampling.exact or not len(shown_keys):
        chosen = line.starts[frames_shown(line.seconds(line.starts), wanted)]
        found = _by_seeking(source, line, np.unique(chosen))
    else:
        chosen = shown_keys[nearest(line.seconds(shown_keys), wanted)]
        found = _by_key_frames(source, np.unique(chosen))
        off = float(np.abs(line.seconds(chosen) - wanted).max())
        notes = (f"key frames: up to {off:.1f} s from the instants asked for",)
    if source.damage.errors or len(found) < len(np.unique(chosen)):
        return None
    return _Picked([found[int(pts)] for pts in chosen], chosen, line, notes=notes)


def _result(source: Source, sampling: Sampling, picked: _Picked) -> DecodedVideo:
    line, notes = picked.line, list(picked.notes)
    if not sampling.exact and not notes:
        notes.append("key frames could not be read alone: the exact frames were decoded instead")
    if line.nominal:
        notes.append(f"the file holds no times: they follow from {float(1 / line.unit):g} frames per second")
    times = line.seconds(picked.pts)
    return DecodedVideo(
        path=source.path,
        frames=np.stack(picked.images),
        times=times,
        info=source.info(line.duration, len(line.starts) / line.duration),
        sampling=sampling,
        decoder=NAME,
        decoder_version=version(),
        partial=_partial(source, picked),
        notes=(*notes, *repeats(times)),
    )


def _partial(source: Source, picked: _Picked) -> Partial | None:
    line, damage, share = picked.line, source.damage, picked.share
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
    one = Sampling(clips=1, frames=1, exact=False)
    return read(path, one, Geometry(size=16)).info
