"""Batches of a person, and a worker that carries them out, for tests."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus
from schema.jobs.tables import Job
from tests.support.hub.model_router import RunningRouter
from tests.support.polling import SHORT_INTERVAL, eventually
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.loops import engine

BATCH_SPEC: Final[dict[str, Any]] = {"model": "local/echo", "timeout": 20, "concurrency": 4}
BatchFactory = Callable[..., Awaitable[Job]]
"""Queues a batch of prompts; keyword arguments override its request."""


async def lend_token(
    database: Database, vault: Vault, token: str, subject_id: str = ADA_ID
) -> None:
    """Lend a token of a subject to their jobs."""
    async with database.transaction() as tx:
        await credentials.save_credential(
            tx, vault, subject_id=subject_id, name="ada", token=Secret(token), expires_at=None
        )


@asynccontextmanager
async def run_worker(worker: Worker) -> AsyncGenerator[None]:
    """Run the loops of a worker for the length of a block."""
    stop = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run_loops, worker, stop)
        try:
            yield
        finally:
            stop.set()


async def read_status(database: Database, job: Job, subject_id: str = ADA_ID) -> JobStatus:
    """Return where a job stands."""
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(tx, subject_id, job.id)
    assert status is not None
    return status


async def wait_for_status(
    database: Database,
    job: Job,
    predicate: Callable[[JobStatus], bool],
    subject_id: str = ADA_ID,
) -> JobStatus:
    """Wait until the status of a job is as expected, and return it."""
    return await eventually(
        partial(read_status, database, job, subject_id), predicate, interval=SHORT_INTERVAL
    )


async def run_to_end(worker: Worker, job: Job) -> JobStatus:
    """Run a worker until a job has ended."""
    async with run_worker(worker):
        return await wait_for_status(worker.database, job, lambda status: status.is_settled)


async def wait_for_calls(router: RunningRouter, minimum: int) -> None:
    """Wait until so many calls have come."""

    async def count_calls() -> int:
        return router.router.calls_by_prompt.total()

    await eventually(count_calls, lambda count: count >= minimum, interval=SHORT_INTERVAL)


def make_prompts(count: int) -> list[str]:
    """Return prompts, each with a number."""
    return [f"say {number}" for number in range(count)]
