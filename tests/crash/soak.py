"""Many launches while workers are killed again and again, and Redis is emptied under them."""

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
from tests.crash.books import audit
from tests.crash.faults import Fault
from tests.crash.processes import Nursery
from tests.crash.scenario import (
    SHORT,
    Stage,
    Verdict,
    open_stage,
    settle,
    sign_in,
    submit,
)
from tests.crash.scenes import Scene

SOAK: Final = "soak"
LAUNCHES: Final = 200
WORKERS: Final = 2
_BETWEEN_KILLS: Final = (0.5, 3.0)
_BETWEEN_FLUSHES: Final = timedelta(seconds=5)
_BETWEEN_LAUNCHES: Final = 0.05
_CANCELLED: Final = 10
"""One launch in so many is called off."""


async def soak(
    nursery: Nursery, postgres: Postgres, template: str, valkey_url: str, progress: Progress
) -> Verdict:
    """Play it, and check the books; one launch is one job at the Hub, or none and a reason."""
    scene, started = Scene(SOAK, Fault.NONE), time.monotonic()
    async with open_stage(scene, nursery, postgres, template, valkey_url) as stage:
        await sign_in(stage)
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(_kill_again_and_again(stage, over))
            group.create_task(_flush_again_and_again(valkey_url, over))
            await _launch_all(stage, progress)
            await settle(stage)
            over.set()
        worker = await nursery.start("worker", environment=stage.environment)
        await settle(stage)
        await worker.kill()
        books, violations = await audit(
            stage.url, stage.hub, stage.user, stage.handles, stage.cancelled, scene
        )
    return Verdict(scene, stage.reached, time.monotonic() - started, books, violations)


async def _launch_all(stage: Stage, progress: Progress) -> None:
    launched = progress.add_task("launches", total=LAUNCHES)
    for number in range(LAUNCHES):
        doomed = number % _CANCELLED == 0
        spec = SHORT | {"command": ["sleep", "600" if doomed else "0.2"]}
        job_id = await submit(stage, JobKind.HUB_JOB, spec)
        stage.handles[job_id] = "is cancelled" if doomed else "succeeds"
        if doomed:
            await asyncio.sleep(random.uniform(0, 1))  # noqa: S311  # no secret
            with suppress(Unavailable):
                async with stage.database.transaction() as tx:
                    await lifecycle.cancel(tx, job_id, subject_id=stage.user.id)
                stage.cancelled.add(job_id)
        await asyncio.sleep(_BETWEEN_LAUNCHES)  # the load: so many launches a second
        progress.advance(launched)


async def _kill_again_and_again(stage: Stage, over: asyncio.Event) -> None:
    while not over.is_set():
        worker = await stage.nursery.start("worker", environment=stage.environment)
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), random.uniform(*_BETWEEN_KILLS))  # noqa: S311
        await worker.kill()
        stage.reached += 1


async def _flush_again_and_again(url: str, over: asyncio.Event) -> None:
    redis: Redis = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType]  # untyped kwargs
    try:
        while not over.is_set():
            with suppress(RedisError):
                await redis.flushall()  # pyright: ignore[reportUnknownMemberType]
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), _BETWEEN_FLUSHES.total_seconds())
    finally:
        await redis.aclose()
