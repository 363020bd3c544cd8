"""Exact and cheap reading with PyAV, the default decoder.

The packets' timestamps are read first, which needs no decoding. They tell which frame is on the screen at
each wanted instant. Each of those frames is then decoded from the key frame before it, frames that no other
frame refers to are skipped, and what comes out is known by its own timestamp. If one is missing, or the file
has no timestamps to trust, or anything in it is damaged, the whole video is decoded from its start instead,
keeping what can be kept. FFmpeg runs on one thread: parallelism belongs to the worker pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

from zsar_cli.errors import InputError
from zsar_cli.video.geometry import displayed_size, shape_frame
from zsar_cli.video.sampling import frames_shown, nearest, sample_times
from zsar_cli.video.types import DecodedVideo, Geometry, Partial, Sampling, VideoInfo

__all__ = ["probe", "read", "version"]

NAME = "pyav"
# Skipping frames that nothing refers to is only safe where the decoder marks them truthfully.
_SKIPPABLE = ("h264", "hevc")
# AVI stores no presentation times: with reordered frames those that FFmpeg guesses are wrong.
_NO_PRESENTATION_TIMES = ("avi",)


def version() -> str:
    """PyAV's version and that of the FFmpeg inside it."""
    return f"{av.__version__} (FFmpeg {av.ffmpeg_version_info})"


@dataclass
class _Damage:
    """What went wrong while reading, collected so that the rest can be saved."""

    errors: int = 0
    first: str = ""

    def note(self, error: Exception) -> None:
        self.errors += 1
        self.first = self.first or getattr(error, "strerror", None) or str(error)


@dataclass(frozen=True)
class _Row:
    """One packet's times, in the stream's unit."""

    pts: int | None
    dts: int | None
    duration: int
    is_key: bool
    is_discard: bool


