"""Rate limit of the calls of a subject, or of an address without one, over all replicas together.

    call ──▶ Valkey, one round trip ──away, or silent for 50 ms──▶ Postgres ──away──▶ not limited

Both count in the same way, in the two windows of `schema.accounts.call_counts`, each by its own
clock. Neither knows what the other has counted: each time one of them takes over, or is flushed,
the calls of one window at most are forgotten. ADR 19 says why Postgres counts as well.
"""

import hashlib
import ipaddress
import math
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from schema.accounts import call_counts
from schema.accounts.call_counts import CallCount
from schema.common.durations import ceil_to_seconds
from schema.common.errors import AnonymousRateLimited, RateLimited, SignInRateLimited, Unavailable
from schema.messaging.redis import CircuitOpen, RedisCircuitBreaker, open_redis
from service.database import TenantDatabase

VALKEY_TIMEOUT: Final = timedelta(milliseconds=50)
"""How long a call may be delayed by Valkey; then Postgres decides."""
_VALKEY_RETRY_AFTER: Final = timedelta(seconds=1)
"""How long a Valkey that failed is not asked; then one call tries it again."""
_IPV6: Final = 6
_IPV6_NETWORK_BITS: Final = 64
_ADDRESS_HASH_CHARS: Final = 24
_SIGN_INS_PER_ADDRESS: Final = 10
"""How many times the limit of one sign-in counts for all of an address: a team may share it."""

