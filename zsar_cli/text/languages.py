"""Which labels are plainly in a language that a text encoder does not know; in doubt, a label is not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from zsar_cli.labels import Label

__all__ = ["foreign_labels"]

# The scripts a language is written in, as the names of Unicode characters begin.
_SCRIPTS = {
    **dict.fromkeys(("de", "en", "es", "fr", "id", "it", "nl", "pl", "pt", "tr", "vi"), ("LATIN",)),
    **dict.fromkeys(("bg", "ru", "uk"), ("CYRILLIC",)),
    **dict.fromkeys(("ar", "fa", "ur"), ("ARABIC",)),
    "el": ("GREEK",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL", "CJK"),
    "th": ("THAI",),
    "zh": ("CJK",),
}

# Letters that English does not borrow: it has cafés, jalapeños and façades, but none of these.
_LETTERS = re.compile("[äöüßąćęłńśźżőűěřšžůčďťňğışøåæœđățșãõìòươ\u1ea0-\u1ef9]")
# Frequent words of action names in Latin script that are no English words.
_FREQUENT = """
der das und mit auf ein eine einen einem einer im vom zum zur ins beim ohne dem aus fahren spielen machen gehen
laufen schwimmen tanzen essen trinken lesen schreiben kochen backen hacken putzen waschen
le la les un une du au aux et avec sur dans sans sous faire jouer courir nager danser manger boire lire monter
el los las con del al una por en su hacer jugar tocar montar correr nadar bailar comer beber leer escribir cortar
lavar pelar tomar lo gli di della dello nel nella sul sulla andare giocare portare suonare correre nuotare ballare
mangiare bere leggere
um uma em com ao aos dos nas nos fazer jogar andar ler escrever cozinhar escovar
een het met aan bij naar voor spelen rijden lopen zwemmen dansen eten drinken lezen schrijven fietsen poetsen
wassen
och ett att spela cykla simma dansa spille
na się przez oraz grać gra mycie picie
ve bir ile yapmak etmek oynamak atmak kesmek okumak
dengan sedang yang bermain berenang menari
"""
_WORDS = frozenset(_FREQUENT.split())


def foreign_labels(labels: Iterable[Label], languages: Sequence[str]) -> list[Label]:
    """The labels that are plainly in none of the languages.

    A label in a script of none of them is. Between languages of one script only English is told from others, by letters
    it does not borrow and by frequent words of others; a label without either passes.

    Args:
        languages: codes of ISO 639-1, as `TextEncoder.languages` has them; empty for unknown, and then none is.
    """
    if not languages or any(language not in _SCRIPTS for language in languages):
        return []
    known = tuple({script for language in languages for script in _SCRIPTS[language]})
    alone = tuple(languages) == ("en",)
    return [label for label in labels if _other_script(label.text, known) or (alone and _not_english(label.text))]


def _other_script(text: str, known: tuple[str, ...]) -> bool:
    """Whether more than half of the letters are of other scripts: 'playing 囲碁 (go)' has not."""
    if text.isascii() and "LATIN" in known:
        return False
    letters = [character for character in text if character.isalpha()]
    others = sum(not unicodedata.name(character, "").startswith(known) for character in letters)
    return 2 * others > len(letters)


def _not_english(text: str) -> bool:
    if _LETTERS.search(text.lower()):
        return True
    words = re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text)
    # As written: 'UN', 'LA', 'IL' and names are capitalised. One word alone may be a name of any origin.
    return len(words) > 1 and any(word in _WORDS for word in words)
