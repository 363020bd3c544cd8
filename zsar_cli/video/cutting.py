"""A piece of a video as a file of its own: encoded anew, exactly, or its packets copied from a key frame on.

Times are those of the reader: seconds from the first frame that is shown, by the same timeline.
"""

from __future__ import annotations

import errno
import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from itertools import chain, dropwhile, takewhile
from typing import Any

import av
import numpy as np
from av.container import OutputContainer

from zsar_cli.errors import InputError, OutputError
from zsar_cli.video.exact_cut import add_pictures, encode_pictures, frames_between
from zsar_cli.video.pyav_source import (
    ANY_SHAPE,
    NAME,
    Damage,
    Source,
    Timeline,
    as_fraction,
    in_order,
    open_source,
    scan,
    why_no_frame,
)
from zsar_cli.video.reader import is_images
from zsar_cli.video.sound import add_sound, encode_sound, sound_from, sound_of
from zsar_cli.video.types import Made, Piece

__all__ = ["cut"]

Alive = Callable[[], None]  # called again and again while there is progress

# Of a disk or folder, not of a video: no other piece could be written either.
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EACCES, errno.EPERM)
_FIT_MP4 = frozenset(
    {"h264", "hevc", "av1", "vp9", "mpeg4"} | {"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"}
)  # by what players take
_SUFFIXES = {"mp4": ".mp4", "matroska": ".mkv"}


def cut(piece: Piece, alive: Alive = lambda: None) -> Made:
    """Write a piece to its target, which is of no use where this fails.

    Raises:
        InputError: the video cannot be used, or has nothing there.
        OutputError: the target cannot be written, and others could not either.
    """
    line = _timeline(piece.path)
    if piece.start >= line.duration or piece.end <= 0:
        span = f"{piece.start:g} s to {piece.end:g} s"
        raise InputError(piece.path, "cut", f"{span} is outside of the video, which lasts {line.duration:.2f} s")
    begin, end = _borders(piece, line)
    try:
        return (_copied if piece.copy else _encoded)(piece, line, begin, end, alive)
    except av.FFmpegError as error:  # errors of reading have been taken care of
        reason = error.strerror or str(error)
        if error.errno in _FATAL:
            raise OutputError(f"{piece.target}: cannot be written: {reason}") from error
        hint = ": cut it exactly, without --copy" if piece.copy else ""
        raise InputError(piece.path, "cut", f"FFmpeg cannot write the piece ({reason}){hint}", NAME) from error


@lru_cache(maxsize=1)  # one piece follows another of the same video
def _timeline(path: str) -> Timeline:
    if is_images(path):
        raise InputError(path, "cut", "an animated image or a folder of images: only videos can be cut")
    with open_source(path, ANY_SHAPE) as source:
        line = scan(source)
    if not line.trusted or not len(line.keys) or line.keys[0] <= line.starts[0]:
        return line
    # A recording that was cut open: nobody may be able to show the frames before its first key frame.
    with open_source(path, ANY_SHAPE) as source:
        first = next(in_order(source, line), None)
        if first is None:
            raise InputError(path, "decode", why_no_frame(source), NAME)
        return line if source.damage.errors else replace(line, starts=line.starts[line.starts >= first[0]])


def _borders(piece: Piece, line: Timeline) -> tuple[int, int]:
    """Where the piece begins and ends, in units of the timeline.

    A border within half a frame of a change of frames is moved there, so that a constant rate stays constant; within a
    frame that is shown for long it stays where it is.
    """
    changes = np.append(line.starts, line.end)

    def at(seconds: float) -> int:
        exact = int(line.starts[0]) + round(min(max(seconds, 0.0), line.duration) / float(line.unit))
        near = int(changes[np.abs(changes - exact).argmin()])
        return near if 2 * abs(near - exact) <= line.usual else exact

    begin = min(at(piece.start), int(line.starts[-1]))
    following = int(changes[np.searchsorted(changes, begin, side="right")])
    end = at(piece.end)
    return begin, end if end > begin else following


@contextmanager
def _target(piece: Piece, kind: str) -> Iterator[OutputContainer]:
    # The index first, so that a browser plays before everything is there.
    options = {"movflags": "+faststart"} if kind == "mp4" else {}
    with av.open(f"file:{piece.target}", "w", format=kind, container_options=options) as out:
        yield out


def _mux(out: OutputContainer, *streams: Iterator[Any]) -> None:
    """Write packets of several streams by time, as a player wants to find them."""
    out.start_encoding()
    for packet in heapq.merge(*streams, key=_time):
        out.mux(packet)


def _to_the_end(packets: Iterator[Any], end: Callable[[], int]) -> Iterator[Any]:
    """The packets, the last of them so long that the stream lasts until `end`, which is known by then."""
    last = None
    for packet in packets:
        if last is not None:
            yield last
        last = packet
    if last is not None:
        last.duration = max(end() - last.dts, 1)
        yield last


def _time(packet: Any) -> Fraction:
    ticks = packet.pts if packet.dts is None else packet.dts
    return (ticks or 0) * (as_fraction(packet.time_base) or Fraction(1))


def _damage(damage: Damage, what: str) -> list[str]:
    places = f"{damage.errors} damaged place{'s' * (damage.errors > 1)}"
    return [f"{places} in {what} ({damage.first})"] if damage.errors else []


# --- encoded anew ---


