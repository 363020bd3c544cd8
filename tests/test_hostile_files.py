"""Files that claim too much, run programs or name other files: each fails with its reason, and nothing else happens."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import av
import numpy as np
import pytest
import videos
from PIL import Image
from videos import read_code

from zsar_cli.errors import InputError
from zsar_cli.video.geometry import centre_square, is_thin, scaled_size, thin_square
from zsar_cli.video.kinds import VIDEO_SUFFIXES
from zsar_cli.video.limits import MAX_PIXELS
from zsar_cli.video.reader import read_video
from zsar_cli.video.types import DecodedVideo, Geometry, Sampling, View
from zsar_cli.video.workers import DecodePool

BENCHMARKS = Path(__file__).parents[1] / "examples" / "benchmarks"
ONE, TWO = Sampling(frames=1), Sampling(frames=2)
CUT, SQUASH = Geometry(24, 32), Geometry(64)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the limit and its measure are Linux's")


@pytest.fixture(scope="module")
def bombs() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("bombs")


@pytest.fixture(scope="module")
def fuzz(bombs: ModuleType) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module("fuzz")


@pytest.fixture(scope="module")
def corpus(bombs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all bombs, and of the files that they name."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    bombs.make_bombs(folder, "http://127.0.0.1:9")
    return folder


def refusal(path: Path, decoder: str = "pyav") -> InputError:
    with pytest.raises(InputError) as caught:
        read_video(str(path), ONE, CUT, decoder)
    return caught.value


# --- programs, other files, the network ---


@pytest.mark.parametrize("name", ["eps.gif", "folder_eps"])
def test_a_program_that_calls_itself_an_image_is_not_run(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert "not an image that Pillow recognises as JPEG, PNG, WEBP, GIF or BMP" in refusal(corpus / name).reason
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["concat.mp4", "concat.ffconcat", "hls_local.m3u8", "sdp.mp4", "vobsub.mp4"])
def test_a_script_is_refused_by_the_name_of_its_format(name: str, decoder: str, corpus: Path) -> None:
    error = refusal(corpus / name, decoder)
    kind = name.split(".")[0].split("_")[0]
    expected = f"it is a script of the format {kind}, which names other files: give the videos themselves"
    assert (error.stage, error.reason, error.decoder) == ("open", expected, decoder)


def test_no_script_is_read_whatever_it_is_called(corpus: Path) -> None:
    scripts = [path for path in corpus.iterdir() if path.is_file() and path.read_bytes()[:1] in (b"f", b"#", b"<")]
    assert len(scripts) >= 10
    for path in scripts:
        assert refusal(path).stage == "open"


def test_a_track_that_lies_in_another_file_is_left_alone(corpus: Path) -> None:
    path = corpus / "dref.mov"
    with av.open(str(path), options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 5  # this is what must not happen
    assert refusal(path).reason == "it holds no video data"


def test_refusing_a_format_leaves_the_log_as_it_was(corpus: Path) -> None:
    before = av.logging.get_level()
    refusal(corpus / "concat.mp4")
    assert av.logging.get_level() == before


CODECS = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".avi", ".wmv", ".asf"), ("", "mpeg4")),
    **{".qt": ("mov", "mpeg4"), ".f4v": ("mp4", "libx264"), ".flv": ("flv", "flv"), ".divx": ("avi", "mpeg4")},
    **{".webm": ("", "libvpx"), ".ogv": ("", "libtheora"), ".ogg": ("ogg", "libtheora"), ".mxf": ("", "mpeg2video")},
    **dict.fromkeys((".rm", ".rmvb"), ("rm", "rv10")),
    **dict.fromkeys((".mpg", ".mpeg", ".vob"), ("", "mpeg2video")),
    **{".m2v": ("mpeg2video", "mpeg2video"), ".y4m": ("yuv4mpegpipe", "wrapped_avframe")},
    **dict.fromkeys((".ts", ".mts", ".m2ts"), ("mpegts", "mpeg2video")),
    **dict.fromkeys((".h264", ".264"), ("h264", "libx264")),
    **dict.fromkeys((".h265", ".265", ".hevc"), ("hevc", "libx265")),
}


@pytest.mark.parametrize("suffix", sorted(VIDEO_SUFFIXES - {".gif", ".apng"}))
def test_every_suffix_of_a_video_is_of_an_allowed_format(suffix: str, tmp_path: Path) -> None:
    container, codec = CODECS[suffix]
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec} in this build of FFmpeg")
    path = tmp_path / f"a{suffix}"
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    videos.write_video(path, codec, container=container or None, frames=12, size=(176, 144), options=quiet)
    assert read_video(str(path), TWO, SQUASH).frames.shape == (1, 2, 64, 64, 3)


# --- pictures that claim too much ---


@pytest.mark.parametrize(
    "name",
    [
        *("wide_screen.gif", "large.png", "large.webp", "large_claim.webp", "folder_large_png", "folder_large_webp"),
        *("folder_large_jpeg", "folder_large_bmp", "side_16000.avi", "side_16000.mov", "side_16384.y4m"),
    ],
)
def test_a_picture_that_is_too_large_is_refused_by_its_size(name: str, corpus: Path) -> None:
    assert "too large" in refusal(corpus / name).reason


@on_linux
def test_no_bomb_takes_more_than_a_gigabyte(fuzz: ModuleType, corpus: Path) -> None:
    paths = [str(path) for path in sorted(corpus.iterdir()) if path.name != "elsewhere"]
    with DecodePool(1, 120, [View(Sampling(frames=4), Geometry(224, 260))]) as pool:
        for path, result in zip(paths, pool.decode(paths), strict=True):
            assert not isinstance(result, InputError) or not fuzz.UNEXPECTED.search(result.reason), result
            assert peak_memory(pool) < 1e9, path


def peak_memory(pool: DecodePool) -> int:
    """Bytes that the process of the first worker had at most."""
    process = pool._workers[0]._process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


@on_linux
def test_memory_beyond_the_limit_is_an_error_not_a_kill() -> None:
    code = "from zsar_cli.video.limits import limit_memory; limit_memory(2**26); bytearray(2**25)\n"
    code += "try: bytearray(2**27)\nexcept MemoryError: print('refused')"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"refused\n"


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264", "yuv420p"), ("libsvtav1", "yuv420p10le")])
def test_a_healthy_4k_video_is_read_within_the_limit(codec: str, pix_fmt: str, tmp_path: Path) -> None:
    preset = {"preset": "ultrafast", "refs": "4"} if codec == "libx264" else {"preset": "13"}
    clip = videos.write_video(tmp_path / "a.mp4", codec, frames=4, size=(3840, 2160), pix_fmt=pix_fmt, options=preset)
    with DecodePool(1, 120, [View(TWO, SQUASH)]) as pool:
        (video,) = pool.decode([str(clip.path)])
    assert isinstance(video, DecodedVideo), video
    assert [read_code(frame) for frame in video.frames[0]] == [1, 3]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photo_larger_than_any_video_is_read_smaller(orientation: int, tmp_path: Path) -> None:
    size = (7200, 5000)
    assert size[0] * size[1] > MAX_PIXELS
    image = Image.fromarray(videos.coded_image(7, size if orientation == 1 else size[::-1]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image if orientation == 1 else image.transpose(Image.Transpose.ROTATE_90)  # 6: turn it clockwise
    (tmp_path / "frames").mkdir()
    stored.save(tmp_path / "frames" / "a.jpg", exif=exif)
    video = read_video(str(tmp_path / "frames"), ONE, SQUASH)
    assert read_code(video.frames[0, 0]) == 7
    assert (video.facts.info.width, video.facts.info.height) == image.size


# --- long and thin pictures ---


@pytest.mark.parametrize("size", [(900, 20), (20, 900), (700, 41), (5000, 1), (1, 5000), (33, 2000)])
def test_a_thin_picture_is_cut_as_if_the_whole_had_been_scaled(size: tuple[int, int]) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    whole = scaled_size(*size, CUT)
    assert is_thin(whole, CUT)
    expected = centre_square(np.asarray(image.resize(whole, Image.Resampling.BICUBIC)), CUT.size)
    difference = np.abs(thin_square(image, whole, CUT.size).astype(int) - expected)
    assert difference.mean() < 0.5  # Pillow rounds between its two passes, whose order follows the shapes


@pytest.mark.parametrize("size", [(160, 128), (1920, 800), (512, 32), (32, 512)])
def test_pictures_of_ordinary_shapes_are_not_thin(size: tuple[int, int]) -> None:
    assert not is_thin(scaled_size(*size, CUT), CUT)
    assert not is_thin(scaled_size(100_000, 1, SQUASH), SQUASH)


@pytest.mark.parametrize("clockwise", [0, 90])
def test_a_thin_video_is_cut_from_its_centre(clockwise: int, tmp_path: Path) -> None:
    path, columns = tmp_path / "a.mp4", np.linspace(0, 255, 1280).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 1280, 32, "yuv444p"
        image = np.repeat(np.tile(columns, (32, 1))[..., None], 3, axis=2)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    videos.turn_display(path, clockwise)
    frame = read_video(str(path), ONE, Geometry(24, 32)).frames[0, 0].astype(int)
    ramp = columns[640 - 12 : 640 + 12].astype(int)
    expected = np.tile(ramp, (24, 1)) if clockwise == 0 else np.tile(ramp[:, None], (1, 24))
    assert np.abs(frame - expected[..., None]).max() < 8


def test_absurdly_shaped_pixels_are_no_obstacle(tmp_path: Path) -> None:
    clip = videos.write_video(tmp_path / "a.mkv", "mpeg4", frames=3, aspect=Fraction(65_535, 1))
    assert read_video(str(clip.path), ONE, CUT).frames.shape == (1, 1, 24, 24, 3)


# --- damage of every kind ---


def test_two_hundred_damaged_files_each_have_an_answer(fuzz: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name, codec in [("a.mp4", "libx264"), ("b.mkv", "libx264"), ("c.avi", "mpeg4"), ("d.ts", "mpeg2video")]:
        videos.write_video(tmp_path / "clips" / name, codec, frames=25, size=(96, 64), b_frames=2)
    for name in ("e.gif", "f.webp", "g.png"):
        videos.animation(tmp_path / "clips" / name)
    (tmp_path / "damaged").mkdir()
    clips = sorted((tmp_path / "clips").iterdir())
    paths = [str(path) for path in fuzz.write_mutations(clips, tmp_path / "damaged", 200, seed=0)]
    with DecodePool(2, 60, [View(Sampling(frames=4), CUT)]) as pool:
        results = list(pool.decode(paths))
    assert len(results) == 200
    read = [result for result in results if isinstance(result, DecodedVideo)]
    assert 20 < len(read) < 180
    for result in results:
        if isinstance(result, InputError):
            assert result.stage in ("open", "decode") and not fuzz.UNEXPECTED.search(result.reason), result
        else:
            assert result.frames.shape == (1, 4, 24, 24, 3) and np.isfinite(result.facts.info.duration or 0)
