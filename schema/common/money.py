"""How money is counted, in millionths of a dollar, and shown, in dollars."""

from decimal import Decimal
from typing import Final

_MICRO_USD_PER_USD: Final = 1_000_000
_MIN_DECIMALS: Final = 2


def to_usd(micro_usd: int) -> float:
    """Give an amount in dollars, as JSON has it."""
    return micro_usd / _MICRO_USD_PER_USD


def to_micro_usd(dollars: float | Decimal) -> int:
    """Count an amount of dollars that a person wrote; what is smaller than a millionth is none."""
    return int(Decimal(str(dollars)) * _MICRO_USD_PER_USD)


def format_usd(micro_usd: int) -> str:
    """Write an amount: `$0.30`, `$0.00501`."""
    whole, decimals = f"{micro_usd / _MICRO_USD_PER_USD:.6f}".rstrip("0").split(".")
    return f"${whole}.{decimals.ljust(_MIN_DECIMALS, '0')}"
