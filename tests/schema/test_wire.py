"""What crosses Redis, and what happens when it does not."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

import json

from redis.asyncio import Redis

from schema import wire
from service.local.ports import free_port

HANDLE = "job_01m7y8f5s5e16bjw4vjpn2sqth"


async def test_a_wake_is_an_id_in_json_and_nothing_else(valkey_url: str) -> None:
    """Whoever reads Redis learns no token, and whoever writes it runs nothing."""
    redis = Redis.from_url(valkey_url)
    await redis.flushall()
    async with wire.doorbell(valkey_url) as bell:
        await bell.ring(HANDLE)

    [message_id] = await redis.zrange(wire.queue(), 0, -1)
    message = json.loads(await redis.get(b"arq:job:" + message_id))
    await redis.aclose()

    assert message["f"] == wire.WAKE
    assert message["a"] == [HANDLE]
    assert message["k"] == {}


async def test_ringing_where_nobody_is_costs_nothing_but_the_wake() -> None:
    """A launch that is committed must not fail because a hint cannot be given."""
    async with wire.doorbell(f"redis://127.0.0.1:{free_port()}/0") as bell:
        await bell.ring(HANDLE)

        assert not await bell.answers()
