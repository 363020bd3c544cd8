"""Small random checkpoints of real architectures, written in the layout of the hub by Transformers itself."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SIDE, PATCH = 32, 8
ACTIONS = (
    "abseiling", "archery", "bowling", "cooking", "dancing", "diving", "fencing", "fishing", "hurdling", "juggling",
    "kayaking", "knitting", "mopping", "painting", "rowing", "sailing", "skiing", "surfing", "typing", "welding",
)  # fmt: skip
TRANSFORMER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
PICTURES = {"image_size": SIDE, "patch_size": PATCH}
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def save(maker: Any, config: Any, folder: Path, **saving: Any) -> Path:
    """Write a network whose weights depend on nothing but their names in the file, so that results can be frozen."""
    maker(config).save_pretrained(folder, **saving)
    for file in folder.glob("*.safetensors"):
        save_file({key: weight(key, value) for key, value in load_file(file).items()}, file, {"format": "pt"})
    return folder


def weight(key: str, like: torch.Tensor) -> torch.Tensor:
    """Spread enough for inputs to matter."""
    if like.ndim == 0 or ("norm" in key and key.endswith("weight")):
        return torch.ones_like(like)
    generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    return torch.randn(like.shape, generator=generator) * 0.3


def write_json(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def write_processor(folder: Path, **changes: Any) -> None:
    """A preprocessor_config.json as the CLIP repositories have it."""
    usual = {
        "crop_size": {"height": SIDE, "width": SIDE}, "do_center_crop": True, "do_normalize": True, "do_rescale": True,
        "do_resize": True, "image_mean": CLIP_MEAN, "image_processor_type": "CLIPImageProcessor",
        "image_std": CLIP_STD, "resample": 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": SIDE + 4},
    }  # fmt: skip
    write_json(folder, "preprocessor_config.json", {**usual, **changes})


def clip_tokenizer(folder: Path) -> None:
    """CLIP's byte-pair files, with single letters and a few merges in place of 49,408 entries."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + ["-", ",", ":", "."]
    merges = ["a n", "i n", "in g</w>", "o f</w>"]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "an", "in", "ing</w>", "of</w>"]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    write_json(folder, "vocab.json", {token: index for index, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    write_json(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer", "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
            "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "model_max_length": 77,
        },
    )  # fmt: skip


def gemma_tokenizer(folder: Path) -> None:
    """The one file of SigLIP 2's Gemma tokenizer, with letters in place of 256,000 pieces."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "▁", *(chr(code) for code in range(ord("a"), ord("z") + 1)), ":", "-"]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Replace("▁", " ")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A <eos>", special_tokens=[("<eos>", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder,
        "tokenizer_config.json",
        {
            "tokenizer_class": "GemmaTokenizer", "pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>",
            "unk_token": "<unk>", "add_bos_token": False, "add_eos_token": True, "padding_side": "right",
            "model_max_length": 64, "model_input_names": ["input_ids"],
        },
    )  # fmt: skip


def clip(folder: Path, **saving: Any) -> Path:
    text = {**TRANSFORMER, "vocab_size": 66, "max_position_embeddings": 77, "eos_token_id": 65, "bos_token_id": 64}
    config = transformers.CLIPConfig(
        text_config={**text, "pad_token_id": 65}, vision_config={**TRANSFORMER, **PICTURES}, projection_dim=24
    )
    save(transformers.CLIPModel, config, folder, **saving)
    clip_tokenizer(folder)
    write_processor(folder)
    return folder


def siglip(folder: Path) -> Path:
    text = {**TRANSFORMER, "vocab_size": 40, "max_position_embeddings": 64, "pad_token_id": 0}
    text |= {"eos_token_id": 1, "bos_token_id": 2}
    config = transformers.SiglipConfig(text_config=text, vision_config={**TRANSFORMER, **PICTURES})
    save(transformers.SiglipModel, config, folder)
    gemma_tokenizer(folder)
    write_json(
        folder,
        "preprocessor_config.json",
        {
            "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True,
            "image_mean": [0.5] * 3, "image_processor_type": "SiglipImageProcessor", "image_std": [0.5] * 3,
            "processor_class": "SiglipProcessor", "resample": 2, "rescale_factor": 1 / 255,
            "size": {"height": SIDE, "width": SIDE},
        },
    )  # fmt: skip
    return folder


def xclip(folder: Path) -> Path:
    text = {**TRANSFORMER, "vocab_size": 66, "max_position_embeddings": 77, "eos_token_id": 65, "bos_token_id": 64}
    vision = {
        **TRANSFORMER, **PICTURES, "num_frames": 4, "mit_hidden_size": 24, "mit_intermediate_size": 48,
        "mit_num_hidden_layers": 1, "mit_num_attention_heads": 4,
    }  # fmt: skip
    config = transformers.XCLIPConfig(
        text_config={**text, "pad_token_id": 65}, vision_config=vision, projection_dim=24, prompt_layers=2,
        prompt_num_attention_heads=4,
    )  # fmt: skip
    save(transformers.XCLIPModel, config, folder)
    clip_tokenizer(folder)
    write_processor(folder, image_processor_type=None, feature_extractor_type="VideoMAEFeatureExtractor")
    return folder


def videoprism(folder: Path) -> Path:
    text = {**TRANSFORMER, "vocab_size": 32, "max_position_embeddings": 16}
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "image_size": SIDE, "num_frames": 4,
        "tubelet_size": [1, PATCH, PATCH], "num_spatial_layers": 2, "num_temporal_layers": 1, "num_auxiliary_layers": 1,
    }  # fmt: skip
    config = transformers.VideoPrismConfig(text_config=text, vision_config=vision)
    save(transformers.VideoPrismClipModel, config, folder)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(chr(code), -3.0) for code in range(ord("a"), ord("z") + 1)]
    tokenizer = transformers.VideoPrismTokenizer(vocab=pieces, extra_ids=0, model_max_length=16)
    tokenizer.save_pretrained(folder)
    write_json(
        folder,
        "video_preprocessor_config.json",
        {
            "do_convert_rgb": True, "do_normalize": False, "do_rescale": True, "do_resize": True, "resample": 3,
            "do_sample_frames": True, "num_frames": 4, "rescale_factor": 1 / 255,
            "size": {"height": SIDE, "width": SIDE}, "video_processor_type": "LlavaOnevisionVideoProcessor",
        },
    )  # fmt: skip
    return folder


def names(count: int = 20) -> dict[str, Any]:
    return {"id2label": dict(enumerate(ACTIONS[:count])), "label2id": {n: i for i, n in enumerate(ACTIONS[:count])}}


def videomae(folder: Path, **changes: Any) -> Path:
    settings = {**TRANSFORMER, **PICTURES, "num_frames": 4, "tubelet_size": 2, **names(), **changes}
    save(transformers.VideoMAEForVideoClassification, transformers.VideoMAEConfig(**settings), folder)
    write_processor(folder, image_processor_type=None, feature_extractor_type="VideoMAEFeatureExtractor")
    return folder


def timesformer(folder: Path) -> Path:
    config = transformers.TimesformerConfig(**TRANSFORMER, **PICTURES, num_frames=4, **names())
    save(transformers.TimesformerForVideoClassification, config, folder)
    write_processor(folder, image_mean=[0.45] * 3, image_std=[0.225] * 3, image_processor_type="VideoMAEImageProcessor")
    return folder


def vivit(folder: Path) -> Path:
    config = transformers.VivitConfig(
        **TRANSFORMER, image_size=SIDE, num_frames=4, tubelet_size=[2, PATCH, PATCH], **names()
    )
    save(transformers.VivitForVideoClassification, config, folder)
    write_processor(
        folder, image_mean=[0.5] * 3, image_std=[0.5] * 3, image_processor_type="VivitImageProcessor",
        rescale_factor=1 / 127.5, offset=True,
    )  # fmt: skip
    return folder


def vit(folder: Path) -> Path:
    """An image classifier."""
    config = transformers.ViTConfig(**TRANSFORMER, **PICTURES, **names())
    save(transformers.ViTForImageClassification, config, folder)
    write_processor(folder, crop_size=None, do_center_crop=None, size=SIDE, image_processor_type="ViTImageProcessor")
    return folder


def bert(folder: Path) -> Path:
    """A model of text alone."""
    config = transformers.BertConfig(**TRANSFORMER, vocab_size=40, max_position_embeddings=16)
    save(transformers.BertModel, config, folder)
    return folder


FAMILIES = {
    "clip": clip, "siglip": siglip, "xclip": xclip, "videoprism": videoprism, "videomae": videomae,
    "timesformer": timesformer, "vivit": vivit,
    "vit": vit,
}  # fmt: skip


@functools.cache
def of(family: str) -> Path:
    """A checkpoint of the family, made once; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="zsar-checkpoint-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return FAMILIES[family](folder / family)
