"""The lists of classes that the package has: what is in them, and on which side of which split."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from zsar_cli.data.protocols import FOLDER, LISTS, class_list, letters
from zsar_cli.data.strict import nearest_tests
from zsar_cli.errors import UsageError
from zsar_cli.evaluation.measures import half_of_the_classes
from zsar_cli.labels import LabelSet
from zsar_cli.text.minilm import minilm

# What each list was checked against when it was made; a change of a list is a change of every figure by it.
DIGESTS = {
    "ucf101": (101, "2b8b9008e476d497"),
    "hmdb51": (51, "68285c113aa71657"),
    "activitynet": (200, "c0f1646deb94c590"),
    "kinetics400": (400, "5ea9c3efbe0e66aa"),
    "kinetics600": (600, "c1294aa2a7d2d213"),
    "kinetics700": (700, "5ce8c48ce6c190fb"),
}


def half(count: int, seed: int) -> list[int]:
    return [int(one) for one in half_of_the_classes(count, 1, seed)[0]]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_the_one_that_was_checked(name: str) -> None:
    text = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    count, digest = DIGESTS[name]
    classes = class_list(name)
    assert len(classes.classes) == len({letters(one.folder) for one in classes.classes}) == count
    assert len(classes.labels) == count  # no two natural names read the same
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest
    assert any("http" in line or ".com" in line or "pypi.org" in line for line in classes.about)
    assert any("2026-11-29" in line for line in classes.about)


@pytest.mark.parametrize(
    ("name", "folder", "label"),
    [
        ("ucf101", "ApplyEyeMakeup", "apply eye makeup"),
        ("ucf101", "apply_eye_makeup", "apply eye makeup"),
        ("hmdb51", "brush_hair", "brush hair"),
        ("activitynet", "Mooping floor", "mopping floor"),
        ("kinetics700", "passing_American_football_-in_game-", "passing American football (in game)"),
        ("kinetics400", "massaging person's head", "massaging person's head"),
    ],
)
def test_a_class_has_a_natural_name(name: str, folder: str, label: str) -> None:
    assert class_list(name).label_of(folder, "here") == label


def test_an_unknown_class_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"'ApplyEyeMake' is no class of ucf101; did you mean 'ApplyEyeMakeup'\?"):
        class_list("ucf101").label_of("ApplyEyeMake", "here")
    with pytest.raises(UsageError, match="'ucf': no list of classes; allowed: ucf101, hmdb51"):
        class_list("ucf")


@pytest.mark.parametrize(
    ("name", "split", "sizes"),
    [
        ("ucf101", "truze", {"train": 70, "test": 31}),
        ("hmdb51", "truze", {"train": 29, "test": 22}),
        ("kinetics600", "er1", {"val": 60, "test": 160}),
        ("kinetics600", "er2", {"val": 60, "test": 160}),
        ("kinetics600", "er3", {"val": 60, "test": 160}),
    ],
)
def test_splits_of_the_classes_have_their_sizes(name: str, split: str, sizes: dict[str, int]) -> None:
    sides = {part: class_list(name).side(split, part, half) for part in sizes}
    assert {part: len(side) for part, side in sides.items()} == sizes
    assert len({label for side in sides.values() for label in side}) == sum(sizes.values())


def test_the_unseen_classes_of_kinetics_600_are_none_of_kinetics_400() -> None:
    seen = {letters(one.label) for one in class_list("kinetics400").classes}
    for split in ("er1", "er2", "er3"):
        for part in ("val", "test"):
            assert not seen & {letters(label) for label in class_list("kinetics600").side(split, part, half)}


def test_places_in_the_published_test_lists_of_kinetics_600() -> None:
    first, second, third = (class_list("kinetics600").side(f"er{run}", "test", half) for run in (1, 2, 3))
    assert (first[0], first[55], first[128], first[159]) == (
        "acting in play", "jumping bicycle", "smoking pipe", "yarn spinning",
    )  # fmt: skip
    assert (second[18], second[96], second[159]) == ("chewing gum", "playing scrabble", "winking")
    assert (third[11], third[80], third[159]) == (
        "bouncing on bouncy castle", "needle felting", "wood burning (art)",
    )  # fmt: skip


def test_halves_are_those_of_evaluate() -> None:
    classes = class_list("hmdb51")
    drawn = {classes.classes[index].label for index in half_of_the_classes(51, 10, 0)[3]}
    assert set(classes.side("half:3", "test", half)) == drawn
    assert set(classes.side("half:3", "train", half)) == set(classes.labels.names) - drawn


@pytest.mark.parametrize(
    ("split", "part", "message"),
    [
        ("4", "test", "--split 4: hmdb51 has no such split of its classes; allowed: truze, half:SEED"),
        ("er1", "test", "allowed: truze, half:SEED"),
        ("half:x", "test", "the seed of a half is a number from 0 on, such as half:0"),
        ("half:4294967296", "test", "the seed of a half"),
        ("truze", "val", "--part val: the split truze of hmdb51 has the parts test, train"),
    ],
)
def test_sides_that_are_not_there(split: str, part: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_list("hmdb51").side(split, part, half)


class Flat:
    """Names as vectors in a plane: the angle stands in the name."""

    fingerprint, languages = "flat", ("en",)

    def encode(self, texts: list[str]) -> torch.Tensor:
        angles = torch.deg2rad(torch.tensor([float(text.split()[-1]) for text in texts]))
        return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_the_nearest_test_is_found_by_the_angle_or_by_the_same_letters() -> None:
    classes = LabelSet.from_names(["a 0", "b 60", "sky-diving 40"])
    found = nearest_tests(Flat(), classes, LabelSet.from_names(["x 10", "y 50", "sky diving 90"]))
    assert [tuple(one) for one in found] == [
        ("a 0", "x 10", 0.0152), ("b 60", "y 50", 0.0152), ("sky-diving 40", "y 50", 0.0152),
    ]  # fmt: skip
    same = nearest_tests(Flat(), LabelSet.from_names(["skydiving 40"]), LabelSet.from_names(["sky diving 40", "x 41"]))
    assert [tuple(one) for one in same] == [("skydiving 40", "sky diving 40", 0.0)]


def test_what_the_page_says_is_left_of_kinetics_700() -> None:
    page = (Path(__file__).parents[1] / "docs" / "protocols.md").read_text(encoding="utf-8")
    tests = class_list("ucf101").labels.with_names(class_list("hmdb51").labels)
    nearest = nearest_tests(minilm(), class_list("kinetics700").labels, tests)
    left = [sum(one.distance > within for one in nearest) for within in (0.05, 0.1, 0.2, 0.3)]
    assert f"| Kinetics-700 | UCF101 and HMDB51 | {' | '.join(map(str, left))} |" in page
    distances = {(one.label, one.test): one.distance for one in nearest}
    for label, test in (("hula hooping", "hula hoop"), ("squat", "body weight squats"), ("skipping rope", "jump rope")):
        assert f'{distances[label, test]:.4f} from "{test}"' in " ".join(page.split())
