"""Makers of small videos whose every frame carries its own number, so that a test knows which frame it got.

A frame is a 4 x 4 grid of black and white blocks: twelve bits of number and four of checksum. It survives
compression and squashing to any square, and reads as -1 when it is mirrored, turned or damaged.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

SIZE = (160, 128)
FRAMES = 53  # odd, so that instants spread evenly over the video never fall on the start of a frame
RATE = 25


@dataclass(frozen=True)
class Clip:
    """A video and the truth about it: frame number codes[i] is on the screen from starts[i], the last until end."""

    path: Path
    starts: tuple[float, ...]
    codes: tuple[int, ...]
    end: float

    def shown(self, instant: float) -> int:
        """Number of the frame on the screen at an instant, found by walking through them."""
        code = self.codes[0]
        for start, number in zip(self.starts, self.codes, strict=True):
            if start <= instant + 1e-6:
                code = number
        return code


def coded_image(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 [height, width, 3] that carries a number below 4096."""
    bits = number << 4 | _checksum(number)
    grid = np.array([(bits >> i & 1) * 255 for i in range(16)], np.uint8).reshape(4, 4)
    rows = np.arange(size[1]) * 4 // size[1]
    columns = np.arange(size[0]) * 4 // size[0]
    return np.repeat(grid[rows][:, columns][..., None], 3, axis=2)


