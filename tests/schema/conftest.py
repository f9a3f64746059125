"""What a worker does to jobs, as fixtures."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import pytest

from schema.accounts import call_counts
from schema.accounts import secrets as sealed_secrets
from schema.accounts.vault import Secret, Vault
from schema.artifacts import files, log_store
from schema.artifacts.files import NewFile
from schema.batches import store as batch_store
from schema.billing import price_store
from schema.billing.budgets import Rate
from schema.common import ids
from schema.db.database import Database
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import Ending
from schema.jobs.run_launch import Claim
from schema.jobs.tables import JobKind, JobState
from schema.schedules import firing
from schema.schedules.firing import Due
from schema.schedules.tables import Became
from schema.settings import ROOM
from schema.specs.batch import Given
from schema.workspaces import store as workspace_store
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
            return await run_launch.claim(
                tx, kind, limit=limit, worker="w1", lease=lease, settle=settle
            )

    return take


@pytest.fixture
async def full(database: Database, vault: Vault, ada: str, make_job: JobFactory) -> None:
    """Ada has a row in every table."""
    finished = await make_job(rate=Rate(1, timedelta(minutes=1)))
    async with database.transaction() as tx:
        await workspace_store.make_workspace(tx, ada, ids.new_id(), "hers")
        (claim,) = await run_launch.claim(
            tx,
            JobKind.HUB_JOB,
            limit=1,
            worker="w1",
            lease=timedelta(minutes=1),
            settle=timedelta(minutes=1),
        )
        await run_launch.bind(
            tx,
            claim.run_id,
            remote_id="r1",
            stage="RUNNING",
            worker="w1",
            look_again=timedelta(0),
        )
        await log_store.append(tx, claim.run_id, ["a line"], already=0, room=ROOM)
        await run_end.end(tx, claim.run_id, Ending(JobState.SUCCEEDED, "COMPLETED"), worker="w1")
        await batch_store.keep(tx, finished.id, ada, [Given("1", {"inputs": "a river"})])
        await files.keep(tx, finished.id, [NewFile.of("model.bin", b"weights", None)])
    open_job = await make_job(idempotency_key="k", after=[finished.id])
    async with database.transaction() as tx:
        await sealed_secrets.save_job_secrets(tx, vault, open_job.id, ada, {"KEY": Secret("s")})
        await price_store.keep(tx, [])
        await call_counts.take(tx, ada, limit=10, window=timedelta(minutes=1))
    await timetable.make(database, vault, secrets={"KEY": Secret("s")}, idempotency_key="k")
    async with database.transaction() as tx:
        (taken,) = await firing.take(tx, limit=1, lease=timedelta(minutes=1))
        due = Due.of(taken)
        await firing.settle(tx, due, Became.LAUNCHED, job_id=open_job.id)
    assert finished.id != open_job.id


@pytest.fixture
def make_workspace(database: Database, ada: str) -> WorkspaceFactory:
    """Make a workspace of Ada's with a budget of a dollar, unless another is named."""

    async def make(budget: int | None = DOLLAR) -> UUID:
        workspace_id = ids.new_id()
        async with database.transaction() as tx:
            await workspace_store.make_workspace(
                tx, ada, workspace_id, workspace_id.hex, budget_micro_usd=budget
            )
        return workspace_id

    return make
