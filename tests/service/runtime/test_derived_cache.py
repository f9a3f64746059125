"""What was made of one source is never shown for another, nor for another choice."""

import pytest

from service.runtime.derived_cache import DerivedCache


class PriceList:
    """A source that equals every other one of the same price."""

    def __init__(self, price: int) -> None:
        self.price = price

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PriceList) and other.price == self.price

    def __hash__(self) -> int:
        return self.price


def make_text(prices: PriceList) -> list[int]:
    """Make something that can be told from its equal."""
    return [prices.price]


def test_a_value_is_made_once_for_each_key() -> None:
    """The second caller gets the object of the first."""
    cache: DerivedCache[PriceList, list[int]] = DerivedCache(max_values=5)
    prices = PriceList(1)

    first = cache.get_or_make(prices, ("cheap", True), make_text)

    assert cache.get_or_make(prices, ("cheap", True), make_text) is first
    assert cache.get_or_make(prices, ("cheap", False), make_text) is not first


def test_another_source_brings_other_values() -> None:
    """Also one that looks the same: it may have been read later."""
    cache: DerivedCache[PriceList, list[int]] = DerivedCache(max_values=5)
    first = cache.get_or_make(PriceList(1), None, make_text)

    assert cache.get_or_make(PriceList(1), None, make_text) is not first
    assert cache.get_or_make(PriceList(2), None, make_text) == [2]


def test_the_oldest_value_makes_room() -> None:
    """Callers choose the keys, and there is no end of prices."""
    cache: DerivedCache[PriceList, list[int]] = DerivedCache(max_values=2)
    prices = PriceList(1)
    values = [cache.get_or_make(prices, key, make_text) for key in range(3)]

    assert cache.get_or_make(prices, 2, make_text) is values[2]
    assert cache.get_or_make(prices, 1, make_text) is values[1]
    assert cache.get_or_make(prices, 0, make_text) is not values[0]


def test_a_failure_is_not_kept() -> None:
    """The next caller tries again."""
    cache: DerivedCache[PriceList, list[int]] = DerivedCache(max_values=2)
    prices = PriceList(1)

    def fail(_: PriceList) -> list[int]:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        cache.get_or_make(prices, None, fail)

    assert cache.get_or_make(prices, None, make_text) == [1]
