"""Amounts of money: counted in millionths of a dollar, shown in dollars."""

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from typing import Final

_MICRO_USD_PER_USD: Final = 1_000_000
_CENT: Final = Decimal("0.01")
_MICRO_USD: Final = Decimal("0.000001")
_SIGNIFICANT_DIGITS: Final = 2
"""Of an amount below one cent."""


def to_usd(micro_usd: int) -> float:
    """Convert an amount to dollars, for JSON."""
    return micro_usd / _MICRO_USD_PER_USD


def to_micro_usd(dollars: float | Decimal) -> int:
    """Convert an amount of dollars that a person wrote; less than a millionth is cut off."""
    return int(Decimal(str(dollars)) * _MICRO_USD_PER_USD)


def format_usd(micro_usd: int, *, is_bound: bool = False) -> str:
    """Write an amount for a sentence: `$0.30`, below one cent `$0.0042`.

    Args:
        is_bound: The sentence says that something costs so much at most. The amount is rounded up,
            or the sentence would not be true; any other amount is rounded to the nearest.
    """
    amount = Decimal(micro_usd) / _MICRO_USD_PER_USD
    rounded = amount.quantize(_unit(amount), ROUND_CEILING if is_bound else ROUND_HALF_UP)
    return f"${rounded.quantize(_unit(rounded))}"  # $0.0099996 has become $0.01


def _unit(amount: Decimal) -> Decimal:
    """Return the smallest step in which an amount is written."""
    if not amount or abs(amount) >= _CENT:
        return _CENT
    return max(Decimal(1).scaleb(amount.adjusted() + 1 - _SIGNIFICANT_DIGITS), _MICRO_USD)
