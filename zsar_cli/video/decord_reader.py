"""Reading with decord 0.6, for those who must match results that were made with it.

Its limits, each of them measured against decoding every frame: wrong frames without a word on MPEG-TS, edit
lists and open groups of pictures; no times, so refused here, for AVI with B-frames, MPEG-PS and raw streams; no
AV1; no saving of truncated files; the last frame's length unknown where the rate varies; times in
single precision; no wheels for macOS on Apple silicon nor Linux on Arm. Its users report that now and then it
hangs for ever, so call it in a process that can be killed. It cannot be told which formats to open: what PyAV refuses
(scripts that name other files, pictures that are too large) never reaches it, but its own FFmpeg, of 2019, takes the
format anew. For files from strangers choose PyAV, which has none of these limits.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from zsar_cli.errors import InputError, UsageError
from zsar_cli.video.assembly import by_frame, windows_of
from zsar_cli.video.geometry import shape_frame
from zsar_cli.video.pyav_source import Source, open_source
from zsar_cli.video.sampling import frames_shown, nearest, repeats, sample_times, spans
from zsar_cli.video.types import Geometry, Sampling, VideoFacts, Window, WindowBatch

__all__ = ["read"]

NAME = "decord"
_AT_A_TIME = 8  # full-size frames held at a time


def read(
    path: str, sampling: Sampling, geometry: Geometry, within: Window | None = None
) -> Iterator[WindowBatch | VideoFacts]:
    """Read the frames decord takes for those shown; see `zsar_cli.video.reader.read_windows`.

    PyAV opens the file first: it tells what decord does not (codec, container, rotation, shape of the pixels)
    and says plainly what is wrong with a file that is no video.

    Raises:
        InputError: not a video, or one that decord cannot read.
        UsageError: decord is not installed.
    """
    decord, failure = _import_decord()
    with open_source(path, geometry, decoder=NAME) as source:
        _shape_first_frame(source)
        reader = None
        try:
            reader = decord.VideoReader(f"file:{path}", ctx=decord.cpu(0), num_threads=1)
            yield from _read(source, reader, sampling, within, str(decord.__version__))
        except (RuntimeError, AssertionError, failure) as error:
            reason = f"decord cannot read it ({_first_line(error)}): try the decoder 'pyav'"
            raise InputError(path, "decode", reason, NAME) from error
        finally:
            del reader  # it holds decoded frames, and goes on decoding, for as long as it lives


def _import_decord() -> tuple[ModuleType, type[Exception]]:
    """The package and the error it raises, which has no public name."""
    try:
        import decord
        from decord._ffi.base import DECORDError
    except ImportError as error:
        raise UsageError(
            "decoder 'decord' is not installed here (it has no wheels for macOS on Apple silicon or Linux on "
            "Arm): install decord 0.6.0 where it has them, or choose the decoder 'pyav'"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord, DECORDError


def _first_line(error: BaseException) -> str:
    """What went wrong without the stack of C++ frames below it."""
    lines = str(error).strip().splitlines()
    return lines[0].split("] ", 1)[-1] if lines else type(error).__name__


def _shape_first_frame(source: Source) -> None:
    """Let PyAV decode one frame, which tells the rotation."""
    for packet in source.packets():
        for frame in source.decode(packet):
            source.shape(frame)
            return


def _read(
    source: Source, reader: Any, sampling: Sampling, within: Window | None, version: str
) -> Iterator[WindowBatch | VideoFacts]:
    intervals = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)
    starts = intervals[:, 0] - intervals[0, 0]
    duration = float(intervals[-1, 1] - intervals[0, 0])
    if not (np.isfinite(intervals).all() and (np.diff(starts) > 0).all() and 0 < duration < 1e9):
        raise RuntimeError("it gives no usable times for this file")
    wanted = sample_times(duration, sampling, within)
    notes: tuple[str, ...] = ()
    if sampling.exact:
        chosen = frames_shown(starts, wanted)
    else:
        keys = np.asarray(reader.get_key_indices(), dtype=np.int64)
        chosen = keys[nearest(starts[keys], wanted)]
        notes = (f"key frames: up to {np.abs(starts[chosen] - wanted).max():.1f} s from the instants asked for",)
    fetch = _Shaped(source, reader, np.unique(chosen))
    yield from windows_of(by_frame(chosen, fetch), spans(duration, sampling, within), sampling.frames)
    whole = sampling.window is None
    yield VideoFacts(
        path=source.path,
        info=source.info(duration, len(starts) / duration),
        sampling=sampling,
        decoder=NAME,
        decoder_version=version,
        times=tuple(starts[chosen].ravel().tolist()) if whole else (),
        notes=(*notes, *(repeats(starts[chosen]) if whole else ())),
    )


class _Shaped:
    """Frames by index, each uint8 [S, S, 3], asked for in order. decord gives them upright but with pixels as stored.

    Args:
        indices: int64, all that will be asked for, sorted.
    """

    def __init__(self, source: Source, reader: Any, indices: NDArray[np.int64]) -> None:
        self._source, self._reader, self._indices = source, reader, indices
        self._aspect = Fraction(1 / source.aspect if source.rotation % 180 else source.aspect)
        self._ready: dict[int, NDArray[np.uint8]] = {}

    def __call__(self, index: int) -> NDArray[np.uint8]:
        if index not in self._ready:
            first = int(np.searchsorted(self._indices, index))
            numbers = self._indices[first : first + _AT_A_TIME].tolist()
            images = self._reader.get_batch(numbers).asnumpy()
            self._ready = {number: self._shape(image) for number, image in zip(numbers, images, strict=True)}
        return self._ready[index]

    def _shape(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        return shape_frame(frame, self._source.geometry, self._aspect, 0)
