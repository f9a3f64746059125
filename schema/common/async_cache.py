"""A cache that loads each value once for all callers who want it at the same time."""

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
    """A value, and how long it may be used."""

    value: V
    lifetime: timedelta


class AsyncCache(Generic[V]):
    """Keeps the values that were used last; one caller at a time loads a key."""

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._entries: OrderedDict[bytes, tuple[V, float]] = OrderedDict()
        """Each value, and the monotonic time at which it expires."""
        # Weak: a lock is freed with the last caller who holds it or waits for it.
        self._locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def get_or_load(self, key: bytes, load: Callable[[], Awaitable[CacheEntry[V]]]) -> V:
        """Return the kept value, or load it; callers who come meanwhile get the same value."""
        if (fresh := self._get_fresh(key)) is not None:
            return fresh[0]
        return await self._load_once(key, load)

    async def reload(self, key: bytes, load: Callable[[], Awaitable[CacheEntry[V]]]) -> V:
        """Load a value although one is kept; callers who come meanwhile get the new one."""
        if key not in self._locks:
            self._entries.pop(key, None)
        return await self._load_once(key, load)

    async def _load_once(self, key: bytes, load: Callable[[], Awaitable[CacheEntry[V]]]) -> V:
        async with self._locks.setdefault(key, asyncio.Lock()):
            if (fresh := self._get_fresh(key)) is not None:
                return fresh[0]
            loaded = await load()
            self._store(key, loaded)
            return loaded.value

    def _get_fresh(self, key: bytes) -> tuple[V, float] | None:
        entry = self._entries.get(key)
        if entry is None or entry[1] <= time.monotonic():
            return None
        self._entries.move_to_end(key)
        return entry

    def _store(self, key: bytes, entry: CacheEntry[V]) -> None:
        self._entries[key] = (entry.value, time.monotonic() + entry.lifetime.total_seconds())
        self._entries.move_to_end(key)
        if len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
