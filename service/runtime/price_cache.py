"""What does hardware cost right now, as far as the Hub ever told us?

It is asked at most once in some minutes, by one caller for all. While it does not answer the last
good answer counts, which other processes and the ones before us have kept in Postgres.
"""

from datetime import timedelta
from typing import Final

import structlog

from schema.billing import price_store
from schema.billing.pricing import PriceList
from schema.common.async_cache import UNKNOWN, Cache, Kept
from schema.common.errors import HoldfastError, Unavailable
from service.auth.hub_client import HuggingFace
from service.database import Ground

_FRESH: Final = timedelta(minutes=10)
_STALE: Final = timedelta(seconds=30)
"""How long a last good answer counts before the Hub is asked again."""
_ONE: Final = b"hardware"

log = structlog.stdlib.get_logger()


class Prices:
    """Knows the newest price list there is."""

    def __init__(self, hub: HuggingFace, ground: Ground) -> None:
        self._hub = hub
        self._ground = ground
        self._cache: Cache[PriceList | HoldfastError] = Cache(size=1)

    async def current(self) -> PriceList:
        """Return the newest list.

        Raises:
            Unavailable: the Hub has never said.
        """
        answer = await self._cache.get(_ONE, self._read)
        if isinstance(answer, HoldfastError):
            raise answer.with_traceback(None)
        return answer

    async def _read(self) -> Kept[PriceList | HoldfastError]:
        try:
            entries = await self._hub.hardware()
            async with self._ground.transaction() as tx:
                return Kept(PriceList.of(await price_store.keep(tx, entries), stale=False), _FRESH)
        except Unavailable as silence:
            log.warning("prices.unread", why=str(silence))
        try:
            async with self._ground.transaction() as tx:
                answer = await price_store.kept(tx)
        except Unavailable as silence:
            return Kept(silence, UNKNOWN)
        if answer is None:
            return Kept(
                Unavailable(
                    "Hugging Face",
                    so="what hardware there is and what it costs is not known, and nothing was "
                    "launched",
                ),
                UNKNOWN,
            )
        return Kept(PriceList.of(answer, stale=True), _STALE)
