"""A video file opened with PyAV: its packets whatever breaks, and the timeline that they tell."""

from __future__ import annotations

import os
import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from zsar_cli.errors import InputError
from zsar_cli.video.geometry import displayed_size, shape_frame
from zsar_cli.video.kinds import VIDEO_FORMATS
from zsar_cli.video.limits import MAX_PIXELS, check_pixels, too_large
from zsar_cli.video.types import Geometry, VideoInfo

__all__ = [
    "ANY_SHAPE",
    "NAME",
    "Damage",
    "Source",
    "Timed",
    "Timeline",
    "as_fraction",
    "in_order",
    "open_source",
    "scan",
    "upright_by",
    "why_no_frame",
]

NAME = "pyav"
_FURTHER = 5  # seconds
ANY_SHAPE = Geometry(size=16)  # where frames are not shaped

# AVI stores no presentation times: with reordered frames those that FFmpeg guesses are wrong.
_NO_PRESENTATION_TIMES = ("avi",)

# Titles in another encoding are no obstacle: PyAV 19 reads them by itself, its predecessors must be told to.
_ANY_TITLE: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


@dataclass
class Damage:
    """What went wrong while reading, collected so that the rest can be saved."""

    errors: int = 0
    first: str = ""

    def note(self, error: Exception) -> None:
        """Count one more damaged place."""
        self.errors += 1
        self.first = self.first or getattr(error, "strerror", None) or str(error)


class _Packets:
    """The packets' times in the stream's unit, as arrays: a film of hours has hundreds of thousands."""

    _NONE = -(2**63)

    def __init__(self, packets: Iterable[av.Packet[VideoStream]]) -> None:
        pts, dts, lengths, flags = array("q"), array("q"), array("q"), array("b")
        for packet in packets:
            if packet.size:
                pts.append(self._NONE if packet.pts is None else packet.pts)
                dts.append(self._NONE if packet.dts is None else packet.dts)
                lengths.append(packet.duration or 0)
                flags.append(packet.is_keyframe + 2 * packet.is_discard)
        self.pts, self.dts, self.lengths = (np.array(column, dtype=np.int64) for column in (pts, dts, lengths))
        kinds = np.array(flags)
        self.is_key, self.is_discard = kinds & 1 > 0, kinds & 2 > 0

    def all_have(self, times: NDArray[np.int64]) -> bool:
        """Whether each packet has its time."""
        return bool((times != self._NONE).all())


