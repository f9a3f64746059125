"""Amounts in sentences: cents, unless there is less than one (`common/money`)."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schema.common.money import format_usd

AMOUNTS = st.integers(0, 10**12)


@pytest.mark.parametrize(
    ("micro_usd", "shown", "bound"),
    [
        (0, "$0.00", "$0.00"),
        (1, "$0.000001", "$0.000001"),
        (167, "$0.00017", "$0.00017"),
        (4_200, "$0.0042", "$0.0042"),
        (4_210, "$0.0042", "$0.0043"),
        (5_000, "$0.0050", "$0.0050"),
        (9_996, "$0.01", "$0.01"),
        (10_000, "$0.01", "$0.01"),
        (33_334, "$0.03", "$0.04"),
        (300_000, "$0.30", "$0.30"),
        (500_010, "$0.50", "$0.51"),
        (1_234_567_890, "$1234.57", "$1234.57"),
    ],
)
def test_an_amount_is_shown_in_cents_or_in_two_digits_of_less(
    micro_usd: int, shown: str, bound: str
) -> None:
    """Nobody pays in millionths, and a price a minute of $0.00 would be no price."""
    assert format_usd(micro_usd) == shown
    assert format_usd(micro_usd, is_bound=True) == bound


@given(AMOUNTS)
def test_what_it_costs_at_most_is_never_less_than_what_it_costs(micro_usd: int) -> None:
    """A sentence that says "at most" stays true."""
    shown = Decimal(format_usd(micro_usd, is_bound=True).removeprefix("$"))

    assert shown * 1_000_000 >= micro_usd
    assert shown * 1_000_000 - micro_usd < 10_000


@given(AMOUNTS)
def test_an_amount_that_is_owed_is_never_shown_as_nothing(micro_usd: int) -> None:
    """Zero is written for zero only."""
    assert (Decimal(format_usd(micro_usd).removeprefix("$")) == 0) == (micro_usd == 0)
