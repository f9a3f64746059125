"""How do those who wait hear of moves? By hints: "job X is at version V", and nothing more.

    commit ──▶ tell ──▶ gathered for 15 ms ──▶ one message on Valkey ──▶ hear, in each service

A hint has no authority and may be lost: whoever hears one reads the job, as the subject they wait
for, and reads all the same once a second (`service.runtime.job_watch`). So telling never waits and
never
fails, and nothing is sent while a transaction is open. Names and encoding stand here, for both.
"""

import json
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from logging import DEBUG, WARNING
from typing import Any, Final, cast
from uuid import UUID

import anyio
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from schema.common.background import beside
from schema.messaging import redis as messaging_redis

_CHANNEL: Final = "holdfast:moves"
"""One for all releases and databases of a Valkey: an id that nobody waits for is passed over."""
GATHER: Final = timedelta(milliseconds=15)
"""How long moves are gathered before they are sent together."""
_PATIENCE: Final = timedelta(milliseconds=200)
_QUIET: Final = timedelta(seconds=1)
"""How long nothing is tried with a Valkey that failed."""
_SILENCE: Final = timedelta(seconds=15)
"""After so long without a message it is asked whether it is still there."""
_FALLS_BEHIND: Final = 10_000
"""How many moves may wait to be sent; past it they are dropped, and found by reading."""

log = structlog.stdlib.get_logger()

Hear = Callable[[Mapping[UUID, int]], None]


class Hints:
    """Tells whoever waits for them that jobs were moved."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._moved: dict[UUID, int] = {}
        self._some = anyio.Event()
        self._quiet_until = -math.inf

    def tell(self, moved: Mapping[UUID, int]) -> None:
        """Pass on what has just been committed, soon; of one job only the newest version."""
        if len(self._moved) > _FALLS_BEHIND:
            self._moved.clear()
        for job_id, version in moved.items():
            self._moved[job_id] = max(version, self._moved.get(job_id, 0))
        self._some.set()

    @property
    def waiting(self) -> int:
        """How many jobs' moves are still to be sent."""
        return len(self._moved)

    async def send_for_ever(self) -> None:
        """Send what is told, a batch at a time."""
        while True:
            await self._some.wait()
            await anyio.sleep(GATHER.total_seconds())
            await self.send()

    async def send(self) -> None:
        """Send what has been gathered, if anything was."""
        batch, self._moved, self._some = self._moved, {}, anyio.Event()
        if not batch or anyio.current_time() < self._quiet_until:
            return
        try:
            with anyio.fail_after(_PATIENCE.total_seconds()):
                await self._redis.publish(_CHANNEL, encode(batch))  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        except (RedisError, OSError) as error:
            self._quiet_until = anyio.current_time() + _QUIET.total_seconds()
            log.warning("hints.lost", jobs=len(batch), error=type(error).__name__)


@asynccontextmanager
async def hints(url: str) -> AsyncGenerator[Hints]:
    """Send hints through the Valkey at `url`, which may come later, or never."""
    async with messaging_redis.connections(url) as redis:
        sender = Hints(redis)
        try:
            async with beside(sender.send_for_ever()):
                yield sender
        finally:
            with anyio.CancelScope(shield=True):
                await sender.send()  # the moves that a stop has made


async def listen(url: str, hear: Hear) -> None:
    """Hear of moves for ever, on one connection; it is made anew whenever it breaks."""
    while True:
        heard = False
        redis = Redis.from_url(url, socket_connect_timeout=2, health_check_interval=10)  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        channel = redis.pubsub()  # pyright: ignore[reportUnknownMemberType]  # as above
        try:
            await channel.subscribe(_CHANNEL)  # pyright: ignore[reportUnknownMemberType]  # as above
            heard = True
            await _hear(channel, hear)
        except (RedisError, OSError) as error:
            log.log(WARNING if heard else DEBUG, "hints.unheard", error=type(error).__name__)
        finally:
            with anyio.move_on_after(_PATIENCE.total_seconds(), shield=True):
                await channel.aclose()
                await redis.aclose()
        await anyio.sleep(_QUIET.total_seconds())


async def _hear(channel: PubSub, hear: Hear) -> None:
    while True:
        # Redis 5 types what it returns as some dictionary of something.
        message = cast("Any", await channel.get_message(timeout=_SILENCE.total_seconds()))  # pyright: ignore[reportUnknownMemberType]
        if message is not None and message["type"] == "message":
            hear(decode(message["data"]))


def encode(moved: Mapping[UUID, int]) -> bytes:
    """Write a message."""
    return json.dumps({job_id.hex: version for job_id, version in moved.items()}).encode()


def decode(message: bytes) -> dict[UUID, int]:
    """Read a message; from what cannot be read nothing is heard."""
    try:
        return {UUID(hex=job_id): int(version) for job_id, version in json.loads(message).items()}
    except (ValueError, TypeError, AttributeError):
        log.warning("hints.unreadable")
        return {}
