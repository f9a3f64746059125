"""What a worker does to jobs, as fixtures."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from schema import calls, endings, handles, job_secrets, launches, logbook, queries
from schema.database import Database
from schema.endings import Ending
from schema.job import JobKind, JobState
from schema.launches import Claim
from schema.vault import Secret, Vault
from tests.conftest import JobFactory

ClaimFactory = Callable[..., Awaitable[list[Claim]]]


@pytest.fixture
def claim(database: Database) -> ClaimFactory:
    """Claim due jobs the way a worker does."""

    async def take(
        kind: JobKind = JobKind.HUB_JOB,
        *,
        limit: int = 10,
        lease: timedelta = timedelta(minutes=1),
        settle: timedelta = timedelta(0),
    ) -> list[Claim]:
        async with database.transaction() as tx:
            return await launches.claim(
                tx, kind, limit=limit, worker="w1", lease=lease, settle=settle
            )

    return take


@pytest.fixture
async def full(database: Database, vault: Vault, ada: str, make_job: JobFactory) -> None:
    """Ada has a row in every table."""
    finished = await make_job()
    async with database.transaction() as tx:
        await queries.make_workspace(tx, ada, handles.new_id(), "hers")
        (claim,) = await launches.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle=timedelta(minutes=1),
        )
        await launches.bind(
            tx,
            claim.run_id,
            remote_id="r1",
            stage="RUNNING",
            worker="w1",
            look_again=timedelta(0),
        )
        await logbook.append(tx, claim.run_id, ["a line"], already=0)
        await endings.end(tx, claim.run_id, Ending(JobState.SUCCEEDED, "COMPLETED"), worker="w1")
    open_job = await make_job(idempotency_key="k")
    async with database.transaction() as tx:
        await job_secrets.keep(tx, vault, open_job.id, ada, {"KEY": Secret("s")})
        await calls.take(tx, ada, limit=10, window=timedelta(minutes=1))
    assert finished.id != open_job.id
