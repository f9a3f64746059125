"""How often a subject may call, whatever becomes of those who count."""

# redis 5 leaves its keyword arguments untyped.
# pyright: reportUnknownMemberType=false

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from redis.asyncio import Redis

from schema.common.errors import RateLimited, SignInRateLimited
from schema.common.observability import log_config
from schema.db.database import Database
from schema.messaging import redis as messaging_redis
from service.database import TenantDatabase
from service.http import rate_limit
from service.http.rate_limit import UNLIMITED, VALKEY_TIMEOUT, RateLimiter, open_rate_limiter
from service.local.ports import find_free_port
from tests.support.database.servers import BreakableValkey
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID, BOB_ID

HOUR: Final = timedelta(hours=1)
SHORT_WINDOW: Final = timedelta(seconds=1)
PATIENT_TIMEOUT: Final = timedelta(seconds=20)
"""For those tests in which a busy machine is not to be taken for a Valkey that hangs."""

ReplicaFactory = Callable[..., Awaitable[RateLimiter]]


@pytest.fixture
def breakable_valkey(tmp_path: Path) -> Generator[BreakableValkey]:
    """A Valkey to break."""
    server = BreakableValkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def redis(breakable_valkey: BreakableValkey) -> AsyncGenerator[Redis]:
    """A look at what is in that Valkey."""
    async with Redis.from_url(breakable_valkey.start()) as client:
        yield client


@pytest.fixture
def unreachable_valkey_url() -> str:
    """Where a Valkey could be, and none is."""
    return f"redis://127.0.0.1:{find_free_port()}/0"


@pytest.fixture(params=["valkey", "postgres"])
def counter_url(request: pytest.FixtureRequest) -> str:
    """The Valkey that counts, or one that leaves it to Postgres."""
    url: str = request.getfixturevalue(
        "valkey_url" if request.param == "valkey" else "unreachable_valkey_url"
    )
    return url


@pytest.fixture
async def make_replica(database: Database) -> AsyncGenerator[ReplicaFactory]:
    """Start one replica's limits after another."""
    async with AsyncExitStack() as stack:

        async def start(
            url: str,
            limit: int,
            *,
            window: timedelta = HOUR,
            patience: timedelta = PATIENT_TIMEOUT,
            on: Database = database,
        ) -> RateLimiter:
            redis = await stack.enter_async_context(messaging_redis.open_redis(url))
            return RateLimiter(
                redis, TenantDatabase(on), limit=limit, window=window, valkey_timeout=patience
            )

        yield start


class LogRecorder(logging.Handler):
    """Remembers what happened to the limits; structlog's own capture misses cached loggers."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        event: Any = record.msg
        self.events.append(event["event"])


@pytest.fixture
def limit_log() -> Generator[list[str]]:
    """What the limits logged."""
    log_config.configure_logging()
    log = LogRecorder()
    logging.getLogger(rate_limit.__name__).addHandler(log)
    yield log.events
    logging.getLogger(rate_limit.__name__).removeHandler(log)


@pytest.fixture
def subject_id(request: pytest.FixtureRequest) -> str:
    """A subject of the test's own, for the Valkey is shared."""
    return f"{request.node.name}-{time.time_ns()}"


async def is_granted(limits: RateLimiter, subject: str) -> bool:
    try:
        await limits.count_call(subject)
    except RateLimited:
        return False
    return True


async def count_grants(limits: RateLimiter, subject: str) -> int:
    """Take until it is refused."""
    taken = 0
    while await is_granted(limits, subject):
        taken += 1
    return taken


async def count_in_postgres(database: Database) -> int:
    """Count the calls that Postgres granted."""
    async with database.transaction() as tx:
        calls: int = await tx.fetchval("SELECT coalesce(sum(calls), 0)::int FROM call_window")
    return calls


async def test_a_call_within_the_limit_says_what_is_left(
    make_replica: ReplicaFactory, counter_url: str, subject_id: str
) -> None:
    """A client that can see the end coming need not run into it."""
    limits = await make_replica(counter_url, 3)

    left = [(await limits.count_call(subject_id)).remaining for _ in range(3)]

    assert left == [2, 1, 0]
    with pytest.raises(
        RateLimited, match=r"3 calls in 3,600 seconds.* 3 are used.*again in [\d,]+ s"
    ):
        await limits.count_call(subject_id)


async def test_replicas_share_one_allowance_however_many_call_at_once(
    make_replica: ReplicaFactory,
    counter_url: str,
    unreachable_valkey_url: str,
    subject_id: str,
    database: Database,
) -> None:
    """A limit that each replica kept for itself would grow with the deployment."""
    one, other = await make_replica(counter_url, 20), await make_replica(counter_url, 20)

    answers = await asyncio.gather(
        *(is_granted(limits, subject_id) for limits in (one, other) for _ in range(50))
    )

    assert sum(answers) == 20
    assert await count_in_postgres(database) == (20 if counter_url == unreachable_valkey_url else 0)


