"""Two at once: who waits for whom, and what the second one sees."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio
import pytest

from schema.accounts import credentials
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle, run_launch, work_queues
from schema.jobs.tables import JobKind
from schema.jobs.work_queues import PollLease
from tests.support.factories import ClaimFactory, JobFactory

MINUTE = timedelta(minutes=1)
PROMPT_SECONDS = 2

LeaseStep = Callable[[Transaction], Awaitable[list[object]]]


async def claim_with(tx: Transaction) -> list[run_launch.ClaimedJob]:
    return await run_launch.claim(
        tx, JobKind.HUB_JOB, limit=9, worker="w2", lease=MINUTE, settle_window=MINUTE
    )


async def lease_due_runs(tx: Transaction) -> list[work_queues.DueRun]:
    return await work_queues.lease_due_runs(tx, limit=9, lease=MINUTE)


async def lease_due_polls(tx: Transaction) -> list[work_queues.PollLease]:
    return await work_queues.lease_due_poll_groups(tx, limit=9, lease=MINUTE)


@pytest.mark.parametrize(
    ("table", "take"),
    [
        ("subject", claim_with),
        ("job", claim_with),
        ("remote_run", lease_due_runs),
        ("poll_group", lease_due_polls),
    ],
)
async def test_what_another_worker_holds_is_passed_over_and_not_waited_for(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, table: str, take: LeaseStep
) -> None:
    """One slow transaction must not stop every worker's loop."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, one.run_id, cause="timeout", worker="w1")
        await tx.execute("INSERT INTO poll_group (subject_id, namespace, due_at)"
                         " SELECT id, 'ada', now() FROM subject")  # fmt: skip
    await make_job()

    async with database.transaction() as slow:
        await slow.execute(f"SELECT FROM {table} FOR NO KEY UPDATE")  # our names
        with anyio.fail_after(PROMPT_SECONDS):
            async with database.transaction() as tx:
                passed_over = await take(tx)
    async with database.transaction() as tx:
        taken = await take(tx)

    assert passed_over == []
    assert len(taken) == 1


async def test_a_cancel_that_comes_during_a_claim_reaches_the_run(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """The claim was first, so there may be a create request, and what it makes is to be killed."""
    job = await make_job()

    async def cancel() -> bool:
        async with database.transaction() as tx:
            return await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    async with database.transaction() as tx:
        (one,) = await claim_with(tx)
        cancelling = asyncio.create_task(cancel())
        await wait_until_blocked(database)

    assert await cancelling
    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT desired FROM remote_run") == "dead"
        assert await run_launch.record_remote_id(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", poll_after=MINUTE
        )


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")], ids=str)
@pytest.mark.parametrize("step", ["finish_polls", "save_credential"])
async def test_groups_are_locked_in_one_order(
    database: Database, vault: Vault, ada_id: str, names: tuple[str, str], step: str
) -> None:
    """A worker ends its polls while the token comes back that releases the same groups."""
    async with database.transaction() as tx:
        for name in names:
            await tx.execute(
                "INSERT INTO poll_group (subject_id, namespace, due_at) VALUES ($1, $2, now())",
                *(ada_id, name),
            )
        await credentials.mark_credential_refused(tx, ada_id, version=1)
    leases = [PollLease(ada_id, name, epoch=0) for name in names]

    async def take_both() -> None:
        async with database.transaction() as tx:
            if step == "finish_polls":
                await work_queues.finish_polls(tx, leases, min_interval=MINUTE, max_interval=MINUTE)
            else:
                await credentials.save_credential(
                    tx,
                    vault,
                    subject_id=ada_id,
                    name="ada",
                    token=Secret("hf_new"),
                    expires_at=None,
                )

    async with database.transaction() as first:
        await first.execute("SELECT FROM poll_group WHERE namespace = 'a' FOR UPDATE")
        taking = asyncio.create_task(take_both())
        await wait_until_blocked(database)
        # It waits for the first of them, and holds none behind it that another could wait for.
        await first.execute("SELECT FROM poll_group WHERE namespace = 'b' FOR UPDATE NOWAIT")
    await taking


async def wait_until_blocked(database: Database) -> None:
    """Wait until some transaction waits for a lock of another."""
    with anyio.fail_after(5):
        async with database.transaction() as tx:
            while not await tx.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await anyio.lowlevel.checkpoint()
