"""How many waits may a subject have under way? As many as the setting says, over all replicas.

Each wait is an entry in Valkey that lapses by itself, a little after the wait must be over: what a
killed process leaves behind is soon forgotten, and only what has no end is renewed. While Valkey is
away each process counts for itself.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, cast
from uuid import uuid4

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from schema.common.errors import TooManyWaits
from schema.messaging import redis as messaging_redis

VALKEY_TIMEOUT: Final = timedelta(milliseconds=50)
"""What asking Valkey may cost a wait; past it this process counts by itself."""
_EXPIRY_MARGIN: Final = timedelta(seconds=15)
"""How much longer than the wait its entry lives, unless it is taken back."""

_ACQUIRE_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then
  return 0
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
"""

# What was flushed, or has lapsed, is put back: who has a turn keeps it, even above the limit.
_RENEW_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
"""

RenewSlot = Callable[[], Awaitable[None]]
"""Makes a turn last as long again, from now on."""

log = structlog.stdlib.get_logger()


class WaitSlots:
    """The right to wait, of every subject, as one replica gives it out."""

    def __init__(
        self, redis: Redis, *, limit: int, valkey_timeout: timedelta = VALKEY_TIMEOUT
    ) -> None:
        self._redis = redis
        self._limit = limit
        self._valkey_timeout = valkey_timeout
        self._local_counts: Counter[str] = Counter()

    @asynccontextmanager
    async def acquire(self, subject_id: str, *, duration: timedelta) -> AsyncGenerator[RenewSlot]:
        """Count one more wait of a subject for as long as it lasts, which is `within` so long.

        What lasts longer is kept in time, by calling what this yields.

        Raises:
            TooManyWaits: they have as many under way as they may.
        """
        name = uuid4().hex
        granted = await self._acquire_in_valkey(subject_id, name, duration + _EXPIRY_MARGIN)
        if granted is False or (granted is None and self._local_counts[subject_id] >= self._limit):
            raise TooManyWaits(self._limit)
        self._local_counts[subject_id] += 1

        async def keep() -> None:
            if granted:
                await self._renew_in_valkey(subject_id, name, duration + _EXPIRY_MARGIN)

        try:
            yield keep
        finally:
            self._local_counts[subject_id] -= 1
            if not self._local_counts[subject_id]:
                del self._local_counts[subject_id]
            if granted:
                await self._release_in_valkey(subject_id, name)

    async def _acquire_in_valkey(
        self, subject_id: str, name: str, lifetime: timedelta
    ) -> bool | None:
        """Ask Valkey; none if it does not answer."""
        milliseconds = round(lifetime.total_seconds() * 1000)
        arguments: Any = (1, _redis_key(subject_id), name, self._limit, milliseconds)
        try:
            with anyio.fail_after(self._valkey_timeout.total_seconds()):
                # Redis 5 types every script as one that returns text.
                return bool(
                    await cast("Awaitable[int]", self._redis.eval(_ACQUIRE_SCRIPT, *arguments))
                )
        except (RedisError, OSError) as error:
            log.warning("turns.valkey_missed", error=type(error).__name__)
            return None

    async def _renew_in_valkey(self, subject_id: str, name: str, lifetime: timedelta) -> None:
        milliseconds = round(lifetime.total_seconds() * 1000)
        arguments: Any = (1, _redis_key(subject_id), name, milliseconds)
        with anyio.move_on_after(self._valkey_timeout.total_seconds()):
            try:
                await cast("Awaitable[None]", self._redis.eval(_RENEW_SCRIPT, *arguments))
            except (RedisError, OSError) as error:
                log.warning("turns.valkey_missed", error=type(error).__name__)

    async def _release_in_valkey(self, subject_id: str, name: str) -> None:
        # Also when the client has gone; what cannot be given back lapses.
        with anyio.move_on_after(self._valkey_timeout.total_seconds(), shield=True):
            try:
                await cast("Awaitable[int]", self._redis.zrem(_redis_key(subject_id), name))
            except (RedisError, OSError) as error:
                log.warning("turns.valkey_missed", error=type(error).__name__)


@asynccontextmanager
async def open_wait_slots(redis_url: str, *, limit: int) -> AsyncGenerator[WaitSlots]:
    """Count in the Valkey at `url`, which may come later, or never."""
    async with messaging_redis.open_redis(redis_url) as redis:
        yield WaitSlots(redis, limit=limit)


def _redis_key(subject_id: str) -> str:
    return f"holdfast:waits:{subject_id}"