def read_code(frame: np.ndarray) -> int:
    """The number in a frame uint8 [H, W, 3] of any size, or -1 where there is none."""
    height, width = frame.shape[0] // 4, frame.shape[1] // 4
    bits = 0
    for i in range(16):
        top, left = i // 4 * height, i % 4 * width
        # The middle of the block: compression smears the edges.
        block = frame[top + height // 4 : top + height * 3 // 4, left + width // 4 : left + width * 3 // 4]
        bits |= int(block.mean() > 127) << i
    number, check = bits >> 4, bits & 15
    return number if check == _checksum(number) else -1


def _checksum(number: int) -> int:
    return (number + (number >> 4) * 3 + (number >> 8) * 7 + 5) % 16


@contextmanager
def _quiet_encoders():
    """SVT-AV1 talks on stderr unless the environment says otherwise."""
    before = os.environ.get("SVT_LOG")
    os.environ["SVT_LOG"] = "0"
    try:
        yield
    finally:
        os.environ.pop("SVT_LOG") if before is None else os.environ.update(SVT_LOG=before)


def write_video(
    path: Path,
    codec: str = "libx264",
    *,
    frames: int = FRAMES,
    first: int = 0,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
    gop: int = 12,
    b_frames: int | None = None,
    pix_fmt: str = "yuv420p",
    turned: int = 0,
    aspect: Fraction | None = None,
    start: float = 0.0,
    options: dict[str, str] | None = None,
    container: str | None = None,
    container_options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> Clip:
    """Write `frames` coded frames numbered from `first`.

    Args:
        path: its suffix chooses the container unless `container` does.
        codec: FFmpeg's name of the encoder.
        times: seconds at which the frames start, for a variable rate; else RATE frames per second.
        turned: quarter turns counterclockwise at which the frames are stored.
        aspect: sample aspect ratio.
        start: seconds added to every timestamp in the file.
    """
    seconds = list(times) if times is not None else [i / RATE for i in range(frames)]
    unit = Fraction(1, RATE) if times is None and not start else Fraction(1, 1000)
    with (
        _quiet_encoders(),
        av.open(str(path), "w", format=container, container_options=container_options or {}) as out,
    ):
        out.metadata.update(metadata or {})
        stream = out.add_stream(codec, rate=RATE, options=options or {})
        stored = np.rot90(coded_image(0, size), turned)
        stream.width, stream.height = stored.shape[1], stored.shape[0]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.time_base = unit
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for i, second in enumerate(seconds):
            image = np.ascontiguousarray(np.rot90(coded_image(first + i, size), turned))
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round((second + start) / unit), unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    codes = tuple(range(first, first + len(seconds)))
    return Clip(path, tuple(seconds), codes, seconds[-1] + 1 / RATE)


# --- properties that an encoder does not give: patched into the file ---


def _patch(path: Path, box: bytes, offset: int, data: bytes) -> None:
    """Overwrite bytes of the first mp4 box of a type, `offset` counted from the type's own four letters."""
    content = bytearray(path.read_bytes())
    at = content.index(box) + offset
    content[at : at + len(data)] = data
    path.write_bytes(content)


def turn_display(path: Path, clockwise: int) -> None:
    """Set the display matrix of an mp4: a player turns the picture clockwise by a multiple of 90 degrees."""
    a, b = {0: (1, 0), 90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = [a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30]
    _patch(path, b"tkhd", 44, struct.pack(">9i", *matrix))


def rotated(path: Path, clockwise: int, **how: object) -> Clip:
    """An mp4 stored lying, with the display matrix that makes it upright."""
    clip = write_video(path, turned=clockwise // 90, **how)
    turn_display(path, clockwise)
    return clip


def edit_list(path: Path, cut: int) -> Clip:
    """An mp4 whose edit list cuts the first `cut` frames, not at a key frame."""
    clip = write_video(path, b_frames=2)
    content = path.read_bytes()
    at = content.index(b"elst")
    count, length, media_time = struct.unpack(">Iii", content[at + 8 : at + 20])
    assert count == 1
    timescale_at = content.index(b"mdhd") + 16
    (timescale,) = struct.unpack(">I", content[timescale_at : timescale_at + 4])
    seconds = Fraction(cut, RATE)
    entry = struct.pack(">ii", length - round(seconds * 1000), media_time + round(seconds * timescale))
    _patch(path, b"elst", 12 - 4 + 4, entry)
    starts = tuple(s - cut / RATE for s in clip.starts[cut:])
    return Clip(path, starts, clip.codes[cut:], clip.end - cut / RATE)


def truncated(path: Path, share: float, **how: object) -> Clip:
    """The first part of a file whose index, if it is an mp4, is written first. The truth is the whole clip's."""
    faststart = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    clip = write_video(path, container_options=faststart, **how)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return clip


def corrupted(path: Path, begin: float = 0.45, end: float = 0.6, **how: object) -> Clip:
    """A file with noise written over a part of its data, given as shares of the file's size."""
    clip = write_video(path, **how)
    content = bytearray(path.read_bytes())
    low, high = int(len(content) * begin), int(len(content) * end)
    content[low:high] = np.random.default_rng(0).bytes(high - low)
    path.write_bytes(content)
    return clip


def changing_size(path: Path) -> Clip:
    """An MPEG-TS recording whose picture size changes half way."""
    half = FRAMES // 2  # no B-frames: the muxer would delay the first part for them, and not the second
    one = write_video(path.with_suffix(".1.ts"), frames=half, b_frames=0)
    two = write_video(
        path.with_suffix(".2.ts"), frames=FRAMES - half, first=half, size=(240, 192), start=half / RATE, b_frames=0
    )
    path.write_bytes(one.path.read_bytes() + two.path.read_bytes())
    starts = tuple(i / RATE for i in range(FRAMES))
    return Clip(path, starts, one.codes + two.codes, FRAMES / RATE)


def packed_b_frames(path: Path) -> Clip:
    """An AVI as old DivX and Xvid encoders wrote it: each B-frame in one packet with the frame after it."""
    plain = path.with_suffix(".plain.avi")
    clip = write_video(plain, "mpeg4", b_frames=1, options={"sc_threshold": "1000000000", "b_strategy": "0"})
    with av.open(str(plain)) as source, av.open(str(path), "w") as out:
        stream = source.streams.video[0]
        packets = [bytes(p) for p in source.demux(stream) if p.size]
        copy = out.add_stream_from_template(stream)
        for number, data in enumerate(_packed(packets)):
            packet = av.Packet(data)
            packet.stream, packet.time_base = copy, Fraction(1, RATE)
            packet.dts = packet.pts = number
            packet.is_keyframe = number == 0
            out.mux(packet)
    return Clip(path, clip.starts, clip.codes, clip.end)


def _packed(packets: list[bytes]) -> list[bytes]:
    """I P B P B ... in decoding order becomes I, P + B, "not coded", P + B, "not coded", ..."""
    vop = b"\x00\x00\x01\xb6"
    kinds = ["IPBS"[data[data.index(vop) + 4] >> 6] for data in packets]
    # P picture, no seconds passed, marker, five bits of time, marker, not coded, stuffing.
    not_coded = vop + bytes([0b01_0_1_0000, 0b0_1_0_11111])
    out: list[bytes] = []
    for data, kind in zip(packets, kinds, strict=True):
        if kind == "B":
            out[-1] += data
            out.append(not_coded)
        else:
            out.append(data)
    head = out[0].index(vop)
    out[0] = out[0][:head] + b"\x00\x00\x01\xb2DivX503b1393p" + out[0][head:]
    return out


# --- what is not a video ---


def audio_only(path: Path, picture: bool = False) -> Path:
    """One second of silence, with a cover picture or without."""
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=16000, layout="mono")
        if picture:
            cover = out.add_stream("mjpeg", rate=1)
            cover.width, cover.height = SIZE
            cover.pix_fmt = "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(coded_image(1), format="rgb24")
            out.mux(cover.encode(image))
            out.mux(cover.encode(None))
        for i in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, i * 1000
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


# --- images ---


def animation(path: Path, milliseconds: Sequence[int] = (100, 200, 50, 20, 400, 30, 130)) -> Clip:
    """A GIF, WebP or PNG animation with a length for each frame."""
    images = [Image.fromarray(coded_image(i)) for i in range(len(milliseconds))]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    lengths = list(milliseconds)
    images[0].save(path, save_all=True, append_images=images[1:], duration=lengths, loop=0, **lossless)
    ends = np.cumsum(lengths) / 1000
    return Clip(path, (0.0, *ends[:-1].tolist()), tuple(range(len(images))), float(ends[-1]))


def folder(path: Path, frames: int = FRAMES, suffix: str = ".jpg") -> Clip:
    """Images img0, img1, ... img10, ...: in natural order only if numbers are read as numbers."""
    path.mkdir()
    for i in range(frames):
        Image.fromarray(coded_image(i)).save(path / f"img{i}{suffix}")
    return Clip(path, tuple(i / RATE for i in range(frames)), tuple(range(frames)), frames / RATE)
