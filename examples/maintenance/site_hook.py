"""A hook of mkdocs: pages that lie beside docs/ become pages of the site, and links to other files their own text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
BESIDE = {"weights.md": "weights.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\[([^\[\]]*)\]\(((?:\.\./)+)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from beside docs/, with the links that hold in it."""
    for name, page in BESIDE.items():
        text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/: to a page of the site, or for a file of the repository its name alone."""
    up = "../" * page.file.src_uri.count("/")

    def replaced(match: re.Match[str]) -> str:
        text, dots, target, anchor = match[1], match[2], match[3], match[4] or ""
        if dots != f"{up}../" or not (ROOT / target).exists():
            return match[0]
        return f"[{text}]({up}{BESIDE[target]}{anchor})" if target in BESIDE else f"{text} (`{target}`)"

    return LINK.sub(replaced, markdown)
