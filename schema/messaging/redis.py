"""Redis client, and the circuit breaker for callers that can do without Redis.

closed ──failure──▶ open ──retry_after──▶ half open: one call tries ──success──▶ closed
▲                                  │
└────────────── failure ───────────┘
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, TypeVar

import anyio
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from schema.common.observability.causes import CauseLog
from schema.common.urls.redis import parse_redis_url

_ResultT = TypeVar("_ResultT")
_CLOSED: Final = -math.inf
_MAX_CONNECTIONS: Final = 16
_CLOSE_TIMEOUT: Final = timedelta(seconds=0.5)
"""How long a connection may take to close; a Redis that hangs would never see it closed."""


@asynccontextmanager
async def open_redis(url: str) -> AsyncGenerator[Redis]:
    """Yield a client with a pool of its own; a connection opens when it is first needed.

    Each caller has to bound its calls. The `socket_timeout` of redis 5 would do so by
    `asyncio.wait_for`, which on Python 3.11 loses a cancel that comes just as a command was sent.
    """
    pool = BlockingConnectionPool(
        **parse_redis_url(url).connection_arguments(),
        max_connections=_MAX_CONNECTIONS,
        timeout=None,  # a pool that is busy is no Redis that failed; the caller's bound counts
        # One retry: each pooled connection may be to a Redis that has been restarted since.
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[RedisConnectionError],
    )
    redis = Redis(connection_pool=pool)
    try:
        yield redis
    finally:
        with anyio.move_on_after(_CLOSE_TIMEOUT.total_seconds(), shield=True):
            await redis.aclose()
            await pool.disconnect()


class CircuitOpen(Exception):
    """Redis failed a moment ago, so it was not called."""


class RedisCircuitBreaker:
    """Bounds what a call of Redis costs, and calls no Redis that failed a moment ago.

    What it costs to wait for a Redis that hangs is paid by one caller, not by all of them.
    """

    def __init__(
        self,
        *,
        timeout: timedelta,
        retry_after: timedelta,
        opening_errors: tuple[type[Exception], ...] = (RedisError, OSError),
    ) -> None:
        """Make a closed breaker.

        Args:
            timeout: how long one call may take.
            retry_after: how long Redis is left alone after a failure; zero: not at all.
            opening_errors: the failures that open the breaker. A timeout is a `TimeoutError`.
        """
        self._timeout = timeout
        self._retry_after = retry_after
        self._opening_errors = opening_errors
        self._open_until = _CLOSED
        self._causes = CauseLog("redis")

    async def call(self, operation: Callable[[], Awaitable[_ResultT]]) -> _ResultT:
        """Run an operation on Redis.

        Raises:
            CircuitOpen: Redis failed a moment ago; the operation did not run.
            RedisError: the operation failed.
            OSError: Redis cannot be reached, or took too long.
        """
        now = anyio.current_time()
        if now < self._open_until:
            raise CircuitOpen
        if self._open_until != _CLOSED:
            # One call finds out whether Redis is back; the others do not wait for the answer.
            self._open_until = now + self._retry_after.total_seconds()
        try:
            with anyio.fail_after(self._timeout.total_seconds()):
                result = await operation()
        except (RedisError, OSError) as error:
            self._causes.report(error)
            self._open_until = (
                anyio.current_time() + self._retry_after.total_seconds()
                if isinstance(error, self._opening_errors)
                else _CLOSED
            )
            raise
        self._open_until = _CLOSED
        return result
