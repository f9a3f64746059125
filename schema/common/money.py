"""Amounts of money: counted in millionths of a dollar, shown in dollars."""

from decimal import Decimal
from typing import Final

_MICRO_USD_PER_USD: Final = 1_000_000
_MIN_DECIMALS: Final = 2


def to_usd(micro_usd: int) -> float:
    """Convert an amount to dollars, for JSON."""
    return micro_usd / _MICRO_USD_PER_USD


def to_micro_usd(dollars: float | Decimal) -> int:
    """Convert an amount of dollars that a person wrote; less than a millionth is cut off."""
    return int(Decimal(str(dollars)) * _MICRO_USD_PER_USD)


def format_usd(micro_usd: int) -> str:
    """Write an amount: `$0.30`, `$0.00501`."""
    whole, decimals = f"{micro_usd / _MICRO_USD_PER_USD:.6f}".rstrip("0").split(".")
    return f"${whole}.{decimals.ljust(_MIN_DECIMALS, '0')}"
