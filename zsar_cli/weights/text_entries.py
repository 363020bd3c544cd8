"""Sentence encoders by name, for `--text-encoder`: plain data, as `catalogue` has it of models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["TEXT_ENTRIES", "TextEntry", "text_entry"]


@dataclass(frozen=True)
class TextEntry:
    """One short name for `--text-encoder`. None stands for what could not be established.

    Args:
        name: what the user types.
        source: the id on the Hugging Face hub.
        languages: what it was trained to understand, as codes of ISO 639, as its model card has them.
        licence: of the weights.
        megabytes: size of the weights as float32 (10^6 bytes), counted from their architecture.
        prompt: what its makers put before each text.
        revision: the hub commit to take; None takes the branch 'main' as it is.
    """

    name: str
    source: str
    languages: tuple[str, ...]
    licence: str
    megabytes: float
    prompt: str | None = None
    revision: str | None = None

    @property
    def download(self) -> str:
        """How large the weights are, for people."""
        return f"{self.megabytes:.0f} MB"


_PARAPHRASE = (
    "ar bg ca cs da de el en es et fa fi fr gl gu he hi hr hu hy id it ja ka ko ku lt lv mk mn mr ms my nb nl pl pt ro "
    "ru sk sl sq sr sv th tr uk ur vi zh"
)
_E5 = (
    "af am ar as az be bg bn br bs ca cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha he hi hr hu hy id is it "
    "ja jv ka kk km kn ko ku ky la lo lt lv mg mk ml mn mr ms my ne nl no om or pa pl ps pt ro ru sa sd si sk sl so sq "
    "sr su sv sw ta te th tl tr ug uk ur uz vi xh yi zh"
)
_LABSE = (
    "af am ar as az be bg bn bo bs ca ceb co cs cy da de el en eo es et eu fa fi fr fy ga gd gl gu ha haw he hi hmn hr "
    "ht hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lo lt lv mg mi mk ml mn mr ms mt my ne nl no ny or pa pl pt "
    "ro ru rw si sk sl sm sn so sq sr st su sv sw ta te tg th tk tl tr tt ug uk ur uz vi wo xh yi yo zh zu"
)
_ALL = (
    TextEntry("multilingual-minilm", "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
              tuple(_PARAPHRASE.split()), "Apache-2.0", 470.6),
    TextEntry("multilingual-mpnet", "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
              tuple(_PARAPHRASE.split()), "Apache-2.0", 1112.2),
    TextEntry("multilingual-e5-small", "intfloat/multilingual-e5-small", tuple(_E5.split()), "MIT", 470.6,
              prompt="query: "),
    TextEntry("multilingual-e5-base", "intfloat/multilingual-e5-base", tuple(_E5.split()), "MIT", 1112.2,
              prompt="query: "),
    TextEntry("labse", "sentence-transformers/LaBSE", tuple(_LABSE.split()), "Apache-2.0", 1886.1),
)  # fmt: skip
TEXT_ENTRIES: Mapping[str, TextEntry] = MappingProxyType({entry.name: entry for entry in _ALL})


def text_entry(name: str) -> TextEntry | None:
    """The encoder of a short name, or of the hub id that stands for the same; None for what is none."""
    return TEXT_ENTRIES.get(name) or next((entry for entry in _ALL if entry.source == name), None)
