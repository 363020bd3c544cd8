"""The sound of a piece of a video: its packets, or its samples encoded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import numpy as np
from av.container import OutputContainer
from numpy.typing import NDArray

from zsar_cli.video.pyav_source import Source, as_fraction

__all__ = ["add_sound", "encode_sound", "sound_from", "sound_of"]

_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)  # that AAC knows
_OTHERWISE = 48000
_BEFORE = Fraction(1)  # seconds that a decoder is given to find its way
_JITTER = 0.05  # seconds: containers round times; only what is further off is a gap


def sound_of(source: Source) -> Source | None:
    """The same open file, its main stream of sound in place of the pictures; None where it has none."""
    stream: Any = source.container.streams.best("audio")
    return None if stream is None else replace(source, stream=stream)


def sound_from(source: Source, begin: Fraction) -> Iterator[Any]:
    """The packets of sound from some time before `begin` on, in seconds on the file's clock."""
    unit = as_fraction(source.stream.time_base) or Fraction(1)
    for at in (begin - _BEFORE, Fraction(source.stream.start_time or 0) * unit):
        source.seek(int(at / unit))
        packets: Iterator[Any] = source.packets()
        head = next((packet for packet in packets if packet.size and packet.pts is not None), None)
        if head is not None and head.pts * unit <= begin:
            break
    if head is not None:
        yield from chain([head], packets)


def add_sound(out: OutputContainer, sound: Source) -> Any:
    """A stream of AAC, mono or stereo, at the rate of the sound where AAC knows it."""
    context: Any = sound.stream.codec_context
    rate = context.sample_rate if context.sample_rate in _RATES else _OTHERWISE
    return out.add_stream("aac", rate=rate, layout="mono" if context.layout.nb_channels == 1 else "stereo")


def encode_sound(
    stream: Any, sound: Source, begin: Fraction, end: Fraction, alive: Callable[[], None]
) -> Iterator[Any]:
    """The packets of the sound between two times on the file's clock, silent where there is none."""
    context = stream.codec_context
    rate, layout, at = context.sample_rate, context.layout.name, 0
    for block in _samples(sound, begin, round((end - begin) * rate), rate, layout, alive):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        at += block.shape[1]
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _samples(
    sound: Source, begin: Fraction, total: int, rate: int, layout: str, alive: Callable[[], None]
) -> Iterator[NDArray[np.float32]]:
    """Blocks [C, n] of samples, `total` together, without a gap."""
    written, channels = 0, 1 if layout == "mono" else 2

    def silence(until: int) -> Iterator[NDArray[np.float32]]:
        for start in range(written, until, rate):
            yield np.zeros((channels, min(rate, until - start)), np.float32)

    for time, block in _resampled(sound, begin, rate, layout, alive):
        if written >= total:
            return
        gap = round((time - begin) * rate) - written
        if not written or abs(gap) > _JITTER * rate:
            yield from silence(min(written + gap, total))
            written = max(written, min(written + gap, total))
            block = block[:, max(-gap, 0) :]
        block = block[:, : total - written]
        if block.shape[1]:
            yield block
            written += block.shape[1]
    yield from silence(total)


def _resampled(
    sound: Source, begin: Fraction, rate: int, layout: str, alive: Callable[[], None]
) -> Iterator[tuple[Fraction, NDArray[np.float32]]]:
    """Samples [C, n] and the time of the first; a broadcast may change its kind of sound on the way."""
    kind, resampler = None, None
    for packet in sound_from(sound, begin):
        alive()
        frame: Any
        for frame in sound.decode(packet):
            if frame.pts is None:
                continue
            if resampler is None or kind != (frame.format.name, frame.layout.name, frame.sample_rate):
                kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
            made: Any
            for made in resampler.resample(frame):
                yield made.pts * Fraction(made.time_base), made.to_ndarray()
