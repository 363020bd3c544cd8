"""The timeline of an MP4 from its own index, for those who want key frames alone: most of the file is not read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import av
import numpy as np
from av.video.stream import VideoStream

from zsar_cli.video.pyav_source import Source, Timeline, as_fraction

__all__ = ["scan_index"]

_REORDERED = 32  # packets; no codec shows a frame later than that many behind it


def scan_index(source: Source) -> Timeline | None:
    """As `pyav_source.scan`; None where the index does not tell it, and the file must be opened again and scanned.

    The index says when each packet is decoded, which are key frames and where they lie. When frames are shown stands in
    the packets: those at the beginning and the last group are read. Where the times they are shown at are the times of
    decoding, all moved by as much as the key frames are, this is taken to hold in between, as it does with a constant
    rate, or where frames are decoded in the order they are shown in. Who decodes a key frame sees its own time.
    """
    stream, unit = source.stream, as_fraction(source.stream.time_base)
    entries = list(stream.index_entries) if "mp4" in source.kind else []
    if not entries or len(entries) != stream.frames or unit is None:  # what is written in fragments has no such index
        return None
    size = os.path.getsize(source.path)
    if any(entry.is_discard or entry.pos + entry.size > size for entry in entries):
        return None
    decoded = np.array([entry.timestamp for entry in entries], dtype=np.int64)
    is_key = np.array([entry.is_keyframe for entry in entries])
    if is_key.sum() < 2 or not is_key[0] or (np.diff(decoded) <= 0).any():
        return None
    head = _rows(islice(source.packets(), _REORDERED))
    source.seek(int(decoded[is_key][-1]))
    tail = _rows(source.packets())
    if source.damage.errors or not head or not tail:
        return None
    move = head[0].pts - head[0].dts
    starts = decoded + move
    last = max(tail, key=lambda row: row.pts)
    agree = (
        starts[0] == max(0, min(row.pts for row in head))
        and all(row.pts - row.dts == move for row in (*head, *tail) if row.is_key)
        and sorted(row.pts for row in tail) == starts[len(starts) - len(tail) :].tolist()
    )
    if not agree or not last.duration:
        return None
    return Timeline(starts, starts[is_key], int(starts[-1]) + last.duration, unit, trusted=True)


class _Row(NamedTuple):
    """One packet's times, in the stream's unit."""

    pts: int
    dts: int
    duration: int
    is_key: bool


def _rows(packets: Iterable[av.Packet[VideoStream]]) -> list[_Row]:
    """Of the packets that have data; none where one has no time."""
    rows = []
    for packet in packets:
        if packet.pts is not None and packet.dts is not None:
            rows.append(_Row(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
        elif packet.size:
            return []
    return rows
