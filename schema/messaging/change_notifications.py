"""Change notifications by pub/sub: "job X is at version V", from whoever commits to each service.

    commit ──▶ enqueue ──▶ collected for 15 ms ──▶ one message on Valkey ──▶ each service

A notification has no authority and may be lost. Whoever receives one reads the job, as the subject
that it waits for, and reads it once a second anyway (`service.runtime.watch`). So enqueuing
never waits and never fails, and nothing is sent while a transaction is open. The channel and the
encoding stand here for both sides.
"""

import json
import math
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from logging import DEBUG, WARNING
from typing import Any, Final, cast
from uuid import UUID

import anyio
import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from schema.common.ids import JobChangeListener
from schema.common.process.background import run_in_background
from schema.common.urls.redis import parse_redis_url
from schema.messaging import redis as messaging_redis

_CHANNEL: Final = "holdfast:moves"
"""One for all releases and databases of a Valkey: an id that nobody waits for is ignored."""
BATCH_WINDOW: Final = timedelta(milliseconds=15)
"""How long changes are collected before they are sent together."""
_SEND_TIMEOUT: Final = timedelta(milliseconds=200)
_RETRY_PAUSE: Final = timedelta(seconds=1)
"""How long a Valkey that failed is left alone."""
_CONNECT_TIMEOUT: Final = timedelta(seconds=2)
_HEALTH_CHECK_INTERVAL: Final = timedelta(seconds=10)
_RECEIVE_TIMEOUT: Final = timedelta(seconds=15)
"""How long to wait for a message before the connection is checked."""
_MAX_PENDING_JOBS: Final = 10_000
"""How many changed jobs may wait to be sent; more are dropped, and found by reading."""

log = structlog.stdlib.get_logger()


class ChangePublisher:
    """Sends the versions of changed jobs to whoever waits for them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pending: dict[UUID, int] = {}
        self._has_pending = anyio.Event()
        self._paused_until = -math.inf

    def enqueue(self, versions: Mapping[UUID, int]) -> None:
        """Queue changes that have just been committed; of a job only the newest version is sent."""
        if len(self._pending) > _MAX_PENDING_JOBS:
            self._pending.clear()
        for job_id, version in versions.items():
            self._pending[job_id] = max(version, self._pending.get(job_id, 0))
        self._has_pending.set()

    @property
    def pending_count(self) -> int:
        """How many changed jobs are still to be sent."""
        return len(self._pending)

    async def publish_forever(self) -> None:
        """Send what is queued, in batches."""
        while True:
            await self._has_pending.wait()
            await anyio.sleep(BATCH_WINDOW.total_seconds())
            await self.publish_pending()

    async def publish_pending(self) -> None:
        """Send what is queued, if anything is."""
        batch, self._pending, self._has_pending = self._pending, {}, anyio.Event()
        if not batch or anyio.current_time() < self._paused_until:
            return
        try:
            with anyio.fail_after(_SEND_TIMEOUT.total_seconds()):
                await self._redis.publish(_CHANNEL, encode_versions(batch))  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        except (RedisError, OSError) as error:
            self._paused_until = anyio.current_time() + _RETRY_PAUSE.total_seconds()
            log.warning("hints.lost", jobs=len(batch), error=type(error).__name__)


@asynccontextmanager
async def open_change_publisher(url: str) -> AsyncGenerator[ChangePublisher]:
    """Yield a publisher through the Valkey at `url`, which may start later, or never."""
    async with messaging_redis.open_redis(url) as redis:
        publisher = ChangePublisher(redis)
        try:
            async with run_in_background(publisher.publish_forever()):
                yield publisher
        finally:
            with anyio.CancelScope(shield=True):
                await publisher.publish_pending()  # the changes of the shutdown itself


async def listen_for_changes(url: str, on_changes: JobChangeListener) -> None:
    """Receive changes without end; a connection that breaks is replaced."""
    while True:
        is_subscribed = False
        redis = Redis.from_pool(
            ConnectionPool(
                **parse_redis_url(url).connection_arguments(),
                socket_connect_timeout=_CONNECT_TIMEOUT.total_seconds(),
                health_check_interval=_HEALTH_CHECK_INTERVAL.total_seconds(),
            )
        )
        channel = redis.pubsub()  # pyright: ignore[reportUnknownMemberType]  # as above
        try:
            await channel.subscribe(_CHANNEL)  # pyright: ignore[reportUnknownMemberType]  # as above
            is_subscribed = True
            await _receive_changes(channel, on_changes)
        except (RedisError, OSError) as error:
            log.log(
                WARNING if is_subscribed else DEBUG, "hints.unheard", error=type(error).__name__
            )
        finally:
            with anyio.move_on_after(_SEND_TIMEOUT.total_seconds(), shield=True):
                await channel.aclose()  # type: ignore[no-untyped-call]  # redis 5 leaves it untyped
                await redis.aclose()
        await anyio.sleep(_RETRY_PAUSE.total_seconds())


async def _receive_changes(pubsub: PubSub, on_changes: JobChangeListener) -> None:
    while True:
        # Redis 5 types what it returns as some dictionary of something.
        message = cast("Any", await pubsub.get_message(timeout=_RECEIVE_TIMEOUT.total_seconds()))  # pyright: ignore[reportUnknownMemberType]
        if message is not None and message["type"] == "message":
            on_changes(decode_versions(message["data"]))


def encode_versions(versions: Mapping[UUID, int]) -> bytes:
    """Encode a message."""
    return json.dumps({job_id.hex: version for job_id, version in versions.items()}).encode()


def decode_versions(message: bytes) -> dict[UUID, int]:
    """Decode a message; one that cannot be read has no versions in it."""
    try:
        return {UUID(hex=job_id): int(version) for job_id, version in json.loads(message).items()}
    except (ValueError, TypeError, AttributeError):
        log.warning("hints.unreadable")
        return {}
