"""How the service wakes the workers: the names and the encoding that both sides must share.

A wake is a hint without authority: an id. Postgres is the queue, and the sweep finds every row
whose wake was lost. Only this module and the worker's root know arq (it is in maintenance).
"""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import anyio
import structlog
from arq.connections import RedisSettings
from arq.constants import job_key_prefix
from arq.jobs import serialize_job
from arq.utils import timestamp_ms
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from schema.common.version import package_version
from schema.messaging.redis import CircuitOpen, RedisCircuitBreaker, open_redis

WAKE_TASK: Final = "wake"
SEND_TIMEOUT: Final = timedelta(milliseconds=200)
"""What ringing may cost a caller; past it the sweep does the waking."""
_RETRY_AFTER: Final = timedelta(seconds=1)
"""How long nobody rings after that, so that a Redis that hangs is not paid for by every caller."""
_WAKEUP_TTL: Final = timedelta(minutes=1)
"""How long a wake is kept; the sweep has been by long before."""

log = structlog.stdlib.get_logger()


def queue_name() -> str:
    """Name the queue after the release, so that mixed versions never eat each other's wakes."""
    return f"holdfast:{package_version()}"


def encode_message(message: dict[str, Any]) -> bytes:
    """Encode a message as JSON; arq's default is pickle, which runs what it reads."""
    return json.dumps(message, default=str).encode()


def decode_message(message: bytes) -> dict[str, Any]:
    """Decode what `encode` wrote."""
    decoded: dict[str, Any] = json.loads(message)
    return decoded


def arq_redis_settings(url: str, *, supervised: bool) -> RedisSettings:
    """Say where Redis is, for arq's worker.

    One that we start anew gives up at once; any other outlives a restart of Redis by itself, and
    needs `OSError` for that: it is what a refused connection raises (arq's issue 498).
    """
    settings = RedisSettings.from_dsn(url)
    if supervised:
        settings.conn_retries = 0
    else:
        settings.retry = Retry(ExponentialBackoff(cap=2, base=0.1), retries=10)
        settings.retry_on_timeout = True
        settings.retry_on_error = [RedisConnectionError, RedisTimeoutError, OSError]
    return settings


class WakeupSender:
    """Wakes a worker. Losing a wake is harmless, so ringing never fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        # A refused connection costs nothing, so the next caller may try again at once.
        self._breaker = RedisCircuitBreaker(
            timeout=SEND_TIMEOUT, retry_after=_RETRY_AFTER, opening_errors=(TimeoutError,)
        )

    async def send(self, job_id: str) -> None:
        """Tell some worker that a job may owe it a step."""
        try:
            await self._breaker.call(lambda: self._enqueue(job_id))
        except CircuitOpen:
            pass
        except (RedisError, OSError) as error:
            log.warning("wake.lost", job=job_id, error=type(error).__name__)

    async def _enqueue(self, job_id: str) -> None:
        """Leave a message as arq's `enqueue_job` does, but without a WATCH.

        Nobody else has its name, so there is nothing to watch for; and a pipeline that is cancelled
        while it watches never returns its connection (redis 5.3): one Redis that hung for a moment
        under load, and the pool was empty until the process ended.
        """
        now, life = timestamp_ms(), int(_WAKEUP_TTL.total_seconds() * 1000)
        # A name of its own: arq drops a second wake with the name of one that is running.
        name = uuid4().hex
        message = serialize_job(WAKE_TASK, (job_id,), {}, None, now, serializer=encode_message)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(queue_name(), "-inf", now - life)
            pipe.psetex(f"{job_key_prefix}{name}", life, message)
            pipe.zadd(queue_name(), {name: now})
            await pipe.execute()

    async def is_reachable(self) -> bool:
        """Say whether Redis is there."""
        try:
            with anyio.fail_after(1):
                return bool(await self._redis.ping())  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        except (RedisError, OSError):
            return False


@asynccontextmanager
async def open_wakeup_sender(url: str) -> AsyncGenerator[WakeupSender]:
    """Hang a doorbell; it connects when it is first rung, so Redis may come later."""
    async with open_redis(url) as redis:
        yield WakeupSender(redis)
