"""Small files that claim much, run programs or name other files: what a folder from a stranger may hold.

Each function of `MAKERS` writes one input (a file or a folder of frames) and needs little memory itself. None of
them is a video anybody can watch: each must fail, or be read as far as it goes, within the limits of a decode process.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

__all__ = ["MAKERS", "SECRET", "make_bombs"]

SECRET = "must-not-be-opened"  # in the name of every file that a script names
Maker = Callable[[Path], None]


def make_bombs(folder: Path, url: str) -> list[Path]:
    """Write every bomb, and, in a folder of their own below, the files that scripts name, which nobody may open.

    Args:
        folder: exists.
        url: of a place that must never be asked, without a final slash.

    Returns:
        The bombs.
    """
    secrets = folder / "elsewhere"
    secrets.mkdir(exist_ok=True)
    for name, make in MAKERS.items():
        make(folder / name)
    for name, container in (("a.mp4", "mp4"), ("a.ts", "mpegts"), ("a.xml", "mp4"), ("a.mov", "mov")):
        _video(secrets / f"{SECRET}-{name}", container, codec="mpeg4")
    for name, content in _scripts(secrets, url):
        (folder / name).write_text(content)
    _with_external_track(folder / "dref.mov", secrets / f"{SECRET}-a.mov")
    return sorted(path for path in folder.iterdir() if path != secrets)


# --- pictures ---


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _compressed(size: int) -> bytes:
    """`size` zeros, compressed piece by piece."""
    packer, piece = zlib.compressobj(1), bytes(2**20)
    whole, rest = divmod(size, len(piece))
    return b"".join([*(packer.compress(piece) for _ in range(whole)), packer.compress(bytes(rest)), packer.flush()])


def png(width: int, height: int, depth: int = 8, colours: int = 6, frames: int = 1) -> bytes:
    """A black PNG, animated where there are several frames; `colours` 0 is grey, 2 RGB, 6 RGB with alpha."""
    bits = depth * {0: 1, 2: 3, 6: 4}[colours]
    data = _compressed(height * (1 + (width * bits + 7) // 8))
    out = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    if frames == 1:
        return out + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")
    out += _chunk(b"acTL", struct.pack(">II", frames, 0))
    for i in range(frames):
        number = max(0, 2 * i - 1)
        out += _chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))
        out += _chunk(b"fdAT", struct.pack(">I", number + 1) + data) if i else _chunk(b"IDAT", data)
    return out + _chunk(b"IEND", b"")


def gif(width: int, height: int, frames: list[tuple[int, int]], disposal: int = 0) -> bytes:
    """A GIF whose frames have sizes of their own, each with one pixel of data."""
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    for frame in frames:
        out += b"\x21\xf9\x04" + struct.pack("<BHB", disposal << 2, 10, 0) + b"\0"
        out += b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\0"
    return out + b"\x3b"


def _webp_chunk() -> bytes:
    """The VP8L chunk of a picture of one pixel."""
    out = io.BytesIO()
    Image.new("RGB", (1, 1)).save(out, "WEBP", lossless=True)
    content = out.getvalue()
    return content[content.index(b"VP8L") :]


def _riff(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def webp_animation(width: int, height: int, frames: int = 2) -> bytes:
    """An animated WebP with a large canvas and frames of one pixel."""
    sides = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    extended = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + sides
    data = bytes(12) + b"\x64\0\0\0" + _webp_chunk()
    frame = b"ANMF" + struct.pack("<I", len(data)) + data
    return _riff(extended + b"ANIM" + struct.pack("<IIH", 6, 0, 0) + frame * frames)


def webp_still(width: int, height: int) -> bytes:
    """A lossless WebP that claims a size its data does not have."""
    chunk = bytearray(_webp_chunk())
    bits = int.from_bytes(chunk[9:13], "little") & 0xF0000000
    chunk[9:13] = struct.pack("<I", bits | (height - 1) << 14 | (width - 1))
    return _riff(bytes(chunk))


def jpeg(width: int, height: int, progressive: bool = False) -> bytes:
    """A JPEG that claims a size its data does not have."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", progressive=progressive)
    content = bytearray(out.getvalue())
    at = content.index(b"\xff\xc2" if progressive else b"\xff\xc0")
    content[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def bmp(width: int, height: int) -> bytes:
    """A BMP of one bit a pixel with no data."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 1, 0, 0, 0, 0, 2, 2)
    return b"BM" + struct.pack("<IHHI", 62, 0, 0, 62) + header + b"\0\0\0\0\xff\xff\xff\0"


def _eps() -> bytes:
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n0 0 64 64 rectfill\nshowpage\n%%EOF\n"


def _file(content: Callable[..., bytes], *arguments: object, **how: object) -> Maker:
    return lambda path: path.write_bytes(content(*arguments, **how)) and None


def _folder(suffix: str, content: Callable[..., bytes], *arguments: object, **how: object) -> Maker:
    def make(path: Path) -> None:
        path.mkdir()
        for i in range(2):
            (path / f"{i}{suffix}").write_bytes(content(*arguments, **how))

    return make


# --- videos ---


def _video(path: Path, container: str | None = None, aspect: Fraction | None = None, codec: str = "mpeg2video") -> None:
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for _ in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 99, np.uint8), format="rgb24")))
        out.mux(stream.encode(None))


def _png_video(width: int, height: int, colours: int = 2) -> Maker:
    """A QuickTime file whose header claims a small size; its frames are the same PNG twice."""

    def make(path: Path) -> None:
        data = png(width, height, colours=colours)
        with av.open(str(path), "w") as out:
            stream = out.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 64, "rgb24"
            for i in range(2):
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 25), i, i
                packet.is_keyframe = True
                out.mux(packet)

    return make


def _jpeg_video(width: int, height: int) -> Maker:
    """An AVI whose header and frames claim a size that the data does not have."""

    def make(path: Path) -> None:
        _video(path, codec="mjpeg")
        content = path.read_bytes().replace(struct.pack("<II", 64, 64), struct.pack("<II", width, height))
        small, large = struct.pack(">BHH", 8, 64, 64), struct.pack(">BHH", 8, height, width)
        path.write_bytes(content.replace(small, large))

    return make


def _huge_index(path: Path) -> None:
    """An mp4 that claims two thousand million frames of one size."""
    _video(path, codec="mpeg4")
    content = bytearray(path.read_bytes())
    at = content.index(b"stsz") + 8
    content[at : at + 8] = struct.pack(">II", 1, 2**31 - 1)
    stts = content.index(b"stts") + 12
    content[stts : stts + 4] = struct.pack(">I", 2**31 - 1)
    path.write_bytes(content)


def _y4m(width: int, height: int) -> bytes:
    return f"YUV4MPEG2 W{width} H{height} F25:1 C420jpeg\nFRAME\n".encode() + bytes(1000)


MAKERS: dict[str, Maker] = {
    "thin_5000.gif": _file(gif, 5000, 1, [(1, 1)] * 2),
    "thin_30000.gif": _file(gif, 30000, 1, [(1, 1)] * 2),
    "wide_screen.gif": _file(gif, 65535, 65535, [(1, 1)] * 2),
    "growing.gif": _file(gif, 1, 1, [(1, 1), (13000, 13000)], disposal=2),
    "many_frames.gif": _file(gif, 1, 1, [(1, 1)] * 5000),
    "thin.png": _file(png, 100_000, 1, frames=2),
    "thin_tall.apng": _file(png, 1, 100_000, frames=2),
    "large.png": _file(png, 13_000, 13_000, depth=1, colours=0, frames=2),
    "largest_allowed.apng": _file(png, 5_900, 5_900, frames=3),
    "large.webp": _file(webp_animation, 12_000, 12_000),
    "largest_allowed.webp": _file(webp_animation, 5_900, 5_900),
    "large_claim.webp": _file(webp_still, 16_383, 16_383),
    "eps.gif": _file(_eps),
    "folder_thin": _folder(".png", png, 100_000, 1),
    "folder_tall": _folder(".png", png, 1, 100_000),
    "folder_eps": _folder(".png", _eps),
    "folder_large_png": _folder(".png", png, 13_000, 13_000, depth=1, colours=0),
    "folder_largest_allowed_png": _folder(".png", png, 5_900, 5_900),
    "folder_large_webp": _folder(".webp", webp_still, 16_383, 16_383),
    "folder_photo": _folder(".jpg", jpeg, 9_900, 9_900),
    "folder_progressive_photo": _folder(".jpg", jpeg, 9_900, 9_900, progressive=True),
    "folder_large_jpeg": _folder(".jpg", jpeg, 65_500, 65_500),
    "folder_large_bmp": _folder(".bmp", bmp, 30_000, 30_000),
    "side_16384.mov": _png_video(16_384, 16_384, colours=0),
    "side_16000.mov": _png_video(16_000, 16_000),
    "side_16000.avi": _jpeg_video(16_000, 16_000),
    "side_16384.avi": _jpeg_video(16_384, 16_384),
    "side_16384.y4m": _file(_y4m, 16_384, 16_384),
    "largest_allowed.mov": _png_video(5_900, 5_900),
    "thin.mov": _png_video(30_000, 2),
    "tall.mov": _png_video(2, 30_000),
    "thin_pixels.mkv": lambda path: _video(path, aspect=Fraction(65_535, 1), codec="mpeg4"),
    "huge_index.mp4": _huge_index,
}


# --- what names other files ---


def _scripts(secrets: Path, url: str) -> Iterator[tuple[str, str]]:
    """Scripts that FFmpeg can read, under their own names and as videos; each names a local file or the network."""
    local = f"{secrets}/{SECRET}-a"
    for suffix in (".mp4", ".ffconcat"):
        yield f"concat{suffix}", f"ffconcat version 1.0\nfile '{secrets.name}/{SECRET}-a.mp4'\n"
    for suffix in (".m3u8", ".mp4", ".ts"):
        for name, target in (("local", f"{local}.ts"), ("network", f"{url}/a.ts")):
            head = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\n"
            yield f"hls_{name}{suffix}", f"{head}{target}\n#EXT-X-ENDLIST\n"
    for suffix in (".mpd", ".mp4"):
        yield f"dash{suffix}", (
            '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" mediaPresentationDuration="PT1S"><Period>'
            '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000" width="64" height="64">'
            f"<BaseURL>{local}.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>\n"
        )
    yield "imf.mp4", (
        '<?xml version="1.0"?>\n<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
        f"<Id>urn:uuid:0</Id><Annotation>{local}.xml</Annotation></CompositionPlaylist>\n"
    )
    yield "sdp.mp4", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    yield "vobsub.mp4", "# VobSub index file, v7 (do not modify this line!)\n\nsize: 64x64\nid: en, index: 0\n"


def _with_external_track(path: Path, target: Path) -> None:
    """A QuickTime file whose data reference is an alias of another file, as old editors wrote it."""
    _video(path, codec="mpeg4")
    name = f"{target}".encode()
    record = bytes(10) + bytes(28) + bytes(12) + bytes([len(target.name)]) + target.name.encode().ljust(63, b"\0")
    record += bytes(16) + struct.pack(">hh", 1, 2) + bytes(16)  # from this folder, the last two names
    record += struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2) + b"\xff\xff\0\0"
    alias = struct.pack(">I4sI", len(record) + 12, b"alis", 0) + record
    content = bytearray(path.read_bytes())
    at = content.index(b"dref") + 12
    old = int.from_bytes(content[at : at + 4], "big")
    content[at : at + old] = alias
    for box in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        start = content.index(box) - 4
        size = int.from_bytes(content[start : start + 4], "big") + len(alias) - old
        content[start : start + 4] = size.to_bytes(4, "big")
    path.write_bytes(content)
