"""Two at once: who waits for whom, and what the second one sees."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from schema.db.database import Database, Transaction
from schema.jobs import lifecycle, run_launch, work_queues
from schema.jobs.tables import JobKind
from tests.conftest import JobFactory
from tests.schema.conftest import ClaimFactory

MINUTE = timedelta(minutes=1)
PROMPTLY = 2

Take = Callable[[Transaction], Awaitable[list[object]]]


async def claim_with(tx: Transaction) -> list[run_launch.Claim]:
    return await run_launch.claim(
        tx, JobKind.HUB_JOB, limit=9, worker="w2", lease=MINUTE, settle=MINUTE
    )


async def take_runs(tx: Transaction) -> list[work_queues.AgedRun]:
    return await work_queues.take_runs(tx, limit=9, lease=MINUTE)


async def take_groups(tx: Transaction) -> list[work_queues.Turn]:
    return await work_queues.take_groups(tx, limit=9, lease=MINUTE)


@pytest.mark.parametrize(
    ("table", "take"),
    [
        ("subject", claim_with),
        ("job", claim_with),
        ("remote_run", take_runs),
        ("poll_group", take_groups),
    ],
)
async def test_what_another_worker_holds_is_passed_over_and_not_waited_for(
    database: Database, make_job: JobFactory, claim: ClaimFactory, table: str, take: Take
) -> None:
    """One slow transaction must not stop every worker's loop."""
    await make_job()
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.doubt(tx, one.run_id, why="timeout", worker="w1")
        await tx.execute("INSERT INTO poll_group (subject_id, namespace, due_at)"
                         " SELECT id, 'ada', now() FROM subject")  # fmt: skip
    await make_job()

    async with database.transaction() as slow:
        await slow.execute(f"SELECT FROM {table} FOR NO KEY UPDATE")  # our names
        with anyio.fail_after(PROMPTLY):
            async with database.transaction() as tx:
                passed_over = await take(tx)
    async with database.transaction() as tx:
        taken = await take(tx)

    assert passed_over == []
    assert len(taken) == 1


async def test_a_cancel_that_comes_during_a_claim_reaches_the_run(
    database: Database, ada: str, make_job: JobFactory
) -> None:
    """The claim was first, so there may be a create request, and what it makes is to be killed."""
    job = await make_job()

    async def cancel() -> bool:
        async with database.transaction() as tx:
            return await lifecycle.cancel(tx, job.id, subject_id=ada)

    async with database.transaction() as tx:
        (one,) = await claim_with(tx)
        cancelling = asyncio.create_task(cancel())
        await wait_until_blocked(database)

    assert await cancelling
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT desired FROM remote_run") == "dead"
        assert await run_launch.bind(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", look_again=MINUTE
        )


async def wait_until_blocked(database: Database) -> None:
    """Wait until some transaction waits for a lock of another."""
    with anyio.fail_after(5):
        async with database.transaction() as tx:
            while not await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await anyio.lowlevel.checkpoint()
