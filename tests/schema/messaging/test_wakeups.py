"""What crosses Redis, and what happens when it does not."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from schema.messaging import wakeups
from service.local.ports import find_free_port
from tests.support.database.servers import BreakableValkey
from tests.support.polling import eventually

HANDLE = "job_01m7y8f5s5e16bjw4vjpn2sqth"
CONNECTION_COUNT = 16


@pytest.fixture
def breakable_valkey(tmp_path: Path) -> Generator[BreakableValkey]:
    server = BreakableValkey(tmp_path / "valkey")
    yield server
    server.stop()


@pytest.fixture
async def redis(breakable_valkey: BreakableValkey) -> AsyncGenerator[Redis]:
    """A look at what is in that Valkey."""
    async with Redis.from_url(breakable_valkey.start()) as client:
        yield client


@pytest.fixture
async def wakeup_sender(
    redis: Redis, breakable_valkey: BreakableValkey
) -> AsyncGenerator[wakeups.WakeupSender]:
    """A wake-up sender on that Valkey."""
    async with wakeups.open_wakeup_sender(breakable_valkey.start()) as sender:
        yield sender


async def test_a_wake_is_an_id_in_json_and_nothing_else(valkey_url: str) -> None:
    """Whoever reads Redis learns no token, and whoever writes it runs nothing."""
    redis = Redis.from_url(valkey_url)
    await redis.flushall()
    async with wakeups.open_wakeup_sender(valkey_url) as sender:
        await sender.send(HANDLE)

    [message_id] = await redis.zrange(wakeups.queue_name(), 0, -1)
    message = json.loads(await redis.get(b"arq:job:" + message_id))
    await redis.aclose()

    assert message["f"] == wakeups.WAKE_TASK
    assert message["a"] == [HANDLE]
    assert message["k"] == {}


async def test_sending_a_wakeup_without_redis_costs_nothing_but_the_wakeup() -> None:
    """A launch that is committed must not fail because a hint cannot be given."""
    async with wakeups.open_wakeup_sender(f"redis://127.0.0.1:{find_free_port()}/0") as sender:
        await sender.send(HANDLE)

        assert isinstance(await sender.find_failure(), (RedisError, OSError))


async def test_a_wake_nobody_heard_for_a_minute_goes_with_the_next(
    redis: Redis, wakeup_sender: wakeups.WakeupSender
) -> None:
    """Where no worker is, the queue does not grow for ever."""
    await redis.zadd(wakeups.queue_name(), {"long ago": 1})

    await wakeup_sender.send(HANDLE)

    assert await redis.zcard(wakeups.queue_name()) == 1
    assert not await redis.zscore(wakeups.queue_name(), "long ago")


async def test_a_redis_that_hangs_is_waited_for_by_one_caller_and_not_by_all(
    breakable_valkey: BreakableValkey, redis: Redis, wakeup_sender: wakeups.WakeupSender
) -> None:
    """Each launch would be a fifth of a second late for as long as it hangs."""
    before = await _count_connections(redis)

    with breakable_valkey.suspended(), anyio.fail_after(20):
        for _ in range(30):
            await wakeup_sender.send(HANDLE)

    assert await _count_connections(redis) - before < 10


async def test_a_redis_that_hung_under_load_is_sent_wakeups_again(
    breakable_valkey: BreakableValkey, redis: Redis, wakeup_sender: wakeups.WakeupSender
) -> None:
    """Who was interrupted while ringing has kept no connection from those who ring after."""
    busy = anyio.Event()
    rings = 0

    async def ring_often() -> None:
        nonlocal rings
        for _ in range(50):
            await wakeup_sender.send(HANDLE)
            rings += 1
            if rings > CONNECTION_COUNT * 10:
                busy.set()

    async with anyio.create_task_group() as ringers:
        for _ in range(CONNECTION_COUNT * 2):
            ringers.start_soon(ring_often)
        await busy.wait()
        with breakable_valkey.suspended():
            await wakeup_sender.send(HANDLE)
            await wakeup_sender.send(HANDLE)

    await eventually(wakeup_sender.find_failure, lambda failure: failure is None)


async def test_a_redis_that_was_started_anew_gets_the_first_wakeup(
    breakable_valkey: BreakableValkey, redis: Redis, wakeup_sender: wakeups.WakeupSender
) -> None:
    """Connections to one that has ended are noticed before they cost a wake."""

    async def ring_anew() -> int:
        await asyncio.gather(*(wakeup_sender.send(HANDLE) for _ in range(CONNECTION_COUNT)))
        breakable_valkey.kill()
        breakable_valkey.start()
        await asyncio.gather(*(wakeup_sender.send(HANDLE) for _ in range(CONNECTION_COUNT)))
        return int(await redis.zcard(wakeups.queue_name()))

    # A busy machine may lose a wake to our own impatience, but not one each time.
    await eventually(ring_anew, lambda heard: heard == CONNECTION_COUNT)


async def _count_connections(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_connections_received"])


async def test_an_idle_worker_is_woken_at_once_and_one_alone(
    redis: Redis, breakable_valkey: BreakableValkey, wakeup_sender: wakeups.WakeupSender
) -> None:
    """arq looks twice a second; who waits for a job waits less, and one worker is enough."""
    heard = [0, 0]
    everyone_blocked = _count_blocked(2)

    def hear(worker: int, _: str | None) -> None:
        heard[worker] += 1

    async with anyio.create_task_group() as workers:
        for worker in range(2):
            workers.start_soon(
                wakeups.receive_wakeups, breakable_valkey.start(), partial(hear, worker)
            )
        await eventually(lambda: redis.info("clients"), everyone_blocked)
        await wakeup_sender.send(HANDLE)
        await eventually(lambda: redis.exists(wakeups.list_name()), lambda there: not there)
        await eventually(lambda: redis.info("clients"), everyone_blocked)
        workers.cancel_scope.cancel()

    assert sorted(heard) == [0, 1]


async def test_a_wakeup_says_what_it_is_for(
    redis: Redis, breakable_valkey: BreakableValkey, wakeup_sender: wakeups.WakeupSender
) -> None:
    """A worker claims jobs of that kind first, and looks for a run to stop only if there is one."""
    heard: list[str | None] = []
    async with anyio.create_task_group() as workers:
        workers.start_soon(wakeups.receive_wakeups, breakable_valkey.start(), heard.append)
        for kind in ("inference", None):
            await wakeup_sender.send(HANDLE, kind)
        await eventually(lambda: _answer(len(heard)), lambda count: count == 2)
        workers.cancel_scope.cancel()

    assert heard == ["inference", None]


async def test_a_wakeup_that_was_started_is_sent_before_the_sender_closes(
    redis: Redis, breakable_valkey: BreakableValkey
) -> None:
    """Nobody waits for it, so nobody else would."""
    async with wakeups.open_wakeup_sender(breakable_valkey.start()) as sender:
        sender.start_sending(HANDLE, "inference")

    assert await redis.zcard(wakeups.queue_name()) == 1


async def _answer(value: int) -> int:
    return value


async def test_a_worker_hears_again_after_redis_was_away(
    redis: Redis, breakable_valkey: BreakableValkey, wakeup_sender: wakeups.WakeupSender
) -> None:
    """Nobody has to start it again."""
    heard = anyio.Event()

    def hear(_: str | None) -> None:
        heard.set()

    async with anyio.create_task_group() as workers:
        workers.start_soon(wakeups.receive_wakeups, breakable_valkey.start(), hear)
        await eventually(lambda: redis.info("clients"), _count_blocked(1))
        breakable_valkey.stop()
        breakable_valkey.start()

        async def send_again() -> bool:
            await wakeup_sender.send(HANDLE)
            return heard.is_set()

        await eventually(send_again, lambda is_heard: is_heard)
        workers.cancel_scope.cancel()


async def test_a_worker_hears_again_after_an_error_that_is_not_of_redis(
    breakable_valkey: BreakableValkey, wakeup_sender: wakeups.WakeupSender
) -> None:
    """A bug on the way of one wake-up must not make each later job wait for arq."""
    heard = anyio.Event()
    errors = [ZeroDivisionError()]

    def fail_once(_: str | None) -> None:
        if errors:
            raise errors.pop()
        heard.set()

    async with anyio.create_task_group() as workers:
        workers.start_soon(wakeups.receive_wakeups, breakable_valkey.start(), fail_once)

        async def send_again() -> bool:
            await wakeup_sender.send(HANDLE)
            return heard.is_set()

        await eventually(send_again, lambda is_heard: is_heard)
        workers.cancel_scope.cancel()

    assert errors == []


async def test_entries_that_nobody_takes_stay_few(
    redis: Redis, wakeup_sender: wakeups.WakeupSender
) -> None:
    """Where every worker is busy, the list does not grow with the queue."""
    for _ in range(70):
        await wakeup_sender.send(HANDLE)

    assert await cast("Awaitable[int]", redis.llen(wakeups.list_name())) == 64


def _count_blocked(count: int) -> Callable[[dict[str, Any]], bool]:
    """Return a check that so many clients of a Redis are blocked."""
    return lambda clients: clients["blocked_clients"] == count
