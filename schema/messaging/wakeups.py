"""Wake-ups, by which the service makes a worker look at a job: sending, names and encoding.

A wake-up is an id without authority. Postgres is the queue, and the sweep finds every row whose
wake-up was lost. Only this module and the worker's two roots know arq, which is only maintained.

arq looks for messages twice a second. So that no job waits for that, each message comes with an
entry in a list, on which the workers are blocked. Redis hands it to the one that has waited
longest, which looks at once. The entry says where to look first: it is the kind of the job to be
claimed, or `_RUN_ENTRY` for a run that has to be stopped.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final, NoReturn, cast
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

from schema.common.observability.causes import CauseLog
from schema.common.observability.tracing import start_child_span
from schema.common.urls.redis import parse_redis_url
from schema.common.version import package_version
from schema.messaging.redis import CircuitOpen, RedisCircuitBreaker, open_redis

WAKE_TASK: Final = "wake"
SEND_TIMEOUT: Final = timedelta(milliseconds=200)
"""How long a caller waits for a wake-up to be sent; after that the sweep finds the job."""
_PING_TIMEOUT: Final = timedelta(seconds=1)
_RETRY_AFTER: Final = timedelta(seconds=1)
"""How long nothing is sent after a timeout: a Redis that hangs must not delay every caller."""
_WAKEUP_TTL: Final = timedelta(minutes=1)
"""How long a wake-up is kept; the sweep comes long before."""

_RUN_ENTRY: Final = "-"
"""No kind: those are words."""
_MAX_LIST_LENGTH: Final = 64
"""How many entries of the list are kept: no more workers have to be woken at a time."""
_BLOCK_SECONDS: Final = 10
"""Seconds for which Redis keeps a worker blocked before it answers that nothing came."""
_RECEIVE_TIMEOUT: Final = timedelta(seconds=_BLOCK_SECONDS + 5)

_SPAN_ATTRIBUTES: Final = {
    "messaging.system": "redis",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "messaging.destination.name": WAKE_TASK,
}

log = structlog.stdlib.get_logger()


def queue_name() -> str:
    """Name the queue after the release: workers of another release must not take its wake-ups."""
    return f"holdfast:{package_version()}"


def list_name() -> str:
    """Name the list that the workers of this release are blocked on."""
    return f"{queue_name()}:list"


def encode_message(message: dict[str, Any]) -> bytes:
    """Encode a message as JSON; arq's default is pickle, which runs what it reads."""
    return json.dumps(message, default=str).encode()


def decode_message(message: bytes) -> dict[str, Any]:
    """Decode a message that `encode_message` wrote."""
    decoded: dict[str, Any] = json.loads(message)
    return decoded


def arq_redis_settings(url: str, *, supervised: bool) -> RedisSettings:
    """Return the settings of Redis for arq's worker.

    Args:
        url: of Redis.
        supervised: whether we restart a worker that ends. Then it ends as soon as Redis is away.
            Any other worker has to outlive a restart of Redis, and retries on `OSError` as well,
            which a refused connection raises (arq's issue 498).
    """
    server = parse_redis_url(url)
    settings = RedisSettings(
        host=server.host,
        port=server.port,
        unix_socket_path=server.socket,
        database=server.database,
        username=server.user,
        password=server.password,
        ssl=server.tls is not None,
        **(server.tls or {}),
    )
    if supervised:
        settings.conn_retries = 0
    else:
        settings.retry = Retry(ExponentialBackoff(cap=2, base=0.1), retries=10)
        settings.retry_on_timeout = True
        settings.retry_on_error = [RedisConnectionError, RedisTimeoutError, OSError]
    return settings


