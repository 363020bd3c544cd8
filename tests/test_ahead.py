"""The next item is made while one is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from zsar_cli.store.ahead import one_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_all_items_come_in_order(count: int) -> None:
    assert list(one_ahead(iter(range(count)))) == list(range(count))


def test_the_next_item_is_made_while_one_is_used_and_no_more() -> None:
    made = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(made):
            event.set()
            yield number

    for number in one_ahead(items()):
        if number + 1 < len(made):
            assert made[number + 1].wait(10)
        assert not any(event.is_set() for event in made[number + 2 :])


def test_an_error_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 0
        raise KeyError("next")

    found = []
    with pytest.raises(KeyError, match="next"):
        for item in one_ahead(items()):
            found.append(item)
    assert found == [0]


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = one_ahead(iter(range(100)))
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before
