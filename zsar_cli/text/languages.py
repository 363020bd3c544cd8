"""Which labels are plainly in a language that a text encoder does not know; in doubt, a label is not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from zsar_cli.labels import Label

__all__ = ["foreign_labels"]

# The languages that are written in a script, by how names of its characters begin in Unicode.
_WRITTEN = {
    "LATIN": "af az br bs ca ceb co cs cy da de en eo es et eu fi fr fy ga gd gl ha haw hmn hr ht hu id ig is it jv ku "
    "la lb lt lv mg mi ms mt nb nl no ny om pl pt ro rw sk sl sm sn so sq sr st su sv sw tk tl tr uz vi wo xh yo zu",
    "CYRILLIC": "az be bg bs kk ky mk mn ru sr tg tt uk uz",
    "ARABIC": "ar fa ku ps sd ug ur",
    "HEBREW": "he yi",
    "DEVANAGARI": "hi mr ne sa",
    "BENGALI": "as bn",
    "CJK": "ja ko zh",
    "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "GREEK": "el", "ARMENIAN": "hy", "GEORGIAN": "ka",
    "ETHIOPIC": "am", "GUJARATI": "gu", "GURMUKHI": "pa", "ORIYA": "or", "TAMIL": "ta", "TELUGU": "te", "KANNADA": "kn",
    "MALAYALAM": "ml", "SINHALA": "si", "THAI": "th", "LAO": "lo", "TIBETAN": "bo", "MYANMAR": "my", "KHMER": "km",
}  # fmt: skip
_SCRIPTS = {
    language: tuple(script for script, written in _WRITTEN.items() if language in written.split())
    for language in " ".join(_WRITTEN.values()).split()
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
        languages: codes of ISO 639, as `TextEncoder.languages` has them; empty for unknown, and then none is.
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