class WakeupSender:
    """Wakes workers. A lost wake-up is harmless, so sending never fails."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._sending = set[asyncio.Task[None]]()
        # A refused connection costs nothing, so the next caller may try again at once.
        self._breaker = RedisCircuitBreaker(
            timeout=SEND_TIMEOUT, retry_after=_RETRY_AFTER, opening_errors=(TimeoutError,)
        )

    def start_sending(self, job_id: str, kind: str | None = None) -> None:
        """Send a wake-up beside whatever the caller does next; see `send`."""
        task = asyncio.create_task(self.send(job_id, kind))
        self._sending.add(task)  # the event loop itself holds no task that is under way
        task.add_done_callback(self._sending.discard)

    async def finish_sending(self) -> None:
        """Wait for the wake-ups that are under way; each takes no longer than `SEND_TIMEOUT`."""
        if self._sending:
            await asyncio.wait(self._sending)

    async def send(self, job_id: str, kind: str | None = None) -> None:
        """Make a worker look at a job.

        Args:
            job_id: its handle, for those who read logs.
            kind: of the job, if it is to be claimed; None: a run of it is to be stopped.
        """
        try:
            with start_child_span(f"send {WAKE_TASK}", "producer", attributes=_SPAN_ATTRIBUTES):
                await self._breaker.call(lambda: self._enqueue(job_id, kind))
        except CircuitOpen:
            pass
        except (RedisError, OSError) as error:
            log.warning("wake.lost", job=job_id, error=type(error).__name__)

    async def _enqueue(self, job_id: str, kind: str | None) -> None:
        """Write a message as arq's `enqueue_job` does, but without a WATCH.

        The name of the message is new, so there is nothing to watch. And a pipeline that is
        cancelled while it watches never returns its connection (redis 5.3): after one moment in
        which Redis hung under load, the pool stayed empty until the process ended.
        """
        now_ms, ttl_ms = timestamp_ms(), int(_WAKEUP_TTL.total_seconds() * 1000)
        # A new name: arq drops a second message with the name of one that is running.
        name = uuid4().hex
        message = serialize_job(WAKE_TASK, (job_id,), {}, None, now_ms, serializer=encode_message)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.zremrangebyscore(queue_name(), "-inf", now_ms - ttl_ms)
            pipe.psetex(f"{job_key_prefix}{name}", ttl_ms, message)
            pipe.zadd(queue_name(), {name: now_ms})
            pipe.rpush(list_name(), kind or _RUN_ENTRY)
            pipe.ltrim(list_name(), -_MAX_LIST_LENGTH, -1)
            pipe.pexpire(list_name(), ttl_ms)
            await pipe.execute()

    async def find_failure(self) -> Exception | None:
        """Ask Redis for an answer within a second; return why there is none."""
        try:
            with anyio.fail_after(_PING_TIMEOUT.total_seconds()):
                await self._redis.ping()  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
        except (RedisError, OSError) as error:
            return error
        return None


@asynccontextmanager
async def open_wakeup_sender(url: str) -> AsyncGenerator[WakeupSender]:
    """Yield a sender; it connects with the first wake-up, so Redis may start later."""
    async with open_redis(url) as redis:
        sender = WakeupSender(redis)
        try:
            yield sender
        finally:
            with anyio.CancelScope(shield=True):
                await sender.finish_sending()


async def receive_wakeups(url: str, wake: Callable[[str | None], None]) -> NoReturn:
    """Call `wake` as soon as a wake-up is sent that no other worker has taken, until cancelled.

    It gets the kind of the job to be claimed, or None for a run to be stopped. While Redis is away
    nothing is received; it is asked again every second.
    """
    causes = CauseLog("redis")
    while True:
        try:
            async with open_redis(url) as redis:
                while True:
                    with anyio.fail_after(_RECEIVE_TIMEOUT.total_seconds()):
                        # redis 5 types it as one of its synchronous client.
                        answer = cast("Awaitable[Any]", redis.blpop([list_name()], _BLOCK_SECONDS))  # pyright: ignore[reportUnknownMemberType]
                        entry = await answer
                    if entry is not None:
                        text = entry[1].decode()
                        wake(None if text == _RUN_ENTRY else text)
        except (RedisError, OSError) as error:
            causes.report(error)
        except Exception:  # the worker goes on without it: arq looks twice a second
            log.exception("wake.broken")
        await anyio.sleep(_RETRY_AFTER.total_seconds())
