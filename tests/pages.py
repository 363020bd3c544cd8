"""The documents for people: their text, headings, links and examples."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "weights.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARK = re.compile(r"<!-- (?:not run|line): .+ -->")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", flags=re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Example:
    """A block of code.

    Args:
        language: what stands behind its fence.
        code: without the indentation of the fence.
        marked: whether the line before says that no test runs it, or that .ci/run does.
    """

    language: str
    code: str
    marked: bool


def examples(page: Path) -> Iterator[Example]:
    """The blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2].strip()
        yield Example(match[2], textwrap.dedent(match[3]), bool(MARK.fullmatch(before)))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def links(page: Path) -> list[tuple[str, str]]:
    """Relative links as path and anchor; without a path, of the page itself."""
    found = re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", prose(page))
    return [(path, anchor) for path, anchor in found if "://" not in path and (path or anchor)]


def anchors(page: Path) -> set[str]:
    """What its headings are called in links."""
    heads = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}
