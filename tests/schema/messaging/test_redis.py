"""The pool of connections to Redis."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

from contextlib import AsyncExitStack
from typing import Final

import anyio
import pytest

from schema.messaging.redis import open_redis

POOL_SIZE: Final = 16
BOUND_SECONDS: Final = 1.5


async def test_a_busy_pool_is_not_taken_for_a_redis_that_failed(valkey_url: str) -> None:
    """A rate limit counted in Postgres too, and granted twice, when one machine had stalled."""
    async with open_redis(valkey_url) as redis, AsyncExitStack() as stack:
        for _ in range(POOL_SIZE):
            await stack.enter_async_context(redis.client())

        with pytest.raises(TimeoutError), anyio.fail_after(BOUND_SECONDS):
            await redis.ping()
        await stack.aclose()

        assert await redis.ping()
