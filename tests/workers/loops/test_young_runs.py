"""What a listing says of a run it lacks; the Hub is a stand-in that lists and knows nothing."""

from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import Any, cast

import pytest

from schema.accounts.vault import Vault
from schema.db.database import Database
from schema.hub.job import RemoteJob
from schema.jobs import queries as job_queries
from schema.jobs import run_launch
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobKind, JobState
from schema.settings import Settings
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID
from workers.context import Worker
from workers.hub.client import HubJobsClient
from workers.loops.poll_runs import poll_runs

MINUTE = timedelta(minutes=1)


class EmptyHub:
    """A Hub that has no jobs, as far as it can tell."""

    async def list_jobs(self, *_: Any, **__: Any) -> list[RemoteJob]:
        return []

    async def inspect_job(self, *_: Any) -> None:
        return None

    async def stream_log(self, *_: Any, **__: Any) -> AsyncGenerator[list[str]]:
        yield []


@pytest.fixture
def worker(database: Database, vault: Vault, make_settings: Callable[..., Settings]) -> Worker:
    """A worker without loops, at a Hub that shows nothing."""
    return Worker(
        name="w1",
        settings=make_settings(),
        database=database,
        vault=vault,
        hub=cast("HubJobsClient", EmptyHub()),
        executors={},
    )


@pytest.fixture
async def bound_run(worker: Worker, make_job: JobFactory) -> ClaimedJob:
    """A run that was created a moment ago."""
    await make_job()
    async with worker.database.transaction() as tx:
        (claim,) = await run_launch.claim(
            tx, JobKind.HUB_JOB, limit=1, worker="w1", lease=MINUTE, settle_window=MINUTE
        )
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r1", stage=None, worker="w1", poll_after=timedelta(0)
        )
    return claim


async def read_state(worker: Worker, claim: ClaimedJob) -> JobState:
    async with worker.database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ADA_ID, claim.job_id)
    assert status is not None
    return status.state


async def test_a_young_run_that_is_not_listed_yet_goes_on(
    worker: Worker, bound_run: ClaimedJob
) -> None:
    """The Hub may not show everywhere what it has just made; an hour later it is gone."""
    await poll_runs(worker)
    young = await read_state(worker, bound_run)
    async with worker.database.transaction() as tx:
        await tx.execute(
            "UPDATE remote_run SET posted_at = now() - interval '1 hour',"
            " seen_at = now() - interval '1 hour'"
        )
        await tx.execute("UPDATE poll_group SET due_at = now()")
    await poll_runs(worker)

    assert young is JobState.RUNNING
    assert await read_state(worker, bound_run) is JobState.FAILED
