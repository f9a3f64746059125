"""How many calls of a subject may wait, whatever becomes of those who count."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

import anyio
import pytest
from redis.asyncio import Redis

from schema.common.errors import TooManyWaits
from schema.messaging import redis as messaging_redis
from service.runtime.wait_slots import WaitSlots
from tests.support.subjects import ADA_ID

LONG_WAIT = timedelta(minutes=1)
PATIENT_TIMEOUT = timedelta(seconds=20)
"""A busy machine is not to be taken for a Valkey that hangs."""


@pytest.fixture
def subject_id() -> str:
    """A subject of the test's own, for the Valkey is shared."""
    return f"{ADA_ID}-{uuid4().hex}"


@pytest.fixture
async def slot_replicas(valkey_url: str) -> AsyncGenerator[tuple[WaitSlots, WaitSlots]]:
    """Two replicas that give out two turns."""
    async with (
        messaging_redis.open_redis(valkey_url) as one,
        messaging_redis.open_redis(valkey_url) as other,
    ):
        yield (
            WaitSlots(one, limit=2, valkey_timeout=PATIENT_TIMEOUT),
            WaitSlots(other, limit=2, valkey_timeout=PATIENT_TIMEOUT),
        )


async def is_refused(turns: WaitSlots, subject: str) -> bool:
    try:
        async with turns.acquire(subject, duration=LONG_WAIT):
            return False
    except TooManyWaits:
        return True


async def test_replicas_share_one_limit(
    slot_replicas: tuple[WaitSlots, WaitSlots], subject_id: str
) -> None:
    """A limit that each replica kept for itself would grow with the deployment."""
    one, other = slot_replicas
    async with (
        one.acquire(subject_id, duration=LONG_WAIT),
        other.acquire(subject_id, duration=LONG_WAIT),
    ):
        assert await is_refused(one, subject_id)
        assert await is_refused(other, subject_id)
        assert not await is_refused(one, f"{subject_id} too"), "it is somebody else's"


async def test_a_wait_that_is_over_makes_room_however_it_ended(
    slot_replicas: tuple[WaitSlots, WaitSlots], subject_id: str
) -> None:
    """A client that disconnects in the middle cancels its call."""
    one, other = slot_replicas
    for _ in range(3):
        async with anyio.create_task_group() as calls:
            entered = [anyio.Event(), anyio.Event()]

            async def wait(event: anyio.Event) -> None:
                async with one.acquire(subject_id, duration=LONG_WAIT):
                    event.set()
                    await anyio.sleep_forever()

            for event in entered:
                calls.start_soon(wait, event)
                with anyio.fail_after(20):
                    await event.wait()
            calls.cancel_scope.cancel()
        assert not await is_refused(other, subject_id)


async def test_what_has_no_end_keeps_its_slot_while_it_lasts(
    slot_replicas: tuple[WaitSlots, WaitSlots], subject_id: str, valkey_url: str
) -> None:
    """A stream that is open all day counts all day, also if what was counted is lost meanwhile."""
    one, _ = slot_replicas
    async with Redis.from_url(valkey_url) as redis:
        async with one.acquire(subject_id, duration=LONG_WAIT) as keep:
            await redis.delete(f"holdfast:waits:{subject_id}")
            await keep()
            assert await redis.zcard(f"holdfast:waits:{subject_id}") == 1
            [(_, lapses)] = await redis.zrange(
                f"holdfast:waits:{subject_id}", 0, -1, withscores=True
            )
            await keep()
            [(_, later)] = await redis.zrange(
                f"holdfast:waits:{subject_id}", 0, -1, withscores=True
            )
            assert later >= lapses
        assert await redis.zcard(f"holdfast:waits:{subject_id}") == 0


async def test_what_a_killed_process_took_lapses(
    valkey_url: str, slot_replicas: tuple[WaitSlots, WaitSlots], subject_id: str
) -> None:
    """It cannot give anything back; a minute later nobody misses it."""
    async with Redis.from_url(valkey_url) as redis:
        long_ago = {f"killed-{number}": 1 for number in range(2)}
        await redis.zadd(f"holdfast:waits:{subject_id}", long_ago)
        assert not await is_refused(slot_replicas[0], subject_id)
        async with slot_replicas[0].acquire(subject_id, duration=timedelta(0)):
            life = await redis.pttl(f"holdfast:waits:{subject_id}")
        assert 0 < life <= 15_000


async def test_the_longest_wait_keeps_what_valkey_keeps(
    valkey_url: str, slot_replicas: tuple[WaitSlots, WaitSlots], subject_id: str
) -> None:
    """A short wait that comes after a long one must not let it be forgotten."""
    async with (
        Redis.from_url(valkey_url) as redis,
        slot_replicas[0].acquire(subject_id, duration=LONG_WAIT),
        slot_replicas[0].acquire(subject_id, duration=timedelta(0)),
    ):
        assert await redis.pttl(f"holdfast:waits:{subject_id}") > 60_000


async def test_without_a_valkey_each_process_counts(subject_id: str) -> None:
    """Nobody is shut out, and nobody waits without end."""
    async with messaging_redis.open_redis("redis://127.0.0.1:1/0") as nowhere:
        turns = WaitSlots(nowhere, limit=2)
        async with AsyncExitStack() as stack:
            for _ in range(2):
                await stack.enter_async_context(turns.acquire(subject_id, duration=LONG_WAIT))
            assert await is_refused(turns, subject_id)

        assert not await is_refused(turns, subject_id)


async def test_a_refusal_says_what_to_do(
    slot_replicas: tuple[WaitSlots, WaitSlots], subject_id: str
) -> None:
    """A model that only heard no would try again at once."""
    async with (
        slot_replicas[0].acquire(subject_id, duration=LONG_WAIT),
        slot_replicas[0].acquire(subject_id, duration=LONG_WAIT),
    ):
        with pytest.raises(TooManyWaits, match=r"2 waiting calls.*one call.*call job_status"):
            async with slot_replicas[1].acquire(subject_id, duration=LONG_WAIT):
                pass
