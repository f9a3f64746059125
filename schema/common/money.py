"""How money is counted, in millionths of a dollar, and shown, in dollars."""

from decimal import Decimal
from typing import Final

_MICRO: Final = 1_000_000
_CENTS: Final = 2


def usd(micro_usd: int) -> float:
    """Give an amount in dollars, as JSON has it."""
    return micro_usd / _MICRO


def micro(dollars: float | Decimal) -> int:
    """Count an amount of dollars that a person wrote; what is smaller than a millionth is none."""
    return int(Decimal(str(dollars)) * _MICRO)


def say_usd(micro_usd: int) -> str:
    """Write an amount: `$0.30`, `$0.00501`."""
    whole, decimals = f"{micro_usd / _MICRO:.6f}".rstrip("0").split(".")
    return f"${whole}.{decimals.ljust(_CENTS, '0')}"