@dataclass(frozen=True)
class Timeline:
    """What the packets say about when each frame is shown.

    Args:
        starts: int64 [F], presentation times in units of `unit`, sorted, without repeats.
        keys: int64 [K], those of the key frames, the ones that are not shown included.
        end: when the last frame's time on the screen ends.
        unit: seconds.
        trusted: the packets carry their frames' presentation times; if not, only their number counts.
        nominal: there were no timestamps at all, so the frame rate alone gave the times.
        claimed: seconds on the stream's clock where the file says it ends, if it says so reliably.
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
        """Seconds from the first frame to the end of the last."""
        return float((self.end - int(self.starts[0])) * self.unit)

    @property
    def usual(self) -> int:
        """How long a frame is usually shown."""
        return int(np.median(np.diff(np.append(self.starts, self.end))))

    def shown_at(self, pts: int) -> int:
        """When the frame that is on the screen then began to be shown; the first one's time before it."""
        return int(self.starts[max(int(np.searchsorted(self.starts, pts, side="right")) - 1, 0)])

    def key_before(self, pts: int) -> int | None:
        """The last key frame by then; None where there is none, or where the times cannot be sought by."""
        index = int(np.searchsorted(self.keys, pts, side="right")) - 1
        return int(self.keys[index]) if self.trusted and index >= 0 else None

    def starts_for(self, pts: int) -> list[int | None]:
        """Key frames to seek in order to read what is shown then, the best first; last None, the start of the file.

        Some formats, MPEG's streams above all, are sought inexactly: then one that is further away leads there.
        """
        further = self.key_before(pts - round(_FURTHER / self.unit))
        return list(dict.fromkeys((self.key_before(pts), further, None)))

    def since(self, pts: int) -> float:
        """A time in units as seconds from the first frame."""
        return float((pts - int(self.starts[0])) * self.unit)

    def seconds(self, pts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Times in units as seconds from the first frame."""
        return np.asarray((pts - self.starts[0]) * float(self.unit), dtype=np.float64)


@dataclass
class Source:
    """An open file: its packets and frames, whatever breaks, and the shape its frames are wanted in."""

    path: str
    container: InputContainer
    stream: VideoStream
    geometry: Geometry
    damage: Damage = field(default_factory=Damage)
    rotation: int = 0

    @property
    def kind(self) -> str:
        """FFmpeg's name of the container format."""
        return self.container.format.name

    @property
    def aspect(self) -> Fraction:
        """Width of a stored pixel over its height."""
        return as_fraction(self.stream.sample_aspect_ratio) or Fraction(1)

    def packets(self) -> Iterator[av.Packet[VideoStream]]:
        """Every packet, at the end the empty one that flushes the decoder; goes on behind a bad place."""
        failed = False
        while True:
            try:
                for packet in self.container.demux(self.stream):
                    failed = False
                    if packet.is_corrupt:
                        self.damage.note(ValueError("a packet is incomplete"))
                    yield packet
                return
            except MemoryError:
                raise
            except av.FFmpegError as error:
                self.damage.note(error)
                if failed:  # twice without a packet between: there is nothing behind it
                    return
                failed = True

    def seek(self, pts: int) -> None:
        """Go to the last key frame by then; where the file does not let itself be sought that is damage."""
        try:
            self.container.seek(pts, stream=self.stream)
        except av.FFmpegError as error:
            self.damage.note(error)

    def decode(self, packet: av.Packet[VideoStream] | None) -> list[av.VideoFrame]:
        """The frames that come out for a packet; None flushes the decoder."""
        try:
            return self.stream.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError as error:
            self.damage.note(error)
            return []

    def shape(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 [S, S, 3]. Remembers the rotation, which only frames tell."""
        self.rotation = upright_by(frame)
        return shape_frame(frame, self.geometry, self.aspect, self.rotation)

    def info(self, duration: float, frame_rate: float) -> VideoInfo:
        """What is known of the file, once a frame has been shaped."""
        size = self.stream.width, self.stream.height
        width, height = displayed_size(*size, self.aspect, self.rotation)
        codec = self.stream.codec.canonical_name
        return VideoInfo(width, height, duration, frame_rate, codec, self.kind, self.rotation)


# --- opening ---

# "file:" keeps names such as "rtmp:x.mp4" from being taken for a protocol. Then no format that names other files is
# opened, nothing is fetched, tracks that lie in other files (QuickTime's "dref") are left alone, and no picture is
# larger than a decode process has room for. Probing takes these options too, and takes one thread.
_OPTIONS = {
    "format_whitelist": ",".join(VIDEO_FORMATS),
    "protocol_whitelist": "file",
    "enable_drefs": "0",
    "use_absolute_path": "0",
    "max_pixels": str(MAX_PIXELS),
}
# Formats that are lists of other files.
_SCRIPTS = ("concat", "hls", "dash", "webm_dash_manifest", "imf", "sdp", "rtsp", "vobsub")


@contextmanager
def open_source(path: str, geometry: Geometry, damage: Damage | None = None, decoder: str = NAME) -> Iterator[Source]:
    """A file's main video stream, to be decoded on one thread.

    Args:
        path: a regular file.
        geometry: the shape of its frames.
        decoder: the name to put into errors.

    Raises:
        InputError: not a video, or no decoder for it; the reason says what it is instead.
    """
    try:
        container = av.open(f"file:{path}", options=_OPTIONS, **_ANY_TITLE)
    except MemoryError:
        raise
    except av.FFmpegError as error:
        raise InputError(path, "open", _why_not_opened(path, error), decoder) from error
    with container:
        stream = _video_stream(container)
        if isinstance(stream, str):
            raise InputError(path, "open", stream, decoder)
        check_pixels(path, stream.width, stream.height, decoder)
        stream.thread_count = 1
        stream.codec_context.options = {"max_pixels": _OPTIONS["max_pixels"]}
        yield Source(path, container, stream, geometry)


def _why_not_opened(path: str, error: av.FFmpegError) -> str:
    log = _log_of_opening(path)
    kind = next((origin for origin, line in log if line.startswith("Format not on whitelist")), None)
    if kind in _SCRIPTS:
        return f"it is a script of the format {kind}, which names other files: give the videos themselves"
    if kind:
        return f"not a video of a format that is read here: FFmpeg takes it for {_long_name(kind)}"
    with open(path, "rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"wide", b"free"):
        return "the file is cut off or damaged: its index (moov), often written last, is missing"
    if isinstance(error, (av.InvalidDataError, av.EOFError)):
        return "its content is not a video that FFmpeg recognises"
    return _too_large(log) or f"FFmpeg cannot open it ({error.strerror})"


def why_no_frame(source: Source) -> str:
    """Why nothing of an open file can be decoded, as far as FFmpeg tells."""
    reason = f"no frame can be decoded ({source.damage.first or 'the data is damaged'})"
    return _too_large(_log_of_opening(source.path)) or reason


def _too_large(log: list[tuple[str, str]]) -> str | None:
    sizes = (re.match(r"Picture size (\d+)x(\d+) ", line) for _, line in log)
    return next(filter(None, (too_large(int(size[1]), int(size[2])) for size in sizes if size)), None)


def _log_of_opening(path: str) -> list[tuple[str, str]]:
    """Origin and text of the errors FFmpeg logs, which it tells in no other way, when it opens and probes a file."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as logs, suppress(av.FFmpegError):
            av.open(f"file:{path}", options=_OPTIONS, **_ANY_TITLE).close()
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
    return [(origin, line) for _, origin, line in logs]


def _long_name(kind: str) -> str:
    try:
        return av.ContainerFormat(kind.split(",")[0], "r").long_name or kind
    except ValueError:
        return kind


def _video_stream(container: InputContainer) -> VideoStream | str:
    """The stream a player shows, or why there is none."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        others = sorted({str(s.type) for s in container.streams if s.type != "video"})
        others += ["a cover picture"] if container.streams.video else []
        return f"no video stream, only {' and '.join(others)}" if others else "it holds no stream at all"
    best = container.streams.best("video")
    stream = next((s for s in videos if s is best), videos[0])
    return stream if stream.codec_context else "this build of FFmpeg has no decoder for its video codec"


# --- the timeline ---


def as_fraction(number: Any) -> Fraction | None:
    """FFmpeg's rational, None where it is unknown; PyAV 19 has a class of its own for it."""
    return Fraction(number.numerator, number.denominator) if number else None


def scan(source: Source) -> Timeline:
    """Read every packet's times. No decoding: about 0.1 s for ten minutes of video."""
    stream, packets = source.stream, _Packets(source.packets())
    if packets.is_discard.all():
        raise InputError(source.path, "decode", "it holds no video data", NAME)
    reorders = bool(stream.codec_context.has_b_frames)
    guessed = reorders and source.kind in _NO_PRESENTATION_TIMES
    if not guessed and packets.all_have(packets.pts):
        return _timeline(source, packets.pts, packets, trusted=True)
    if packets.all_have(packets.dts):
        return _timeline(source, packets.dts, packets, trusted=False)
    rate = as_fraction(stream.average_rate) or as_fraction(stream.guessed_rate) or Fraction(25)
    starts = np.arange(len(packets.pts), dtype=np.int64)
    return Timeline(starts, starts[:1], len(starts), 1 / rate, trusted=False, nominal=True)


def _timeline(source: Source, times: NDArray[np.int64], packets: _Packets, trusted: bool) -> Timeline:
    unit = as_fraction(source.stream.time_base) or Fraction(1, 90000)
    # An edit list puts what is cut off the start before time 0: a player does not show it.
    edited = "mp4" in source.kind and times.max() >= 0
    shown = ~packets.is_discard & ((times >= 0) | (not edited))
    if not shown.any():
        raise InputError(source.path, "decode", "its edit list shows no frame at all", NAME)
    starts, keys = np.unique(times[shown]), np.unique(times[packets.is_key])
    usual = int(np.median(np.diff(starts))) if len(starts) > 1 else 0
    rate = as_fraction(source.stream.average_rate)
    length = int(packets.lengths[shown & (times == starts[-1])][-1])
    last = length or usual or (round(1 / (rate * unit)) if rate else 1)
    return Timeline(starts, keys, int(starts[-1]) + max(last, 1), unit, trusted, claimed=_claimed(source))


def _claimed(source: Source) -> float | None:
    """When the stream ends by the file's own index or header, where that can be relied upon."""
    stream, container, unit = source.stream, source.container, as_fraction(source.stream.time_base)
    if "mp4" in source.kind and unit:
        entries = list(stream.index_entries)
        size = os.path.getsize(source.path)
        if all(entry.pos + entry.size <= size for entry in entries):
            return None  # every frame of the index lies in the file
        times = sorted(entry.timestamp for entry in entries)
        return float((times[-1] + (times[-1] - times[0]) / max(len(times) - 1, 1)) * unit)
    if source.kind == "avi" and stream.frames and unit:
        return float(stream.frames * unit)
    if "matroska" in source.kind or source.kind == "flv":
        clock = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", ""))
        if clock:
            return int(clock[1]) * 3600 + int(clock[2]) * 60 + float(clock[3])
        if len(container.streams) == 1 and container.duration:
            return container.duration / av.time_base
    return None


# --- the frames ---


def upright_by(frame: av.VideoFrame) -> int:
    """Counterclockwise degrees that turn a frame upright, a multiple of 90."""
    return round(frame.rotation / 90) * 90 % 360


Timed = tuple[int, av.VideoFrame]  # a frame and when it is shown, in units of its timeline


def in_order(source: Source, line: Timeline) -> Iterator[Timed]:
    """All frames from where the source stands, with the times they are shown at, which always grow.

    It stands at its beginning unless the line is trusted.
    """
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
