"""schema.messaging.redis."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError


@asynccontextmanager
async def open_redis(url: str) -> AsyncGenerator[Redis]:
    """Yield a client with connections of its own, each made when it is first needed."""
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        url,
        max_connections=16,
        timeout=1,
        socket_timeout=2,
        # Once more, for each of the connections may be to a Redis that has ended since.
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[RedisConnectionError],
    )
    redis = Redis(connection_pool=pool)
    try:
        yield redis
    finally:
        await redis.aclose()
        await pool.disconnect()
