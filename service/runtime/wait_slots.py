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

PATIENCE: Final = timedelta(milliseconds=50)
"""What asking Valkey may cost a wait; past it this process counts by itself."""
_MARGIN: Final = timedelta(seconds=15)
"""How much longer than the wait its entry lives, unless it is taken back."""

_TAKE: Final = """
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
_KEEP: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
"""

Keep = Callable[[], Awaitable[None]]
"""Makes a turn last as long again, from now on."""

log = structlog.stdlib.get_logger()


class Turns:
    """The right to wait, of every subject, as one replica gives it out."""

    def __init__(self, redis: Redis, *, limit: int, patience: timedelta = PATIENCE) -> None:
        self._redis = redis
        self._limit = limit
        self._patience = patience
        self._here: Counter[str] = Counter()

    @asynccontextmanager
    async def one(self, subject_id: str, *, within: timedelta) -> AsyncGenerator[Keep]:
        """Count one more wait of a subject for as long as it lasts, which is `within` so long.

        What lasts longer is kept in time, by calling what this yields.

        Raises:
            TooManyWaits: they have as many under way as they may.
        """
        name = uuid4().hex
        granted = await self._take(subject_id, name, within + _MARGIN)
        if granted is False or (granted is None and self._here[subject_id] >= self._limit):
            raise TooManyWaits(self._limit)
        self._here[subject_id] += 1

        async def keep() -> None:
            if granted:
                await self._keep(subject_id, name, within + _MARGIN)

        try:
            yield keep
        finally:
            self._here[subject_id] -= 1
            if not self._here[subject_id]:
                del self._here[subject_id]
            if granted:
                await self._give_back(subject_id, name)

    async def _take(self, subject_id: str, name: str, life: timedelta) -> bool | None:
        """Ask Valkey; none if it does not answer."""
        milliseconds = round(life.total_seconds() * 1000)
        arguments: Any = (1, _key(subject_id), name, self._limit, milliseconds)
        try:
            with anyio.fail_after(self._patience.total_seconds()):
                # Redis 5 types every script as one that returns text.
                return bool(await cast("Awaitable[int]", self._redis.eval(_TAKE, *arguments)))
        except (RedisError, OSError) as error:
            log.warning("turns.valkey_missed", error=type(error).__name__)
            return None

    async def _keep(self, subject_id: str, name: str, life: timedelta) -> None:
        milliseconds = round(life.total_seconds() * 1000)
        arguments: Any = (1, _key(subject_id), name, milliseconds)
        with anyio.move_on_after(self._patience.total_seconds()):
            try:
                await cast("Awaitable[None]", self._redis.eval(_KEEP, *arguments))
            except (RedisError, OSError) as error:
                log.warning("turns.valkey_missed", error=type(error).__name__)

    async def _give_back(self, subject_id: str, name: str) -> None:
        # Also when the client has gone; what cannot be given back lapses.
        with anyio.move_on_after(self._patience.total_seconds(), shield=True):
            try:
                await cast("Awaitable[int]", self._redis.zrem(_key(subject_id), name))
            except (RedisError, OSError) as error:
                log.warning("turns.valkey_missed", error=type(error).__name__)


@asynccontextmanager
async def turns(url: str, *, limit: int) -> AsyncGenerator[Turns]:
    """Count in the Valkey at `url`, which may come later, or never."""
    async with messaging_redis.connections(url) as redis:
        yield Turns(redis, limit=limit)


def _key(subject_id: str) -> str:
    return f"holdfast:waits:{subject_id}"