def _encoded(piece: Piece, line: Timeline, begin: int, end: int, alive: Alive) -> Made:
    shown = frames_between(piece.path, line, begin, end, alive)
    first = next(shown)
    source, (_, frame) = first
    notes = []
    with open_source(piece.path, ANY_SHAPE) as other, _target(piece, "mp4") as out:
        pictures = add_pictures(out, source, frame, line)
        streams = [_to_the_end(encode_pictures(pictures, chain([first], shown), begin), lambda: end - begin)]
        sound = None if line.nominal else sound_of(other)
        if sound is not None and not sound.stream.codec_context:
            notes.append("without its sound: this build of FFmpeg has no decoder for it")
            sound = None
        if sound is not None:
            clock = begin * line.unit, end * line.unit
            streams.append(encode_sound(add_sound(out, sound), sound, *clock, alive))
        _mux(out, *streams)
    notes += _damage(source.damage, "the pictures") + (_damage(sound.damage, "the sound") if sound else [])
    return Made(line.since(begin), line.since(end), ".mp4", tuple(notes))


# --- copied ---


def _copied(piece: Piece, line: Timeline, begin: int, end: int, alive: Alive) -> Made:
    key = line.key_before(line.shown_at(begin))
    if key is None:
        reason = "no key frame comes before it" if line.trusted else "it does not store when frames are shown"
        raise InputError(piece.path, "cut", f"{reason}: cut it exactly, without --copy")
    ends: list[int] = []
    with _from_key_frame(piece.path, line, key) as (source, packets), open_source(piece.path, ANY_SHAPE) as other:
        sound = sound_of(other)
        fits = all(_codec(one.stream) in _FIT_MP4 for one in (source, sound) if one)
        kind = "mp4" if fits else "matroska"
        with _target(piece, kind) as out:
            # Opaque: what is copied needs no encoder.
            pictures = out.add_stream_from_template(source.stream, opaque=True)
            until = _shifted(_until(packets, key, end, ends, alive), pictures, key)
            streams = [_to_the_end(until, lambda: max(ends) - key)]
            if sound is not None:
                clock = key * line.unit, end * line.unit
                copied = out.add_stream_from_template(sound.stream, opaque=True)
                streams.append(_copied_sound(sound, copied, *clock))
            _mux(out, *streams)
    notes = _damage(source.damage, "the pictures") + (_damage(sound.damage, "the sound") if sound else [])
    return Made(line.since(key), line.since(max(ends)), _SUFFIXES[kind], tuple(notes))


def _codec(stream: Any) -> str:
    return stream.codec.canonical_name if stream.codec_context else "unknown"


@contextmanager
def _from_key_frame(path: str, line: Timeline, key: int) -> Iterator[tuple[Source, Iterator[Any]]]:
    """The packets of the pictures from a key frame on.

    Raises:
        InputError: it is not found.
    """
    for begin in line.starts_for(key):
        with open_source(path, ANY_SHAPE) as source:
            if begin is not None:
                source.seek(begin)
            packets = dropwhile(lambda packet: packet.pts != key, source.packets())
            head = next(packets, None)
            if head is not None and head.is_keyframe and not source.damage.errors:
                yield source, chain([head], packets)
                return
    raise InputError(path, "cut", f"its key frame at {line.since(key):.2f} s is not found: cut it exactly", NAME)


def _until(packets: Iterator[Any], key: int, end: int, ends: list[int], alive: Alive) -> Iterator[Any]:
    """Packets to the last of a frame that is shown before `end`, in the order of decoding.

    Args:
        ends: takes when each of their frames is no more shown.
    """
    held: list[Any] = []  # shown after the end, and needed only if a packet of a frame before it follows
    for packet in packets:
        alive()
        if not packet.size or packet.pts is None or packet.pts < key:
            continue  # it needs frames from before the key frame
        if packet.dts is not None and packet.dts >= end:
            return
        held.append(packet)
        if packet.pts < end:
            ends += [one.pts + (one.duration or 0) for one in held]
            yield from held
            held = []


def _copied_sound(sound: Source, stream: Any, begin: Fraction, end: Fraction) -> Iterator[Any]:
    unit = as_fraction(sound.stream.time_base) or Fraction(1)
    whole = (packet for packet in sound_from(sound, begin) if packet.size and packet.pts is not None)
    inside = takewhile(lambda packet: packet.pts * unit < end, dropwhile(lambda one: one.pts * unit < begin, whole))
    return _shifted(inside, stream, round(begin / unit))


def _shifted(packets: Iterator[Any], stream: Any, zero: int) -> Iterator[Any]:
    """The packets as those of another stream, whose time 0 is `zero` of theirs."""
    for packet in _with_dts(packets):
        packet.pts, packet.dts, packet.stream = packet.pts - zero, packet.dts - zero, stream
        yield packet


def _with_dts(packets: Iterator[Any]) -> Iterator[Any]:
    """Every packet with a time of decoding: Matroska stores none, and behind a seek the first cannot be told."""
    untimed: list[Any] = []
    for packet in packets:
        if packet.dts is None:
            untimed.append(packet)
            continue
        for back, early in enumerate(reversed(untimed), start=1):
            early.dts = packet.dts - back
        yield from untimed
        untimed = []
        yield packet
    for number, packet in enumerate(untimed):
        packet.dts = min(one.pts for one in untimed) - len(untimed) + number
    yield from untimed