# A refused call is not counted, or a client that repeats it would never be let in again.
_COUNT_SCRIPT: Final = """
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
_COUNT_SCRIPT_SHA1: Final = hashlib.sha1(_COUNT_SCRIPT.encode(), usedforsecurity=False).hexdigest()
"""The name of that script in Valkey."""

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """What is left of the limit of a subject after a call."""

    limit: int
    """Calls in a window; 0 if nothing is counted."""
    remaining: int
    resets_in: timedelta
    """When the window ends; if nothing remains, when the next call will be granted."""
    window: timedelta = timedelta(minutes=1)
    is_refused: bool = False

    @classmethod
    def from_count(cls, count: CallCount, *, limit: int, window: timedelta) -> Self:
        """Read the status from a count."""
        calls_left = limit - count.calls - count.previous_calls * (1 - count.elapsed_fraction)
        remaining = max(0, math.floor(calls_left)) if count.is_allowed else 0
        windows = 1 - count.elapsed_fraction if remaining else _windows_until_granted(count, limit)
        return cls(limit, remaining, window * windows, window, is_refused=not count.is_allowed)

    @classmethod
    def from_refusal(cls, refusal: RateLimited) -> Self:
        """Read the status from a refusal: nothing is left."""
        return cls(refusal.limit, 0, refusal.retry_after, refusal.window, is_refused=True)

    def to_headers(self) -> dict[str, str]:
        """Write the fields of draft-ietf-httpapi-ratelimit-headers, and Retry-After if refused."""
        if not self.limit:
            return {}
        seconds = ceil_to_seconds(self.resets_in)
        fields = {
            "ratelimit-policy": f'"calls";q={self.limit};w={ceil_to_seconds(self.window)}',
            "ratelimit": f'"calls";r={self.remaining};t={seconds}',
        }
        return fields | {"retry-after": str(seconds)} if self.is_refused else fields


UNLIMITED: Final = RateLimitStatus(0, 0, timedelta(0))
"""The status where there is no limit, or neither Valkey nor Postgres can count."""


class RateLimiter:
    """Counts the calls of every subject, for one replica."""

    def __init__(
        self,
        redis: Redis,
        database: TenantDatabase,
        *,
        limit: int,
        window: timedelta = timedelta(minutes=1),
        valkey_timeout: timedelta = VALKEY_TIMEOUT,
    ) -> None:
        self._redis = redis
        self._database = database
        self._limit = limit
        self._window = window
        self._breaker = RedisCircuitBreaker(timeout=valkey_timeout, retry_after=_VALKEY_RETRY_AFTER)
        self._outage_logged = False

    async def count_call(self, subject_id: str, *, share: int = 1) -> RateLimitStatus:
        """Count one more call of a subject.

        Args:
            subject_id: who calls, or what else is counted.
            share: how many times the limit of a subject counts.

        Raises:
            RateLimited: there were too many lately; this one is not counted.
        """
        if not self._limit:
            return UNLIMITED
        limit = self._limit * share
        count = await self._count_in_valkey(subject_id, limit) or await self._count_in_postgres(
            subject_id, limit
        )
        if count is None:
            return UNLIMITED
        self._outage_logged = False
        status = RateLimitStatus.from_count(count, limit=limit, window=self._window)
        if status.is_refused:
            raise RateLimited(limit=limit, window=self._window, retry_after=status.resets_in)
        return status

    async def count_anonymous_call(self, host: str) -> RateLimitStatus:
        """Count one more call of whoever has not signed in; the limit is that of a subject.

        Args:
            host: the address that the request came from.

        Raises:
            RateLimited: there were too many lately from there; this one is not counted.
        """
        try:
            return await self.count_call(hash_address(host))
        except RateLimited as error:
            raise AnonymousRateLimited(
                limit=error.limit, window=error.window, retry_after=error.retry_after
            ) from None

    async def count_sign_in_request(self, host: str) -> RateLimitStatus:
        """Count one more request of a sign-in; the limit is that of a subject, and its own.

        Whoever has used up what an address may do without a sign-in can still sign in.

        Args:
            host: the address that the request came from.

        Raises:
            RateLimited: there were too many lately from there; this one is not counted.
        """
        try:
            return await self.count_call(f"sign-in-{hash_address(host)}")
        except RateLimited as error:
            raise SignInRateLimited(
                limit=error.limit, window=error.window, retry_after=error.retry_after
            ) from None

    async def count_token_request(
        self, host: str, *, grant_id: str | None, client_id: str | None
    ) -> RateLimitStatus:
        """Count one more request for tokens, by what it shows: a grant, a client, or nothing.

        One sign-in may ask as often as one person may call, and the sign-ins of an address some
        times as often. What shows no grant is counted apart from that, so no stranger behind the
        same address keeps anybody from refreshing.

        Args:
            host: the address that the request came from.
            grant_id: of the sign-in whose code or refresh token it holds; None: of no sign-in here.
            client_id: of the client that it names; None: no client of ours.

        Raises:
            RateLimited: there were too many lately; this one is not counted.
        """
        address = hash_address(host)
        if grant_id is not None:
            shown, shared = f"grant-{grant_id}", f"grants-{address}"
        elif client_id is not None:
            # The id of a client is no secret: from elsewhere, nobody uses up what is counted here.
            client = hashlib.sha256(client_id.encode()).hexdigest()[:_ADDRESS_HASH_CHARS]
            shown, shared = f"client-{client}-{address}", f"clients-{address}"
        else:
            return await self.count_sign_in_request(host)
        counted = "One sign-in" if grant_id is not None else "One client without a sign-in"
        try:
            status = await self.count_call(shown)
            counted = "Programs at one address"
            await self.count_call(shared, share=_SIGN_INS_PER_ADDRESS)
        except RateLimited as error:
            raise SignInRateLimited(
                limit=error.limit,
                window=error.window,
                retry_after=error.retry_after,
                counted=counted,
            ) from None
        return status

    async def _count_in_valkey(self, subject_id: str, limit: int) -> CallCount | None:
        try:
            return await self._breaker.call(lambda: self._run_script(subject_id, limit))
        except CircuitOpen:
            return None
        except (RedisError, OSError) as error:
            log.warning("limits.valkey_missed", error=type(error).__name__)
            return None

    async def _run_script(self, subject_id: str, limit: int) -> CallCount:
        window_ms = round(self._window.total_seconds() * 1000)
        arguments: Any = (1, f"holdfast:calls:{subject_id}", window_ms, limit)
        try:
            answer = await _as_numbers(self._redis.evalsha(_COUNT_SCRIPT_SHA1, *arguments))
        except NoScriptError:
            answer = await _as_numbers(self._redis.eval(_COUNT_SCRIPT, *arguments))
        granted, calls, previous_calls, elapsed_ms = answer
        return CallCount(bool(granted), calls, previous_calls, elapsed_ms / window_ms)

    async def _count_in_postgres(self, subject_id: str, limit: int) -> CallCount | None:
        try:
            async with self._database.as_subject(subject_id) as (tx, _):
                return await call_counts.count_call(
                    tx, subject_id, limit=limit, window=self._window
                )
        except Unavailable as error:
            # The call itself needs Postgres as well, and says that it is away.
            if not self._outage_logged:
                log.error("limits.not_kept", why=str(error))  # noqa: TRY400  # a sentence, not a bug
            self._outage_logged = True
            return None


def hash_address(host: str) -> str:
    """Return what the calls of an address are counted under; no subject has such an id.

    An IPv6 address counts as its /64, all of which one machine can have. The address itself is
    stored nowhere.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        network = host  # a socket file has no address
    else:
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        bits = _IPV6_NETWORK_BITS if address.version == _IPV6 else address.max_prefixlen
        network = str(ipaddress.ip_network((address, bits), strict=False))
    return f"address:{hashlib.sha256(network.encode()).hexdigest()[:_ADDRESS_HASH_CHARS]}"


@asynccontextmanager
async def open_rate_limiter(
    redis_url: str, database: TenantDatabase, *, calls_per_minute: int
) -> AsyncGenerator[RateLimiter]:
    """Open a rate limiter on a Valkey that may come up later, or never."""
    async with open_redis(redis_url) as redis:
        yield RateLimiter(redis, database, limit=calls_per_minute)


def _as_numbers(answer: object) -> Awaitable[list[int]]:
    # Redis 5 types every script as one that returns text, and as one that may not be awaited.
    return cast("Awaitable[list[int]]", answer)


def _windows_until_granted(count: CallCount, limit: int) -> float:
    """Return after how many windows one more call will be within the limit."""
    room = limit - 1 - count.calls
    if room < 0:
        # The calls of this window have to lose weight in the next one.
        return max(0.0, 1 - count.elapsed_fraction + 1 - (limit - 1) / count.calls)
    if room >= count.previous_calls * (1 - count.elapsed_fraction):
        return 0.0
    return 1 - room / count.previous_calls - count.elapsed_fraction