@dataclass(frozen=True)
class _Timeline:
    """What the packets say about when each frame is shown.

    Args:
        starts: int64 [F], presentation times in units of `unit`, sorted, without repeats.
        keys: int64 [K], those of the key frames, the ones that are not shown included.
        end: when the last frame's time on the screen ends.
        unit: seconds.
        trusted: the packets carry their frames' presentation times; if not, only their number counts.
        nominal: there were no timestamps at all, so the frame rate alone gave the times.
        claimed: seconds the file says it lasts, if it says so reliably.
    """

    starts: NDArray[np.int64]
    keys: NDArray[np.int64]
    end: int
    unit: Fraction
    trusted: bool
    nominal: bool = False
    claimed: float | None = None

    @property
    def duration(self) -> float:
        return float((self.end - int(self.starts[0])) * self.unit)

    def seconds(self, pts: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray((pts - self.starts[0]) * float(self.unit), dtype=np.float64)


@dataclass
class _Source:
    """An open file, and what is needed to bring its frames into shape."""

    path: str
    container: InputContainer
    stream: VideoStream
    geometry: Geometry
    damage: _Damage = field(default_factory=_Damage)
    rotation: int = 0

    @property
    def aspect(self) -> Fraction:
        return Fraction(self.stream.sample_aspect_ratio or 1)

    def shape(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        self.rotation = round(frame.rotation / 90) * 90 % 360
        return shape_frame(frame, self.geometry, self.aspect, self.rotation)


# --- opening ---


def _open(path: str) -> tuple[InputContainer, VideoStream]:
    """Open a file's main video stream for reading on one thread."""
    # "file:" keeps names such as "rtmp:x.mp4" from being taken for a protocol, and the list keeps a playlist
    # that calls itself a video from reaching for the network.
    try:
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"})
    except av.FFmpegError as error:
        raise InputError(path, "open", _why_not_opened(path, error), NAME) from error
    try:
        return container, _video_stream(path, container)
    except InputError:
        container.close()
        raise


def _why_not_opened(path: str, error: av.FFmpegError) -> str:
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free"):
        return "the file is cut off or damaged: its index (moov), which is often written last, is missing"
    return f"not a video that FFmpeg recognises ({error.strerror})"


def _video_stream(path: str, container: InputContainer) -> VideoStream:
    kind = container.format.name
    if kind in ("tty", "image2") or kind.endswith("_pipe"):
        raise InputError(path, "open", f"not a video: FFmpeg takes it for {container.format.long_name}", NAME)
    videos = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
    if not videos:
        others = sorted({s.type for s in container.streams if s.type != "video"})
        has = f"only {', '.join(others)}" if others else "no stream at all"
        cover = " and a cover picture" if container.streams.video else ""
        raise InputError(path, "open", f"no video stream, {has}{cover}", NAME)
    best = container.streams.best("video")
    stream = next((s for s in videos if s is best), videos[0])
    if stream.codec_context is None:
        raise InputError(path, "open", "this build of FFmpeg has no decoder for its video codec", NAME)
    stream.thread_count = 1
    return stream


# --- packets and frames, whatever breaks ---


def _packets(source: _Source) -> Iterator[av.Packet[VideoStream]]:
    """Every packet, at the end the empty one that flushes the decoder; goes on behind a bad place."""
    failed = False
    while True:
        try:
            for packet in source.container.demux(source.stream):
                failed = False
                yield packet
            return
        except av.FFmpegError as error:
            source.damage.note(error)
            if failed:  # twice without a packet between: there is nothing behind it
                return
            failed = True


def _decode(source: _Source, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
    try:
        return packet.decode()
    except av.FFmpegError as error:
        source.damage.note(error)
        return []


# --- the timeline ---


def _scan(source: _Source) -> _Timeline:
    """Read every packet's times. No decoding: about 0.1 s for ten minutes of video."""
    stream, rows = source.stream, list[_Row]()
    for packet in _packets(source):
        if packet.size:
            length = packet.duration or 0
            rows.append(_Row(packet.pts, packet.dts, length, packet.is_keyframe, packet.is_discard))
            if packet.is_corrupt:
                source.damage.note(ValueError("a packet is incomplete"))
    if all(row.is_discard for row in rows):
        raise InputError(source.path, "decode", "it holds no video data", NAME)
    reorders = bool(stream.codec_context.has_b_frames)
    guessed = reorders and source.container.format.name in _NO_PRESENTATION_TIMES
    if not guessed and all(row.pts is not None for row in rows):
        return _timeline(source, [row.pts or 0 for row in rows], rows, trusted=True)
    if all(row.dts is not None for row in rows):
        return _timeline(source, [row.dts or 0 for row in rows], rows, trusted=False)
    rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
    starts = np.arange(len(rows), dtype=np.int64)
    return _Timeline(starts, starts[:1], len(rows), 1 / rate, trusted=False, nominal=True)


def _timeline(source: _Source, times: list[int], rows: list[_Row], trusted: bool) -> _Timeline:
    unit = source.stream.time_base or Fraction(1, 90000)
    # An edit list puts what is cut off the start before time 0: a player does not show it.
    edited = "mp4" in source.container.format.name and max(times) >= 0
    shown = {
        time: row.duration
        for time, row in zip(times, rows, strict=True)
        if not row.is_discard and not (edited and time < 0)
    }
    if not shown:
        raise InputError(source.path, "decode", "its edit list shows no frame at all", NAME)
    starts = np.array(sorted(shown), dtype=np.int64)
    keys = np.unique(np.array([t for t, row in zip(times, rows, strict=True) if row.is_key], dtype=np.int64))
    usual = int(np.median(np.diff(starts))) if len(starts) > 1 else 0
    rate = source.stream.average_rate
    last = shown[int(starts[-1])] or usual or (round(1 / (rate * unit)) if rate else 1)
    return _Timeline(starts, keys, int(starts[-1]) + max(last, 1), unit, trusted, claimed=_claimed(source))


def _claimed(source: _Source) -> float | None:
    """Seconds the file's own index or header says the stream lasts, where that can be relied upon."""
    stream, container, unit = source.stream, source.container, source.stream.time_base
    kind = container.format.name
    if "mp4" in kind and unit:
        entries = list(stream.index_entries)
        if not any(entry.pos + entry.size > container.size for entry in entries):
            return None  # every frame of the index lies in the file
        times = sorted(entry.timestamp for entry in entries)
        return float((times[-1] - times[0]) * len(times) / max(len(times) - 1, 1) * unit)
    if kind == "avi" and stream.duration and unit:
        return float(stream.duration * unit)
    if "matroska" in kind:
        if "DURATION" in stream.metadata:
            hours, minutes, seconds = stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        if len(container.streams) == 1 and container.duration:
            return container.duration / av.time_base
    return None


# --- three ways to the frames ---


def _by_seeking(source: _Source, line: _Timeline, targets: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
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


def _decode_until(source: _Source, wanted: set[int]) -> dict[int, NDArray[np.uint8]]:
    """Decode on from here until every wanted frame has come out or has been passed."""
    found: dict[int, NDArray[np.uint8]] = {}
    context = source.stream.codec_context
    skippable = source.stream.codec.canonical_name in _SKIPPABLE
    for packet in _packets(source):
        context.skip_frame = "NONREF" if skippable and packet.pts not in wanted else "DEFAULT"
        for frame in _decode(source, packet):
            if frame.pts in wanted and not frame.is_corrupt:
                found[frame.pts] = source.shape(frame)
            if len(found) == len(wanted) or (frame.pts is not None and frame.pts > max(wanted)):
                return found
    return found


def _by_key_frames(source: _Source, targets: NDArray[np.int64]) -> dict[int, NDArray[np.uint8]]:
    """Decode key frames alone: one packet each. What does not come out is not in the answer."""
    found: dict[int, NDArray[np.uint8]] = {}
    for target in targets.tolist():
        source.container.seek(target, stream=source.stream)
        for packet in _packets(source):
            if packet.size and packet.pts != target:
                continue
            frames = _decode(source, packet)
            if packet.size:
                frames += _flush(source)
            found.update((target, source.shape(f)) for f in frames if f.pts == target and not f.is_corrupt)
            break
    return found


def _flush(source: _Source) -> list[av.VideoFrame]:
    try:
        return source.stream.decode(None)
    except av.FFmpegError as error:
        source.damage.note(error)
        return []


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
    line: _Timeline
    share: float = 1.0
    notes: tuple[str, ...] = ()


def _from_the_start(source: _Source, line: _Timeline, sampling: Sampling) -> _Picked:
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


def _in_order(source: _Source, line: _Timeline) -> Iterator[_Timed]:
    """All frames with the times they are shown at, which always grow."""
    count, last = 0, None
    for packet in _packets(source):
        lost = source.damage.errors
        for frame in _decode(source, packet):
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
    container, stream = _open(path)
    with container:
        source = _Source(path, container, stream, geometry)
        line = _scan(source)
        picked = _try_seeking(source, line, sampling)
        if picked:
            return _result(source, sampling, picked)
        damage = source.damage
    container, stream = _open(path)
    with container:
        source = _Source(path, container, stream, geometry, damage)
        return _result(source, sampling, _from_the_start(source, line, sampling))


def _try_seeking(source: _Source, line: _Timeline, sampling: Sampling) -> _Picked | None:
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


def _result(source: _Source, sampling: Sampling, picked: _Picked) -> DecodedVideo:
    line, notes = picked.line, list(picked.notes)
    if not sampling.exact and not notes:
        notes.append("key frames could not be read alone: the exact frames were decoded instead")
    if line.nominal:
        notes.append(f"the file holds no times: they follow from {float(1 / line.unit):g} frames per second")
    distinct = len(set(picked.pts.tolist()))
    if distinct < len(picked.pts):
        notes.append(f"{distinct} different frames for {len(picked.pts)} instants: some are repeated")
    return DecodedVideo(
        path=source.path,
        frames=np.stack(picked.images),
        times=line.seconds(picked.pts),
        info=_info(source, line),
        sampling=sampling,
        decoder=NAME,
        decoder_version=version(),
        partial=_partial(source, picked),
        notes=tuple(notes),
    )


def _partial(source: _Source, picked: _Picked) -> Partial | None:
    line, damage, reasons = picked.line, source.damage, []
    share = picked.share
    # Headers round: less than a frame or a fiftieth missing is not a cut.
    slack = max((line.claimed or 0) / 50, line.duration / len(line.starts))
    if line.claimed and line.duration < line.claimed - slack:
        share *= line.duration / line.claimed
        reasons.append(
            f"the file is cut off at {line.duration:.2f} s of {line.claimed:.2f} s; "
            "the frames are spread over the part that is there"
        )
    elif damage.errors:
        what = f"{damage.errors} damaged places ({damage.first})"
        reasons.append(f"{what}; the nearest good frames were taken there")
    return Partial(min(share, 1.0), "; ".join(reasons)) if reasons else None


def _info(source: _Source, line: _Timeline) -> VideoInfo:
    stream = source.stream
    width, height = displayed_size(stream.width, stream.height, source.aspect, source.rotation)
    return VideoInfo(
        width=width,
        height=height,
        duration=line.duration,
        frame_rate=len(line.starts) / line.duration,
        codec=stream.codec.canonical_name,
        container=source.container.format.name,
        rotation=source.rotation,
    )


def probe(path: str) -> VideoInfo:
    """What is known of a video file; decodes its first frame, which knows the rotation.

    Raises:
        InputError: as `read`.
    """
    one = Sampling(clips=1, frames=1, exact=False)
    return read(path, one, Geometry(size=16)).info