async def test_one_subjects_calls_are_not_anothers(
    make_replica: ReplicaFactory, counter_url: str, subject_id: str
) -> None:
    """Nobody can use up what is somebody else's."""
    limits = await make_replica(counter_url, 1)
    assert await is_granted(limits, subject_id)

    assert await is_granted(limits, f"{subject_id} too")


async def test_the_window_slides(
    make_replica: ReplicaFactory, counter_url: str, subject_id: str
) -> None:
    """Where windows only followed each other, two full ones could be had within a moment."""
    limits = await make_replica(counter_url, 40, window=SHORT_WINDOW)
    await eventually(anyio.lowlevel.checkpoint, lambda _: 0.5 < time.time() % 1 < 0.7)
    assert await count_grants(limits, subject_id) >= 40
    end = int(time.time()) + 1

    await eventually(lambda: is_granted(limits, subject_id), bool)
    again = 1 + await count_grants(limits, subject_id)

    assert again <= 40 * (time.time() - end) + 1


async def test_who_is_refused_and_insists_waits_no_longer(
    make_replica: ReplicaFactory, counter_url: str, subject_id: str
) -> None:
    """What was not done is not counted."""
    limits = await make_replica(counter_url, 2)
    await count_grants(limits, subject_id)

    waits: list[timedelta] = []
    for _ in range(20):
        with pytest.raises(RateLimited) as refused:
            await limits.count_call(subject_id)
        waits.append(refused.value.retry_after)

    assert waits == sorted(waits, reverse=True)


async def test_what_valkey_keeps_names_only_the_subject_and_goes_by_itself(
    redis: Redis, breakable_valkey: BreakableValkey, make_replica: ReplicaFactory
) -> None:
    """Whoever reads Valkey learns no secret, and it does not fill up with who once called."""
    await (await make_replica(breakable_valkey.start(), 2, window=SHORT_WINDOW)).count_call(ADA_ID)

    assert await redis.keys() == [f"holdfast:calls:{ADA_ID}".encode()]

    async def count_keys() -> int:
        return int(await redis.dbsize())

    await eventually(count_keys, lambda keys: keys == 0)


async def test_a_killed_valkey_leaves_it_to_postgres_until_it_is_back(
    redis: Redis,
    breakable_valkey: BreakableValkey,
    make_replica: ReplicaFactory,
    database: Database,
) -> None:
    """Redis may burn, and the limit is still one limit."""
    one, other = [await make_replica(breakable_valkey.start(), 10) for _ in range(2)]
    await one.count_call(ADA_ID)
    breakable_valkey.kill()

    assert await count_grants(one, ADA_ID) + await count_grants(other, ADA_ID) == 10
    assert await count_in_postgres(database) == 10

    async def take_and_look() -> int:
        await is_granted(one, BOB_ID)
        return int(await redis.exists(f"holdfast:calls:{BOB_ID}"))

    breakable_valkey.start()
    await eventually(take_and_look, bool)
    before = await count_in_postgres(database)
    assert await count_grants(one, "carol") == 10
    assert await count_in_postgres(database) == before


async def test_a_valkey_that_hangs_is_waited_for_by_one_call_and_not_by_all(
    breakable_valkey: BreakableValkey,
    make_replica: ReplicaFactory,
    database: Database,
    limit_log: list[str],
) -> None:
    """Each call would be late for as long as it hangs."""
    limits = await make_replica(
        breakable_valkey.start(), 1000, patience=8 * VALKEY_TIMEOUT
    )  # it is to hang, not to lag
    await limits.count_call(BOB_ID)
    assert await count_in_postgres(database) == 0

    def missed() -> int:
        return limit_log.count("limits.valkey_missed")

    async def call_at_once() -> int:
        await asyncio.gather(*(limits.count_call(ADA_ID) for _ in range(20)))
        return missed()

    with breakable_valkey.suspended():
        with anyio.fail_after(1):
            await limits.count_call(ADA_ID)
        assert missed() == 1
        assert await eventually(call_at_once, lambda seen: seen > 1) == 2

    assert await count_in_postgres(database) > 20


async def test_a_valkey_that_hung_under_load_counts_again(
    redis: Redis, breakable_valkey: BreakableValkey, make_replica: ReplicaFactory
) -> None:
    """Who was interrupted while asking has kept no connection from those who ask after."""
    limits = await make_replica(breakable_valkey.start(), 100_000, patience=VALKEY_TIMEOUT)
    async with anyio.create_task_group() as callers:
        with breakable_valkey.suspended():
            for _ in range(100):
                callers.start_soon(limits.count_call, ADA_ID)
            await limits.count_call(ADA_ID)

    async def take_and_look() -> int:
        await limits.count_call(BOB_ID)
        return int(await redis.exists(f"holdfast:calls:{BOB_ID}"))

    await eventually(take_and_look, bool)


