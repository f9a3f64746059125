"""How is a slow question asked once for everybody who wants its answer right now?"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Generic, TypeVar
from weakref import WeakValueDictionary

V = TypeVar("V")

UNAVAILABLE_TTL: Final = timedelta(seconds=1)
"""How long the answer counts that the source, or our database, is not available."""


@dataclass(frozen=True, slots=True)
class CacheEntry(Generic[V]):
    """An answer, and how long it may be believed."""

    value: V
    lifetime: timedelta


class AsyncCache(Generic[V]):
    """Keeps the answers that were used last; each key is asked for by one caller at a time."""

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, tuple[V, float]] = OrderedDict()
        # Weak: a lock goes with the last caller who holds it or waits for it.
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def get_or_load(self, key: bytes, load: Callable[[], Awaitable[CacheEntry[V]]]) -> V:
        """Return the kept answer, or ask; whoever comes meanwhile gets the same answer."""
        if (known := self._get_fresh(key)) is not None:
            return known[0]
        return await self._load_once(key, load)

    async def reload(self, key: bytes, load: Callable[[], Awaitable[CacheEntry[V]]]) -> V:
        """Ask again although an answer is kept; whoever comes meanwhile gets the new one."""
        if key not in self._locks:
            self._entries.pop(key, None)
        return await self._load_once(key, load)

    async def _load_once(self, key: bytes, load: Callable[[], Awaitable[CacheEntry[V]]]) -> V:
        async with self._locks.setdefault(key, asyncio.Lock()):
            if (known := self._get_fresh(key)) is not None:
                return known[0]
            answer = await load()
            self._store(key, answer)
            return answer.value

    def _get_fresh(self, key: bytes) -> tuple[V, float] | None:
        known = self._entries.get(key)
        if known is None or known[1] <= time.monotonic():
            return None
        self._entries.move_to_end(key)
        return known

    def _store(self, key: bytes, entry: CacheEntry[V]) -> None:
        self._entries[key] = (entry.value, time.monotonic() + entry.lifetime.total_seconds())
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
