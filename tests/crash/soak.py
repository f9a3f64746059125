"""Many launches while workers are killed again and again, and Redis is emptied."""

import asyncio
import random
import time
from contextlib import suppress
from datetime import timedelta
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError
from rich.progress import Progress

from schema.common.errors import Unavailable
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind
from service.local.servers.postgres import Postgres
from tests.crash.crash_matrix import CrashCase
from tests.crash.faulty_hub import Fault
from tests.crash.ledger import audit_ledger
from tests.crash.processes import ForkServer
from tests.crash.scenario import (
    SHORT_JOB_SPEC,
    ScenarioContext,
    ScenarioResult,
    lend_token,
    open_context,
    submit_job,
    wait_until_settled,
)

SOAK: Final = "soak"
LAUNCH_COUNT: Final = 200
WORKER_COUNT: Final = 2
_KILL_INTERVAL_SECONDS: Final = (0.5, 3.0)
_FLUSH_INTERVAL: Final = timedelta(seconds=5)
_LAUNCH_INTERVAL_SECONDS: Final = 0.05
_CANCEL_EVERY: Final = 10
"""One launch in so many is called off."""


async def run_soak(
    fork_server: ForkServer, postgres: Postgres, template: str, valkey_url: str, progress: Progress
) -> ScenarioResult:
    """Launch, cancel and kill, and check the rows: one launch is one job at the Hub, or none."""
    case, started = CrashCase(SOAK, Fault.NONE), time.monotonic()
    async with open_context(case, fork_server, postgres, template, valkey_url) as stage:
        await lend_token(stage)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKER_COUNT):
                group.create_task(_kill_worker_repeatedly(stage, over))
            group.create_task(_flush_redis_repeatedly(valkey_url, over))
            await _launch_all(stage, progress)
            await wait_until_settled(stage)
            over.set()
        worker = await fork_server.start("worker", environment=stage.environment)
        await wait_until_settled(stage)
        await worker.kill()
        counts, violations = await audit_ledger(
            stage.database_url, stage.hub_url, stage.user, stage.handles, stage.cancelled, case
        )
        violations += stage.violations
    return ScenarioResult(case, stage.kill_count, time.monotonic() - started, counts, violations)


async def _launch_all(stage: ScenarioContext, progress: Progress) -> None:
    launched = progress.add_task("launches", total=LAUNCH_COUNT)
    for number in range(LAUNCH_COUNT):
        is_cancelled = number % _CANCEL_EVERY == 0
        spec = SHORT_JOB_SPEC | {"command": ["sleep", "600" if is_cancelled else "0.2"]}
        job_id = await submit_job(stage, JobKind.HUB_JOB, spec)
        stage.handles[job_id] = "is cancelled" if is_cancelled else "succeeds"
        if is_cancelled:
            await asyncio.sleep(random.uniform(0, 1))  # noqa: S311  # no secret
            with suppress(Unavailable):
                async with stage.database.transaction() as tx:
                    await lifecycle.cancel_job(tx, job_id, subject_id=stage.user.id)
                stage.cancelled.add(job_id)
        await asyncio.sleep(_LAUNCH_INTERVAL_SECONDS)  # the load: so many launches a second
        progress.advance(launched)


async def _kill_worker_repeatedly(stage: ScenarioContext, is_over: asyncio.Event) -> None:
    while not is_over.is_set():
        worker = await stage.fork_server.start("worker", environment=stage.environment)
        with suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), random.uniform(*_KILL_INTERVAL_SECONDS))  # noqa: S311
        await worker.kill()
        stage.kill_count += 1


async def _flush_redis_repeatedly(url: str, is_over: asyncio.Event) -> None:
    redis: Redis = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]  # untyped kwargs
    try:
        while not is_over.is_set():
            with suppress(RedisError):
                await redis.flushall()  # pyright: ignore[reportUnknownMemberType]
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), _FLUSH_INTERVAL.total_seconds())
    finally:
        await redis.aclose()
