"""Exact and cheap reading with PyAV, the default decoder.

The packets' timestamps are read first, which needs no decoding. They tell which frame is on the screen at
each wanted instant. Each of those frames is then decoded from the key frame before it, frames that no other
frame refers to are skipped, and what comes out is known by its own timestamp. If one is missing, or the file
has no timestamps to trust, or anything in it is damaged, the whole video is decoded from its start instead,
keeping what can be kept. FFmpeg runs on one thread: parallelism belongs to the worker pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
        source.container.seek(int(line.keys[group]), stream=source.stream)
        found.update(_decode_until(source, wanted))
    return found


def _decode_until(source: Source, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Decode on from here until every wanted frame has come out or has been passed."""
    found: dict[int, NDArray[np.uint8]] = {}
    context = source.stream.codec_context
    skippable = source.stream.codec.canonical_name in _SKIPPABLE
    for packet in source.packets():
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
    seconds = line.seconds(line.starts)
    expected = line.starts[frames_shown(seconds, sample_times(line.duration, sampling))]
    images: dict[int, NDArray[np.uint8]] = {}
    chosen = np.empty_like(expected)
    waiting = np.argsort(expected, kind="stable").tolist()
    decoded = [first[0]]
    before = first
    for after in frames:
        decoded.append(after[0])
        while waiting and expected[waiting[0]] < after[0]:
            index = waiting.pop(0)
            pick = _pick(int(expected[index]), before, after, damaged=bool(source.damage.errors))
            chosen[index] = pick[0]
            if pick[0] not in images:
                images[pick[0]] = source.shape(pick[1])
        before = after
    if waiting:
        images[before[0]] = source.shape(before[1])
        chosen[waiting] = before[0]
    lengths = np.diff(np.append(line.starts, line.end))
    share = float(lengths[np.isin(line.starts, decoded)].sum() / lengths.sum())
    return _Picked([images[int(pts)] for pts in chosen], chosen, line, share)


_Timed = tuple[int, av.VideoFrame]


def _pick(expected: int, before: _Timed, after: _Timed, damaged: bool) -> _Timed:
    """The earlier frame is still on the screen, unless the right one was lost and the later one is nearer."""
    if expected < before[0] or (damaged and after[0] - expected < expected - before[0]):
        return before if expected < before[0] else after
    return before


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
    with open_source(path, geometry, source.damage) as source:
        return _result(source, sampling, _from_the_start(source, line, sampling))


def _try_seeking(source: Source, line: Timeline, sampling: Sampling) -> _Picked | None:
    """The cheap way, or None where it does not lead to every frame."""
    if source.damage.errors or not line.trusted:
        return None
    wanted = sample_times(line.duration, sampling)
    notes: tuple[str, ...] = ()
    if sampling.exact or not len(shown_keys := line.keys[np.isin(line.keys, line.starts)]):
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
        reason = f"the file is cut off after {line.duration:.2f} s of {line.claimed - start:.2f} s"
        return Partial(share, f"{reason}; the frames are spread over the part that is there")
    if damage.errors:
        reason = f"{damage.errors} damaged places ({damage.first})"
        return Partial(share, f"{reason}; where a frame is lost the nearest one was taken")
    return None


def probe(path: str) -> VideoInfo:
    """What is known of a video file; decodes its first frame, which knows the rotation.

    Raises:
        InputError: as `read`.
    """
    one = Sampling(clips=1, frames=1, exact=False)
    return read(path, one, Geometry(size=16)).info
