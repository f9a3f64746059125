"""What does hardware cost right now, as far as the Hub ever told us?

It is asked at most once in some minutes, by one caller for all. While it does not answer the last
good answer counts, which other processes and the ones before us have kept in Postgres.
"""

from datetime import timedelta
from typing import Final

import structlog

from schema.billing import price_store
from schema.billing.pricing import HardwarePrices
from schema.common.async_cache import UNAVAILABLE_TTL, AsyncCache, CacheEntry
from schema.common.errors import HoldfastError, Unavailable
from service.auth.hub_client import HubAccountClient
from service.database import TenantDatabase

_FRESH_LIFETIME: Final = timedelta(minutes=10)
_STALE_LIFETIME: Final = timedelta(seconds=30)
"""How long a last good answer counts before the Hub is asked again."""
_CACHE_KEY: Final = b"hardware"

log = structlog.stdlib.get_logger()


class PriceCache:
    """Knows the newest price list there is."""

    def __init__(self, hub: HubAccountClient, database: TenantDatabase) -> None:
        self._hub = hub
        self._database = database
        self._cache: AsyncCache[HardwarePrices | HoldfastError] = AsyncCache(max_entries=1)

    async def current(self) -> HardwarePrices:
        """Return the newest list.

        Raises:
            Unavailable: the Hub has never said.
        """
        answer = await self._cache.get_or_load(_CACHE_KEY, self._load)
        if isinstance(answer, HoldfastError):
            raise answer.with_traceback(None)
        return answer

    async def _load(self) -> CacheEntry[HardwarePrices | HoldfastError]:
        try:
            entries = await self._hub.fetch_hardware()
            async with self._database.transaction() as tx:
                return CacheEntry(
                    HardwarePrices.from_stored(
                        await price_store.save_price_list(tx, entries), is_stale=False
                    ),
                    _FRESH_LIFETIME,
                )
        except Unavailable as silence:
            log.warning("prices.unread", why=str(silence))
        try:
            async with self._database.transaction() as tx:
                answer = await price_store.load_price_list(tx)
        except Unavailable as silence:
            return CacheEntry(silence, UNAVAILABLE_TTL)
        if answer is None:
            return CacheEntry(
                Unavailable(
                    "Hugging Face",
                    effect="what hardware there is and what it costs is not known, and nothing was "
                    "launched",
                ),
                UNAVAILABLE_TTL,
            )
        return CacheEntry(HardwarePrices.from_stored(answer, is_stale=True), _STALE_LIFETIME)
