"""The current price list, cached for some minutes in this process.

One caller at a time asks for all. The Hub is asked first; while it does not answer, the last good
answer in Postgres counts (see `schema.hub.prices`).
"""

from datetime import timedelta
from typing import Final

from mcp_types import CallToolResult

from schema.billing.pricing import HardwarePrices
from schema.common.async_cache import UNAVAILABLE_TTL, AsyncCache, CacheEntry
from schema.common.errors import HoldfastError, Unavailable
from schema.hub.client import HubClient
from schema.hub.prices import load_current_prices
from service.database import TenantDatabase
from service.runtime.derived_cache import DerivedCache

_FRESH_LIFETIME: Final = timedelta(minutes=10)
_STALE_LIFETIME: Final = timedelta(seconds=30)
"""How long a last good answer counts before the Hub is asked again."""
_ALWAYS_ASK_HUB: Final = timedelta(0)
_CACHE_KEY: Final = b"hardware"
_MAX_ANSWERS: Final = 50
"""More than the choices that callers make; each answer has some kilobytes."""


class PriceCache:
    """The newest price list that this process knows."""

    def __init__(self, hub: HubClient, database: TenantDatabase) -> None:
        self._hub = hub
        self._database = database
        self._cache: AsyncCache[HardwarePrices | HoldfastError] = AsyncCache(max_entries=1)
        self.answers: DerivedCache[HardwarePrices, CallToolResult] = DerivedCache(
            max_values=_MAX_ANSWERS
        )
        """Answers that say nothing but prices, by what was asked for."""

    async def current(self) -> HardwarePrices:
        """Return the newest list.

        Raises:
            Unavailable: the Hub has never answered, or the database cannot be reached.
        """
        prices = await self._cache.get_or_load(_CACHE_KEY, self._load)
        if isinstance(prices, HoldfastError):
            raise prices.with_traceback(None)
        return prices

    async def _load(self) -> CacheEntry[HardwarePrices | HoldfastError]:
        try:
            prices = await load_current_prices(self._database, self._hub, max_age=_ALWAYS_ASK_HUB)
        except Unavailable as error:
            return CacheEntry(error, UNAVAILABLE_TTL)
        if prices is None:
            return CacheEntry(
                Unavailable(
                    "Hugging Face",
                    effect="what hardware there is and what it costs is not known, and nothing was "
                    "launched",
                ),
                UNAVAILABLE_TTL,
            )
        return CacheEntry(prices, _STALE_LIFETIME if prices.is_stale else _FRESH_LIFETIME)
