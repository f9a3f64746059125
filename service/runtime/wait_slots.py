"""Concurrency limit of the waits of a subject, over all replicas.

Each wait is an entry in Valkey that expires by itself a little after the wait must have ended: the
entries of a killed process are soon gone, and only a stream, which has no end, renews its entry.
While Valkey is away, each process counts its own waits.
"""

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from schema.common.errors import TooManyWaits
from schema.messaging.redis import RedisCircuitBreaker, open_redis

VALKEY_TIMEOUT: Final = timedelta(milliseconds=50)
"""How long a wait may be delayed by Valkey; then this process counts by itself."""
_EXPIRY_MARGIN: Final = timedelta(seconds=15)
"""How much longer than the wait its entry lasts, unless it is removed."""

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

# An entry that was flushed, or has expired, is put back: whoever has a slot keeps it, even above
# the limit.
_RENEW_SCRIPT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
"""

RenewSlot = Callable[[], Awaitable[None]]
"""Makes the slot last for its duration again, from now on."""

_AnswerT = TypeVar("_AnswerT")

log = structlog.stdlib.get_logger()


class WaitSlots:
    """Grants the slots to wait, for one replica."""

    def __init__(
        self, redis: Redis, *, limit: int, valkey_timeout: timedelta = VALKEY_TIMEOUT
    ) -> None:
        self._redis = redis
        self._limit = limit
        # No pause after a failure: a request waits for seconds, and asks two or three times.
        self._breaker = RedisCircuitBreaker(timeout=valkey_timeout, retry_after=timedelta(0))
        self._local_counts: Counter[str] = Counter()

    @asynccontextmanager
    async def acquire(self, subject_id: str, *, duration: timedelta) -> AsyncGenerator[RenewSlot]:
        """Hold a slot of a subject for the length of the block.

        Args:
            subject_id: whose wait it is.
            duration: how long the wait takes at most. For a longer one, call what this yields
                before the duration is over, again and again.

        Raises:
            TooManyWaits: all slots of the subject are taken.
        """
        slot_id = uuid4().hex
        granted = await self._acquire_in_valkey(subject_id, slot_id, duration + _EXPIRY_MARGIN)
        if granted is False or (granted is None and self._local_counts[subject_id] >= self._limit):
            raise TooManyWaits(self._limit)
        self._local_counts[subject_id] += 1

        async def renew() -> None:
            if granted:
                await self._renew_in_valkey(subject_id, slot_id, duration + _EXPIRY_MARGIN)

        try:
            yield renew
        finally:
            self._local_counts[subject_id] -= 1
            if not self._local_counts[subject_id]:
                del self._local_counts[subject_id]
            if granted:
                await self._release_in_valkey(subject_id, slot_id)

    async def _acquire_in_valkey(
        self, subject_id: str, slot_id: str, lifetime: timedelta
    ) -> bool | None:
        """Add an entry if there is room; None if Valkey does not answer."""
        arguments: Any = (1, _redis_key(subject_id), slot_id, self._limit, _milliseconds(lifetime))
        # Redis 5 types every script as one that returns text.
        count = await self._ask_valkey(
            lambda: cast("Awaitable[int]", self._redis.eval(_ACQUIRE_SCRIPT, *arguments))
        )
        return None if count is None else bool(count)

    async def _renew_in_valkey(self, subject_id: str, slot_id: str, lifetime: timedelta) -> None:
        arguments: Any = (1, _redis_key(subject_id), slot_id, _milliseconds(lifetime))
        await self._ask_valkey(
            lambda: cast("Awaitable[None]", self._redis.eval(_RENEW_SCRIPT, *arguments))
        )

    async def _release_in_valkey(self, subject_id: str, slot_id: str) -> None:
        # Also when the client has gone. An entry that cannot be removed expires.
        with anyio.CancelScope(shield=True):
            await self._ask_valkey(
                lambda: cast("Awaitable[int]", self._redis.zrem(_redis_key(subject_id), slot_id))
            )

    async def _ask_valkey(self, command: Callable[[], Awaitable[_AnswerT]]) -> _AnswerT | None:
        """Run a command; None if Valkey does not answer."""
        try:
            return await self._breaker.call(command)
        except (RedisError, OSError) as error:
            log.warning("turns.valkey_missed", error=type(error).__name__)
            return None


@asynccontextmanager
async def open_wait_slots(redis_url: str, *, limit: int) -> AsyncGenerator[WaitSlots]:
    """Open wait slots on a Valkey that may come up later, or never."""
    async with open_redis(redis_url) as redis:
        yield WaitSlots(redis, limit=limit)


def _redis_key(subject_id: str) -> str:
    return f"holdfast:waits:{subject_id}"


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
