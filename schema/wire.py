"""How the service wakes the workers: the names and the encoding that both sides must share.

A wake is a hint without authority: an id. Postgres is the queue, and the sweep finds every row
whose wake was lost. Only this module and the worker's root know arq (it is in maintenance).
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import anyio
import structlog
from arq import ArqRedis
from arq.connections import RedisSettings
from redis.asyncio import BlockingConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

WAKE: Final = "wake"
PATIENCE: Final = timedelta(milliseconds=200)
"""What ringing may cost a caller; past it the sweep does the waking."""

log = structlog.stdlib.get_logger()


def release() -> str:
    """Return the version both processes of one deployment share."""
    try:
        return version("holdfast-mcp")
    except PackageNotFoundError:
        return "source"


def queue() -> str:
    """Name the queue after the release, so that mixed versions never eat each other's wakes."""
    return f"holdfast:{release()}"


def encode(message: dict[str, Any]) -> bytes:
    """Encode a message as JSON; arq's default is pickle, which runs what it reads."""
    return json.dumps(message, default=str).encode()


def decode(message: bytes) -> dict[str, Any]:
    """Decode what `encode` wrote."""
    decoded: dict[str, Any] = json.loads(message)
    return decoded


def redis(url: str) -> RedisSettings:
    """Say where Redis is, for arq's worker: outlive its restarts, which `OSError` is part of."""
    settings = RedisSettings.from_dsn(url)
    settings.retry = Retry(ExponentialBackoff(cap=2, base=0.1), retries=10)
    settings.retry_on_timeout = True
    settings.retry_on_error = [RedisConnectionError, RedisTimeoutError, OSError]
    return settings


class Doorbell:
    """Wakes a worker. Losing a wake is harmless, so ringing never fails."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def ring(self, job_id: str) -> None:
        """Tell some worker that a job may owe it a step."""
        try:
            # No _job_id: arq drops a second wake with the id of one that is running.
            with anyio.fail_after(PATIENCE.total_seconds()):
                await self._redis.enqueue_job(WAKE, job_id, _expires=60)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("wake.lost", job=job_id, error=type(error).__name__)

    async def answers(self) -> bool:
        """Say whether Redis is there."""
        try:
            with anyio.fail_after(1):
                return bool(await self._redis.ping())  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        except (RedisError, OSError, TimeoutError):
            return False


@asynccontextmanager
async def doorbell(url: str) -> AsyncGenerator[Doorbell]:
    """Hang a doorbell; it connects when it is first rung, so Redis may come later."""
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        url, max_connections=16, timeout=1, socket_timeout=2
    )
    redis: ArqRedis = ArqRedis(
        connection_pool=pool,
        default_queue_name=queue(),
        job_serializer=encode,
        job_deserializer=decode,
    )
    try:
        yield Doorbell(redis)
    finally:
        await redis.aclose()
        await pool.disconnect()
