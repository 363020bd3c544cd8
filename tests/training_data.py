"""A tiny data set of videos that differ in colour, and the flags that train on it in seconds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (30, 40, 200), "yellow": (210, 200, 40)}
SMALL = (
    "--backbone", "efficientnet-lite0", "--size", "64", "--frames", "2", "--batch-size", "8", "--device", "cpu",
    "--workers", "1", "--config",
)  # fmt: skip
SETTINGS = "cells: 2\nspace: 32\nwidth: 16\ndepth: 1\nheads: 2\nmatch_pairs: 2\nview: whole\n"


def write_dataset(folder: Path, per_class: int = 2) -> Path:
    """A folder per colour; each video is a folder of frames or a GIF of that colour and some noise."""
    generator = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / f"{name}_thing").mkdir(parents=True)
        for number in range(per_class):
            noise = generator.integers(-25, 25, (3, 64, 80, 3))
            frames = [Image.fromarray(np.clip(colour + part, 0, 255).astype(np.uint8)) for part in noise]
            target = folder / f"{name}_thing" / f"clip{number}"
            if number % 2:
                frames[0].save(target.with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=40)
                continue
            target.mkdir()
            for index, frame in enumerate(frames):
                frame.save(target / f"{index}.png")
    return folder


def write_films(folder: Path) -> Path:
    """A table of parts of two films, in which each colour is seen for two seconds, and of one behind their ends."""
    generator = np.random.default_rng(1)
    rows = ["path,label,start,end"]
    for number, names in enumerate((list(COLOURS), list(COLOURS)[::-1])):
        with av.open(str(folder / f"film{number}.mp4"), "w") as out:
            stream = out.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 80, 64, "yuv420p"
            for place, name in enumerate(names):
                rows.append(f"film{number}.mp4,{name}_thing,{2 * place},{2 * place + 2}")
                for noise in generator.integers(-25, 25, (20, 64, 80, 3)):
                    image = np.clip(COLOURS[name] + noise, 0, 255).astype(np.uint8)
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            out.mux(stream.encode(None))
    table = folder / "parts.csv"
    table.write_text("\n".join([*rows, "film0.mp4,red_thing,60,62", ""]))
    return table


def write_settings(folder: Path, more: str = "") -> Path:
    """The YAML file that `SMALL` ends with."""
    file = folder / "settings.yaml"
    file.write_text(SETTINGS + more)
    return file
