"""How often may a subject call? As often as the setting says, over all replicas together.

    take ──▶ Valkey, in one round trip ──absent, or silent for 50 ms──▶ Postgres ──away──▶ let go

Both count alike, in the two windows of `schema.accounts.call_counts`, each by its own clock.
Neither knows what
the other counted, so each time one takes over, or is flushed, one window at most is forgiven.
"""

import hashlib
import math
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self, cast

import anyio
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from schema.accounts import call_counts
from schema.accounts.call_counts import Count
from schema.common.durations import whole_seconds
from schema.common.errors import RateLimited, Unavailable
from schema.messaging import redis as messaging_redis
from service.database import Ground

PATIENCE: Final = timedelta(milliseconds=50)
"""What asking Valkey may cost a call; past it Postgres decides."""
_QUIET: Final = timedelta(seconds=1)
"""How long a Valkey that failed is left alone; then one call tries it again."""
_TRUSTED: Final = -math.inf

# Whoever is refused is not counted, or a client that insists would never be let in again.
_TAKE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local length, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local window, past = math.floor(now / length), now % length
local kept = redis.call('HMGET', KEYS[1], 'window', 'calls', 'before')
local calls, before = 0, 0
if tonumber(kept[1]) == window then
  calls, before = kept[2] + 0, kept[3] + 0
elseif tonumber(kept[1]) == window - 1 then
  before = kept[2] + 0
end
local granted = calls + 1 + before * (1 - past / length) <= limit
if granted then
  calls = calls + 1
  redis.call('HSET', KEYS[1], 'window', window, 'calls', calls, 'before', before)
  redis.call('PEXPIRE', KEYS[1], 2 * length)
end
return {granted and 1 or 0, calls, before, past}
"""
_SHA: Final = hashlib.sha1(_TAKE.encode(), usedforsecurity=False).hexdigest()
"""The name Valkey gives that script."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class Standing:
    """What a subject has left after a call."""

    limit: int
    """Calls in a window; 0 if nothing is counted."""
    remaining: int
    resets_in: timedelta
    """When the window ends; if nothing remains, when one call will be granted again."""
    window: timedelta = timedelta(minutes=1)
    refused: bool = False

    @classmethod
    def of(cls, count: Count, *, limit: int, window: timedelta) -> Self:
        """Read a count."""
        left = limit - count.calls - count.before * (1 - count.past)
        remaining = max(0, math.floor(left)) if count.granted else 0
        until = 1 - count.past if remaining else _wait(count, limit)
        return cls(limit, remaining, window * until, window, refused=not count.granted)

    @classmethod
    def of_refusal(cls, refusal: RateLimited) -> Self:
        """Say what is left to whoever was refused: nothing."""
        return cls(refusal.limit, 0, refusal.retry_after, refusal.window, refused=True)

    def headers(self) -> dict[str, str]:
        """Write the fields of draft-ietf-httpapi-ratelimit-headers, and Retry-After if refused."""
        if not self.limit:
            return {}
        seconds = whole_seconds(self.resets_in)
        fields = {
            "ratelimit-policy": f'"calls";q={self.limit};w={whole_seconds(self.window)}',
            "ratelimit": f'"calls";r={self.remaining};t={seconds}',
        }
        return fields | {"retry-after": str(seconds)} if self.refused else fields


UNCOUNTED: Final = Standing(0, 0, timedelta(0))
"""What is said where there is no limit, or nobody who could count."""


class Limits:
    """The limits of every subject, as one replica keeps them."""

    def __init__(
        self,
        redis: Redis,
        ground: Ground,
        *,
        limit: int,
        window: timedelta = timedelta(minutes=1),
        patience: timedelta = PATIENCE,
    ) -> None:
        self._redis = redis
        self._ground = ground
        self._limit = limit
        self._window = window
        self._patience = patience
        self._quiet_until = _TRUSTED
        self._told = False

    async def take(self, subject_id: str) -> Standing:
        """Count one more call of a subject.

        Raises:
            RateLimited: there were too many of late; this one is not counted.
        """
        if not self._limit:
            return UNCOUNTED
        count = await self._by_valkey(subject_id) or await self._by_postgres(subject_id)
        if count is None:
            return UNCOUNTED
        self._told = False
        standing = Standing.of(count, limit=self._limit, window=self._window)
        if standing.refused:
            raise RateLimited(
                limit=self._limit, window=self._window, retry_after=standing.resets_in
            )
        return standing

    async def _by_valkey(self, subject_id: str) -> Count | None:
        now = anyio.current_time()
        if now < self._quiet_until:
            return None
        if self._quiet_until != _TRUSTED:
            # One call finds out whether it is back; the others do not wait for the answer.
            self._quiet_until = now + _QUIET.total_seconds()
        try:
            with anyio.fail_after(self._patience.total_seconds()):
                count = await self._ask(subject_id)
        except (RedisError, OSError) as error:
            self._quiet_until = anyio.current_time() + _QUIET.total_seconds()
            log.warning("limits.valkey_missed", error=type(error).__name__)
            return None
        self._quiet_until = _TRUSTED
        return count

    async def _ask(self, subject_id: str) -> Count:
        length = round(self._window.total_seconds() * 1000)
        arguments: Any = (1, f"holdfast:calls:{subject_id}", length, self._limit)
        try:
            answer = await _numbers(self._redis.evalsha(_SHA, *arguments))
        except NoScriptError:
            answer = await _numbers(self._redis.eval(_TAKE, *arguments))
        granted, made, before, past = answer
        return Count(bool(granted), made, before, past / length)

    async def _by_postgres(self, subject_id: str) -> Count | None:
        try:
            async with self._ground.acting_for(subject_id) as (tx, _):
                return await call_counts.take(
                    tx, subject_id, limit=self._limit, window=self._window
                )
        except Unavailable as error:
            # The call needs Postgres too, and will say in its own words that it is away.
            if not self._told:
                log.error("limits.not_kept", why=str(error))  # noqa: TRY400  # a sentence, not a bug
            self._told = True
            return None


@asynccontextmanager
async def limits(url: str, ground: Ground, *, calls_per_minute: int) -> AsyncGenerator[Limits]:
    """Keep limits in the Valkey at `url`, which may come later, or never."""
    async with messaging_redis.connections(url) as redis:
        yield Limits(redis, ground, limit=calls_per_minute)


def _numbers(answer: object) -> Awaitable[list[int]]:
    # Redis 5 types every script as one that returns text, sometimes without waiting for it.
    return cast("Awaitable[list[int]]", answer)


def _wait(count: Count, limit: int) -> float:
    """Return in how many windows one more call will be within the limit."""
    room = limit - 1 - count.calls
    if room < 0:
        # The calls of this window have to grow old in the next.
        return max(0.0, 1 - count.past + 1 - (limit - 1) / count.calls)
    if room >= count.before * (1 - count.past):
        return 0.0
    return 1 - room / count.before - count.past
