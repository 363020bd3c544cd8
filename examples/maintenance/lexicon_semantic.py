"""Rebuild zsar_cli/lexicon/semantic.safetensors after one of zsar_cli/lexicon/*.yaml was edited.

    pip install 'zsar[test]' && python examples/maintenance/lexicon_semantic.py

Each entry gets one embedding, the normalised mean of MiniLM's embeddings of its name and its other names, kept in
float16. tests/test_lexicon.py compares the file with its sources.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

import zsar_cli
from zsar_cli.tensors import write_tensors
from zsar_cli.text.lexicon import SEMANTIC_FILE, Entry, Lexicon, read_entries
from zsar_cli.text.minilm import minilm

FOLDER = Path(zsar_cli.__file__).parent / "lexicon"


def packaged_entries() -> tuple[Entry, ...]:
    """All entries, file by file."""
    return tuple(entry for file in sorted(FOLDER.glob("*.yaml")) for entry in read_entries(file))


def main() -> None:
    """Write the file anew."""
    lexicon = Lexicon.of(packaged_entries(), minilm())
    metadata = {
        "names": json.dumps(lexicon.names, ensure_ascii=False),
        "text_encoder": lexicon.text_encoder,
        "digest": lexicon.digest,
    }
    write_tensors({"semantic": lexicon.semantic.to(torch.float16)}, FOLDER / SEMANTIC_FILE, metadata)
    print(f"{FOLDER / SEMANTIC_FILE}: {len(lexicon)} entries, {lexicon.digest}")


if __name__ == "__main__":
    main()
