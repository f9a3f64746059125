"""The Hub's last price list, stored so that a restart needs no Hub."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from schema.db.database import Transaction

_HARDWARE_SOURCE: Final = "hardware"

_SAVE_PRICE_LIST: Final = """
INSERT INTO price_list AS kept (source, entries)
VALUES ($1, $2)
ON CONFLICT (source) DO UPDATE
   SET entries = excluded.entries,
       read_at = excluded.read_at
RETURNING read_at
"""

_LOAD_PRICE_LIST: Final = "SELECT entries, read_at FROM price_list WHERE source = $1"

_IS_PRICE_LIST_YOUNGER: Final = (
    "SELECT read_at > now() - $2::interval FROM price_list WHERE source = $1"
)


@dataclass(frozen=True, slots=True)
class StoredPriceList:
    """The Hub's answer about hardware, and when it was read."""

    entries: list[dict[str, Any]]
    read_at: datetime


async def save_price_list(tx: Transaction, entries: list[dict[str, Any]]) -> StoredPriceList:
    """Replace the stored answer about hardware."""
    read_at: datetime = await tx.fetchval(_SAVE_PRICE_LIST, _HARDWARE_SOURCE, entries)
    return StoredPriceList(entries, read_at)


async def load_price_list(tx: Transaction) -> StoredPriceList | None:
    """Return the last answer about hardware; none if there never was one."""
    row = await tx.fetchrow(_LOAD_PRICE_LIST, _HARDWARE_SOURCE)
    return None if row is None else StoredPriceList(**row)


async def is_price_list_younger(tx: Transaction, age: timedelta) -> bool:
    """Return whether the last answer is younger than this, by the database's clock."""
    return await tx.fetchval(_IS_PRICE_LIST_YOUNGER, _HARDWARE_SOURCE, age) is True
