"""Labels in a language that a text encoder does not know: the plain ones are found, English ones never."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from cli_runner import Finished

import zsar_cli
from zsar_cli.labels import LabelSet
from zsar_cli.store.cache import CachedTextEncoder, EmbeddingCache
from zsar_cli.text.languages import foreign_labels
from zsar_cli.text.minilm import minilm

ENGLISH = ("en",)


def foreign(names: list[str], languages: tuple[str, ...] = ENGLISH) -> list[str]:
    return [label.name for label in foreign_labels(LabelSet.from_names(names), languages)]


@pytest.mark.parametrize(
    "name",
    [
        "骑自行车", "езда на велосипеде", "ركوب الدراجة", "ギターを弾く", "자전거 타기", "साइकिल चलाना", "ποδηλασία",
        "רכיבה על אופניים", "ขี่จักรยาน", "đi xe đạp", "Fahrrad fahren", "mit dem Hund spielen", "Äpfel schälen",
        "jouer de la guitare", "faire du vélo", "montar en bicicleta", "tocar la guitarra", "suonare la chitarra",
        "andar de bicicleta", "een boek lezen", "gra w piłkę nożną", "kitap okumak",
    ],
)  # fmt: skip
def test_plainly_foreign_labels_are_found(name: str) -> None:
    assert foreign([name, "riding a bike"]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "café", "eating jalapeños", "sautéing", "crème brûlée", "playing UNO", "salsa", "tai chi", "capoeira", "YoYo",
        "playing 囲碁 (go)", "LA marathon", "pas de deux", "3-point shot", "lunge", "de-icing a plane",
    ],
)  # fmt: skip
def test_words_that_english_has_borrowed_pass(name: str) -> None:
    assert foreign([name]) == []


def test_no_name_of_the_lexicon_is_foreign() -> None:
    names: list[str] = []
    for file in (Path(zsar_cli.__file__).parent / "lexicon").glob("*.yaml"):
        for entry in yaml.safe_load(file.read_text(encoding="utf-8")):
            names += [entry["action"], *entry.get("also", [])]
    assert len(names) > 5000 and foreign(names) == []


def test_what_an_encoder_knows_decides() -> None:
    names = ["riding a bike", "Fahrrad fahren", "езда на велосипеде", "骑自行车"]
    assert foreign(names, ()) == []
    assert foreign(names, ("en", "xx")) == [], "nothing is known of the scripts of xx"
    assert foreign(names, ("en", "de")) == names[2:]
    assert foreign(names, ("ru", "zh")) == names[:2]


def test_a_cache_and_the_trained_model_say_what_their_encoder_says(tmp_path: Path) -> None:
    from zsar_cli.models.open import load_model

    encoder = minilm()
    assert encoder.languages == ENGLISH
    assert CachedTextEncoder(encoder, EmbeddingCache(tmp_path)).languages == ENGLISH
    assert load_model("rest-exercises", torch.device("cpu"), torch.float32).text.languages == ENGLISH


def test_commands_name_such_labels(zsar_here: Callable[..., Finished], tmp_path: Path) -> None:
    names = ["swimming", "Fahrrad fahren", *(f"游泳{number}" for number in range(12))]
    (tmp_path / "l.txt").write_text("\n".join(names), encoding="utf-8")
    message = "warning: builtin understands labels in en alone; scores mean little for: " + ", ".join(names[1:11])
    run = zsar_here("explain", "--labels", tmp_path / "l.txt", code=0)
    assert run.stderr == f"{message} and 3 more; translate them, or take another --text-encoder\n"
    run = zsar_here("classify", tmp_path / "none.mp4", "--label", "swimming", "--label", "游泳", code=1)
    assert "scores mean little for: 游泳; translate them" in run.stderr
    assert "understands" not in zsar_here("explain", "--label", "swimming", code=0).stderr
