"""Which classes are strictly seen: those whose names are not near the name of a class that a test will ask for."""

from __future__ import annotations

from typing import NamedTuple

from zsar_cli.data.protocols import letters
from zsar_cli.labels import LabelSet
from zsar_cli.text.encoder import TextEncoder, encode_labels

__all__ = ["Nearest", "nearest_tests"]

DIGITS = 4  # of a distance; encoders repeat to more than that on any processor


class Nearest(NamedTuple):
    """A class, the class of the test whose name is nearest to its own, and the cosine distance of the two."""

    label: str
    test: str
    distance: float


def nearest_tests(encoder: TextEncoder, classes: LabelSet, tests: LabelSet) -> list[Nearest]:
    """For each class the nearest of the tests, in order; the distance from 0 to 2 is rounded to four digits.

    It is 0 where the letters are the same: to the encoder "skydiving" and "sky diving" are two words.
    """
    same = {letters(name): name for name in tests.names}
    cosine = encode_labels(encoder, classes.labels) @ encode_labels(encoder, tests.labels).T
    best, index = cosine.max(dim=1)
    found = zip(classes.names, index.tolist(), best.tolist(), strict=True)
    return [
        Nearest(name, same[letters(name)], 0.0)
        if letters(name) in same
        else Nearest(name, tests.names[at], round(max(0.0, 1.0 - value), DIGITS))
        for name, at, value in found
    ]
