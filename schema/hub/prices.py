"""The current price list: from Postgres if it is young enough, otherwise from the Hub.

While the Hub does not answer, the last good answer counts. It is stored in Postgres, so that other
processes and later ones have it too.
"""

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

import structlog

from schema.billing import price_store
from schema.billing.pricing import HardwarePrices
from schema.db.database import Transaction
from schema.hub.client import HubClient, HubError

log = structlog.stdlib.get_logger()


class TransactionSource(Protocol):
    """What opens transactions: the database of either process."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open one that commits on a clean exit."""
        ...


async def load_current_prices(
    database: TransactionSource, hub: HubClient, *, max_age: timedelta
) -> HardwarePrices | None:
    """Load the price list, and store it if the Hub has just sent it.

    The Hub is asked if the stored list is older than `max_age`; zero always asks.

    Returns:
        The list, marked as stale if the Hub should have been asked and did not answer; None if it
        has never answered.

    Raises:
        Unavailable: the database cannot be reached.
    """
    async with database.transaction() as tx:
        stored = await price_store.load_price_list(tx)
        if stored is not None and await price_store.is_price_list_younger(tx, max_age):
            return HardwarePrices.from_stored(stored, is_stale=False)
    try:
        entries = await hub.fetch_hardware()
    except HubError as error:
        log.warning("prices.unread", why=str(error))
        return None if stored is None else HardwarePrices.from_stored(stored, is_stale=True)
    async with database.transaction() as tx:
        return HardwarePrices.from_stored(
            await price_store.save_price_list(tx, entries), is_stale=False
        )