async def test_a_flushed_valkey_forgives_one_window_and_no_more(
    redis: Redis, breakable_valkey: BreakableValkey, make_replica: ReplicaFactory
) -> None:
    """What it forgot is had once more; after that it counts again."""
    limits = await make_replica(breakable_valkey.start(), 5)
    taken = await count_grants(limits, ADA_ID)
    await redis.flushall()

    taken += await count_grants(limits, ADA_ID)

    assert taken == 10
    assert not await is_granted(limits, ADA_ID)


async def test_a_valkey_that_forgot_the_script_is_told_it_again(
    redis: Redis,
    breakable_valkey: BreakableValkey,
    make_replica: ReplicaFactory,
    database: Database,
) -> None:
    """A restart or SCRIPT FLUSH would otherwise leave every call to Postgres for good."""
    limits = await make_replica(breakable_valkey.start(), 5)
    await limits.count_call(ADA_ID)
    await redis.script_flush()

    assert await count_grants(limits, ADA_ID) == 4
    assert await count_in_postgres(database) == 0


@pytest.mark.parametrize(
    "garbage",
    [
        ["SET", "no hash"],
        ["RPUSH", "no", "hash"],
        ["HSET", "window", "{now}", "calls", "many", "before", "some"],
        ["HSET", "window", "{now}"],
    ],
)
async def test_garbage_in_valkey_leaves_it_to_postgres(
    redis: Redis,
    breakable_valkey: BreakableValkey,
    make_replica: ReplicaFactory,
    database: Database,
    garbage: list[str],
) -> None:
    """What cannot be read decides nothing, and shuts nobody out."""
    limits = await make_replica(breakable_valkey.start(), 5)
    now = str(int(time.time() // HOUR.total_seconds()))
    command, *values = [word.format(now=now) for word in garbage]
    await redis.execute_command(command, f"holdfast:calls:{ADA_ID}", *values)  # type: ignore[no-untyped-call]

    assert await count_grants(limits, ADA_ID) == 5
    assert await count_in_postgres(database) == 5


async def test_where_nobody_can_count_calls_are_let_go_and_that_is_logged_once(
    make_replica: ReplicaFactory, unreachable_valkey_url: str, limit_log: list[str]
) -> None:
    """The call will say itself that the database is away; a limit must not be a second outage."""
    away = f"postgresql://nobody@127.0.0.1:{find_free_port()}/nothing"
    async with Database(away, application_name="tests") as database:
        limits = await make_replica(unreachable_valkey_url, 1, on=database)

        standings = [await limits.count_call(ADA_ID) for _ in range(3)]

    assert standings == [UNLIMITED] * 3
    assert limit_log.count("limits.not_kept") == 1


async def test_a_limit_of_nothing_is_no_limit(
    make_replica: ReplicaFactory, unreachable_valkey_url: str, limit_log: list[str]
) -> None:
    """Whoever limits calls in front of us need not pay for it twice."""
    away = f"postgresql://nobody@127.0.0.1:{find_free_port()}/nothing"
    async with Database(away, application_name="tests") as database:
        limits = await make_replica(unreachable_valkey_url, 0, on=database)

        standing = await limits.count_call(ADA_ID)

    assert (standing, standing.to_headers(), limit_log) == (UNLIMITED, {}, [])


async def test_limits_as_the_service_opens_them_are_per_minute(
    valkey_url: str, database: Database, subject_id: str
) -> None:
    """The setting says calls per minute."""
    async with open_rate_limiter(
        valkey_url, TenantDatabase(database), calls_per_minute=600
    ) as opened:
        standing = await opened.count_call(subject_id)

    assert standing.to_headers()["ratelimit-policy"] == '"calls";q=600;w=60'
    assert standing.to_headers()["ratelimit"].startswith('"calls";r=599;t=')


@pytest.mark.parametrize("kind", ["grant_id", "client_id"])
async def test_an_address_has_the_share_of_a_team(
    make_replica: ReplicaFactory, counter_url: str, kind: str
) -> None:
    """Ten may do what one may do; one more is refused there, and elsewhere is not."""
    replica = await make_replica(counter_url, 1)
    names = [{"grant_id": None, "client_id": None, kind: f"{kind}-{n}"} for n in range(12)]

    for name in names[:10]:
        await replica.count_token_request("192.0.2.1", **name)
    with pytest.raises(SignInRateLimited, match="Programs at one address may make 10 requests"):
        await replica.count_token_request("192.0.2.1", **names[10])
    await replica.count_token_request("192.0.2.2", **names[11])
