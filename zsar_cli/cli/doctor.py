"""`zsar doctor`: what is installed, what it can do, and whether the weights are whole."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from zsar_cli._version import __version__
from zsar_cli.cli import options
from zsar_cli.cli.console import page, show
from zsar_cli.cli.engine import cache_folder
from zsar_cli.cli.options import option
from zsar_cli.errors import MissingExtraError, UsageError, ZsarError
from zsar_cli.report.escaping import json_text, printable

__all__ = ["doctor"]

FORMATS = ("table", "json")
PACKAGES = (
    "torch",
    "av",
    "decord",
    "pillow",
    "numpy",
    "openvino",
    "tokenizers",
    "transformers",
    "safetensors",
    "typer",
)
CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mpeg2video", "prores", "mjpeg")

Format = Annotated[str, option("--format", "table or json.", "-f", panel=options.OUTPUT, metavar="NAME")]

Json = Annotated[bool, option("--json", "The same as --format json.", panel=options.OUTPUT)]


def doctor(cache_dir: options.CacheDir = None, format: Format = "table", json: Json = False) -> int:
    """Show what is installed and whether it is whole.

    Versions, decoders and what they read, devices, the cache, and the weight files with their check sums. Exit code 1
    if something the built-in model needs is missing or damaged.

    Example: zsar doctor
    """
    if format not in FORMATS:
        raise UsageError(f"--format {format}: unknown; allowed: {', '.join(FORMATS)}")
    weights = _weights()
    report = {
        "zsar": {"version": __version__, "python": platform.python_version(), "system": platform.platform()},
        "packages": {name: _version(name) for name in PACKAGES},
        "decoders": _decoders(),
        "devices": _devices(),
        "runtimes": {"openvino": _openvino()},
        "cache": _cache(cache_dir),
        "models": _models(),
        "weights": weights,
    }
    if json or format == "json":
        show(json_text(report, indent=2))
    else:
        show(_table(report))
    return 0 if all(entry["state"] == "ok" for entry in weights.values()) else 1


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _decoders() -> dict[str, str]:
    import av

    readable = [name for name in CODECS if name in av.codecs_available and _can_decode(name)]
    return {
        "pyav": f"FFmpeg {av.ffmpeg_version_info}; reads {', '.join(readable)}",
        "decord": "not installed (no wheels for this platform)"
        if _version("decord") == "not installed"
        else "h264, hevc, vp9, mpeg4; not av1, not damaged files; inexact on B-frame AVI, MPEG-TS and edit lists",
        "images": "GIF, animated WebP, folders of jpg, png, webp, bmp",
    }


def _can_decode(name: str) -> bool:
    import av

    try:
        return bool(av.Codec(name, "r"))
    except (ValueError, av.FFmpegError):
        return False


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"}
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _openvino() -> str:
    """What `--runtime auto` makes of it."""
    from zsar_cli.models.openvino import precisions

    try:
        able = precisions()
    except MissingExtraError:
        return "not installed; pip install openvino, and the built-in model takes less time on a CPU"
    except ZsarError as error:
        return str(error)
    return f"computes the built-in model on a CPU in {' or '.join(able)}"


def _models() -> dict[str, str]:
    """What `--model auto` takes here."""
    from zsar_cli.engine.choosing import choose_model

    try:
        choice = choose_model()
    except ZsarError as error:
        return {"auto": str(error)}
    return {"auto": choice.name, **({"notes": "; ".join(choice.notes)} if choice.notes else {})}


def _cache(given: Path | None) -> dict[str, Any]:
    from zsar_cli.store.cache import EmbeddingCache

    cache = EmbeddingCache(cache_folder(given))
    try:
        cache.check()
        state = cache.info()
    except ZsarError as error:
        return {"file": str(cache.path), "state": str(error)}
    return {"file": str(state.path), "megabytes": round(state.size / 1e6, 1), "entries": state.entries}


def _weights() -> dict[str, dict[str, str]]:
    from zsar_cli.text.minilm import MINILM
    from zsar_cli.weights.packaged import EFFICIENTNET_LITE2

    found = {}
    for file in (EFFICIENTNET_LITE2, MINILM):
        try:
            state, path = "ok", str(file.verified())
        except ZsarError as error:
            state, path = str(error), ""
        found[file.package] = {"state": state, "sha256": file.sha256, "file": path, "licence": file.licence}
    return found


def _table(report: dict[str, dict[str, Any]]) -> str:
    from rich.markup import escape

    console = page(soft_wrap=True)
    with console.capture() as capture:
        for title, entries in report.items():
            console.print(f"[bold]{title}[/]")
            for name, value in entries.items():
                if isinstance(value, dict):
                    value = "  ".join(f"{key} {item}" for key, item in value.items())
                console.print(f"  {escape(printable(name)):34} {escape(printable(str(value)))}")
    return capture.get().rstrip("\n")
