"""Rewrite the tables of weights.md that come from the registry, between their two markers.

    python examples/maintenance/weights_table.py

tests/test_registry.py fails while the page and the registry differ.
"""

from __future__ import annotations

from pathlib import Path

from zsar_cli.weights.catalogue import ENTRIES, FROM_HUB, KINDS, Entry
from zsar_cli.weights.text_entries import TEXT_ENTRIES, TextEntry

PAGE = Path(__file__).resolve().parents[2] / "weights.md"
BEGIN, END = "<!-- models:begin -->\n", "<!-- models:end -->\n"
HEAD = """\
| name | kind | from | revision | licence | MB | frames x side | accuracy |
|---|---|---|---|---|---|---|---|
"""


TEXT_HEAD = """\
Sentence encoders, for `--text-encoder`; the languages are those that their model cards list, the prompt is what their
makers put before each text:

| name | from | revision | licence | MB | languages | prompt |
|---|---|---|---|---|---|---|
"""


def row(entry: Entry) -> str:
    """One model in the first table."""
    source = f"[{entry.source}](https://huggingface.co/{entry.source})" if entry.kind in FROM_HUB else entry.source
    revision = f"`{entry.revision[:12]}`" if entry.revision else "main" if entry.kind in FROM_HUB else "-"
    size = "unknown" if entry.megabytes is None else f"{entry.megabytes:,.1f}"
    accuracy = "measured here" if entry.measured_here else "reported by others" if entry.reported else "unknown"
    cells = [f"`{entry.name}`", entry.kind, source, revision, entry.licence or "unknown", size,
             f"{entry.frames} x {entry.size}", accuracy]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def text_row(entry: TextEntry) -> str:
    """One sentence encoder in the second table."""
    source = f"[{entry.source}](https://huggingface.co/{entry.source})"
    prompt = "-" if entry.prompt is None else f"`{entry.prompt}`"
    cells = [f"`{entry.name}`", source, entry.revision or "main", entry.licence, f"{entry.megabytes:,.1f}",
             str(len(entry.languages)), prompt]  # fmt: skip
    return f"| {' | '.join(cells)} |\n"


def tables() -> str:
    """All that stands between the markers."""
    kinds = "".join(f"- `{kind}`: {meaning}\n" for kind, meaning in KINDS.items())
    figures = "".join(
        f"| `{entry.name}` | {figure.task} | {figure.percent} % | {figure.source} |\n"
        for entry in ENTRIES.values()
        for figure in entry.reported
    )
    return (
        f"{HEAD}{''.join(map(row, ENTRIES.values()))}\n{kinds}\n"
        "`zsar models pull NAME` fetches a model of the hub into the Hugging Face cache; nothing else downloads. MB "
        "are 10^6 bytes, of hub models in float32.\n\n"
        f"{TEXT_HEAD}{''.join(map(text_row, TEXT_ENTRIES.values()))}\n"
        "Figures reported by others. They were not measured here, and the protocols differ from row to row.\n\n"
        f"| name | what | top-1 | source |\n|---|---|---|---|\n{figures}"
    )


def renewed(page: str) -> str:
    """The page with its tables made anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + tables() + END + rest.split(END)[1]


def main() -> None:
    """Write the page anew."""
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE}: {len(ENTRIES)} models")


if __name__ == "__main__":
    main()
