"""What the Hub last said its hardware costs, kept so that a restart needs no Hub."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from schema.db.database import Transaction

_HARDWARE: Final = "hardware"

_KEEP: Final = """
INSERT INTO price_list AS kept (source, entries) VALUES ($1, $2)
ON CONFLICT (source) DO UPDATE SET entries = excluded.entries, read_at = excluded.read_at
RETURNING read_at
"""

_KEPT: Final = "SELECT entries, read_at FROM price_list WHERE source = $1"

_IS_YOUNGER: Final = "SELECT read_at > now() - $2::interval FROM price_list WHERE source = $1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the Hub said, and when."""

    entries: list[dict[str, Any]]
    read_at: datetime


async def keep(tx: Transaction, entries: list[dict[str, Any]]) -> Answer:
    """Keep an answer about hardware in place of the one before."""
    read_at: datetime = await tx.fetchval(_KEEP, _HARDWARE, entries)
    return Answer(entries, read_at)


async def kept(tx: Transaction) -> Answer | None:
    """Return the last answer about hardware, if there ever was one."""
    row = await tx.fetchrow(_KEPT, _HARDWARE)
    return None if row is None else Answer(**row)


async def is_younger(tx: Transaction, age: timedelta) -> bool:
    """Say whether the last answer is younger than this, by the database's clock."""
    return await tx.fetchval(_IS_YOUNGER, _HARDWARE, age) is True
