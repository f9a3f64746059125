"""What a worker does to jobs, as fixtures."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from schema import (
    batch,
    calls,
    endings,
    files,
    firings,
    handles,
    job_secrets,
    launches,
    logbook,
    prices,
    queries,
)
from schema.batch import Given
from schema.budgets import Rate
from schema.database import Database
from schema.endings import Ending
from schema.files import NewFile
from schema.firings import Due
from schema.job import JobKind, JobState
from schema.launches import Claim
from schema.schedule import Became
from schema.vault import Secret, Vault
from tests.conftest import JobFactory
from tests.schema import timetable
from tests.schema.money import DOLLAR, WorkspaceFactory

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
    finished = await make_job(rate=Rate(1, timedelta(minutes=1)))
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
        await batch.keep(tx, finished.id, ada, [Given("1", {"inputs": "a river"})])
        await files.keep(tx, finished.id, [NewFile.of("model.bin", b"weights", None)])
    open_job = await make_job(idempotency_key="k", after=[finished.id])
    async with database.transaction() as tx:
        await job_secrets.keep(tx, vault, open_job.id, ada, {"KEY": Secret("s")})
        await prices.keep(tx, [])
        await calls.take(tx, ada, limit=10, window=timedelta(minutes=1))
    await timetable.make(database, vault, secrets={"KEY": Secret("s")}, idempotency_key="k")
    async with database.transaction() as tx:
        (taken,) = await firings.take(tx, limit=1, lease=timedelta(minutes=1))
        due = Due.of(taken)
        await firings.settle(tx, due, Became.LAUNCHED, job_id=open_job.id)
    assert finished.id != open_job.id


@pytest.fixture
def make_workspace(database: Database, ada: str) -> WorkspaceFactory:
    """Make a workspace of Ada's with a budget of a dollar, unless another is named."""

    async def make(budget: int | None = DOLLAR) -> UUID:
        workspace_id = handles.new_id()
        async with database.transaction() as tx:
            await queries.make_workspace(
                tx, ada, workspace_id, workspace_id.hex, budget_micro_usd=budget
            )
        return workspace_id

    return make
