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

BELIEVED: Final = timedelta(seconds=60)
"""How long a good token is believed at most."""
DISBELIEVED: Final = timedelta(seconds=5)
UNKNOWN: Final = timedelta(seconds=1)
"""How long nobody asks again after whoever should know, or our database, did not answer."""
REMEMBERED: Final = 10_000
"""Tokens; any number of made-up ones fits into the same memory."""


@dataclass(frozen=True, slots=True)
class Kept(Generic[V]):
    """An answer, and how long it may be believed."""

    value: V
    lifetime: timedelta


class Cache(Generic[V]):
    """Keeps the answers that were used last; each key is asked for by one caller at a time."""

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[bytes, tuple[V, float]] = OrderedDict()
        # Weak: a lock goes with the last caller who holds it or waits for it.
        self._asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def get(self, key: bytes, ask: Callable[[], Awaitable[Kept[V]]]) -> V:
        """Return the kept answer, or ask; whoever comes meanwhile gets the same answer."""
        if (known := self._fresh(key)) is not None:
            return known[0]
        return await self._ask(key, ask)

    async def renew(self, key: bytes, ask: Callable[[], Awaitable[Kept[V]]]) -> V:
        """Ask again although an answer is kept; whoever comes meanwhile gets the new one."""
        if key not in self._asking:
            self._kept.pop(key, None)
        return await self._ask(key, ask)

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[Kept[V]]]) -> V:
        async with self._asking.setdefault(key, asyncio.Lock()):
            if (known := self._fresh(key)) is not None:
                return known[0]
            answer = await ask()
            self._keep(key, answer)
            return answer.value

    def _fresh(self, key: bytes) -> tuple[V, float] | None:
        known = self._kept.get(key)
        if known is None or known[1] <= time.monotonic():
            return None
        self._kept.move_to_end(key)
        return known

    def _keep(self, key: bytes, answer: Kept[V]) -> None:
        self._kept[key] = (answer.value, time.monotonic() + answer.lifetime.total_seconds())
        self._kept.move_to_end(key)
        if len(self._kept) > self._size:
            self._kept.popitem(last=False)
