"""Small random sentence encoders in the layout of sentence-transformers, as the hub has LaBSE and its like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from checkpoints import save, weight, write_json
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

WORDS = ("riding a bike", "playing chess", "Fahrrad fahren", "Schach spielen", "骑自行车", "ركوب الدراجة", "query: ")
WIDTH, OUT = 32, 24
NAMES = "sentence_transformers.models"


def write_sentences(folder: Path, dense: bool = False, architecture: str = "xlm-roberta") -> Path:
    """A folder of an encoder: mean of tokens, and where asked for a dense layer behind it; rows of unit length.

    Args:
        dense: E = 24 in place of 32.
        architecture: "xlm-roberta" or "bert".
    """
    vocabulary = _tokenizer(folder)
    size = {"vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 2}
    size |= {"num_attention_heads": 4, "max_position_embeddings": 66, "pad_token_id": 1}
    if architecture == "bert":
        save(transformers.BertModel, transformers.BertConfig(**size), folder)
    else:
        save(transformers.XLMRobertaModel, transformers.XLMRobertaConfig(**size), folder)
    file = folder / "model.safetensors"
    save_file({key: _distinct(key, value) for key, value in load_file(file).items()}, file, {"format": "pt"})
    write_json(folder, "sentence_bert_config.json", {"max_seq_length": 64, "do_lower_case": False})
    pooling = {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True}
    write_json(folder / "1_Pooling", "config.json", pooling)
    parts = [("Transformer", ""), ("Pooling", "1_Pooling")]
    if dense:
        layer = {"in_features": WIDTH, "out_features": OUT, "bias": True}
        layer["activation_function"] = "torch.nn.modules.activation.Tanh"
        write_json(folder / "2_Dense", "config.json", layer)
        shapes = {"linear.weight": torch.zeros(OUT, WIDTH), "linear.bias": torch.zeros(OUT)}
        save_file({key: weight(key, like) for key, like in shapes.items()}, folder / "2_Dense" / "model.safetensors")
        parts.append(("Dense", "2_Dense"))
    parts.append(("Normalize", f"{len(parts)}_Normalize"))
    (folder / parts[-1][1]).mkdir()
    write_modules(folder, [(f"{NAMES}.{kind}", path) for kind, path in parts])
    return folder


def _distinct(key: str, value: torch.Tensor) -> torch.Tensor:
    """A weight by which texts differ: biases would be what all have in common."""
    return torch.zeros_like(value) if key.endswith("bias") else torch.ones_like(value) if "LayerNorm" in key else value


def write_modules(folder: Path, parts: Sequence[tuple[str, str]]) -> None:
    """The list of an encoder's parts."""
    listed = [{"idx": idx, "name": str(idx), "path": path, "type": kind} for idx, (kind, path) in enumerate(parts)]
    (folder / "modules.json").write_text(json.dumps(listed), encoding="utf-8")


def _tokenizer(folder: Path) -> int:
    """Pieces learned of a few words, and every letter of theirs; returns how many."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>"}
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, sep_token="</s>", **names
    )
    fast.save_pretrained(folder)
    return len(fast)
