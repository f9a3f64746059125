"""A token is refused while others work on the rows of its subject: nobody ends as a deadlock.

In each test the second transaction comes while the first one waits. Where one of them locks its
rows in another order than job, run, subject, credential, each waits for the other from then on.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import cast
from uuid import UUID

import asyncpg
import pytest

from schema.accounts import credentials
from schema.accounts.credentials import DecryptedToken
from schema.accounts.vault import Secret, Vault
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from schema.settings import Settings
from tests.support.database.lock_waits import run_in_turn_at_lock
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.polling import eventually
from tests.support.subjects import ADA_ID
from workers.attempts.run import record_lost_call, record_outcome
from workers.context import Worker
from workers.executor import Executor, TokenRejected
from workers.hub.client import HubJobsClient

LOCK_CREDENTIAL = "SELECT FROM credential FOR UPDATE"
LOCK_SUBJECT = "SELECT FROM subject FOR UPDATE"
MOVE_RUN = "UPDATE remote_run SET misses = misses WHERE id = $1"
SELECT_RUN = "SELECT id FROM remote_run"
FIRST = "ORDER BY ctid LIMIT 1"


@pytest.fixture
def worker(database: Database, vault: Vault, make_settings: Callable[..., Settings]) -> Worker:
    return Worker(
        name="w1",
        settings=make_settings(),
        database=database,
        vault=vault,
        hub=cast("HubJobsClient", None),  # these tests never speak to the Hub
        executors={},
    )


async def test_a_token_is_brought_while_the_old_one_is_refused(
    database: Database, vault: Vault, ada_id: str
) -> None:
    """The new token counts, whoever came first, and holds nobody."""

    async def bring(tx: Transaction) -> None:
        await credentials.save_credential(
            tx, vault, subject_id=ada_id, name="ada", token=Secret("hf_new"), expires_at=None
        )

    async def refuse(tx: Transaction) -> None:
        await credentials.mark_credential_refused(tx, ada_id, version=1)

    await run_in_turn_at_lock(database, LOCK_CREDENTIAL, refuse, bring)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") is None
        token = await credentials.load_token(tx, vault, ada_id)
    assert token is not None
    assert token.token.reveal() == "hf_new"


async def test_a_refusal_is_recorded_while_another_worker_takes_its_run_over(
    database: Database, worker: Worker, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The worker was held up past its lease, and its late 401 comes at that moment."""
    job = await make_job()
    (claim,) = await claim_jobs(lease=timedelta(0))
    credential = DecryptedToken(Secret("hf_ada"), 1)

    async def refuse(tx: Transaction) -> None:
        await record_outcome(
            tx,
            worker=worker,
            executor=cast("Executor", None),  # not looked at for this outcome
            claim=claim,
            credential=credential,
            outcome=TokenRejected("401"),
        )

    async def take_over(tx: Transaction) -> None:
        await record_lost_call(
            tx, claim.run_id, may_repeat=True, message="lapsed", worker="w2", only_if_lapsed=True
        )

    await run_in_turn_at_lock(database, LOCK_SUBJECT, refuse, take_over)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") == "credentials"
        assert await tx.fetchval("SELECT state FROM job WHERE id = $1", job.id) == JobState.QUEUED


async def test_a_token_is_brought_while_a_run_that_must_die_ends(
    database: Database, vault: Vault, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The call makes such runs due, and the end of one of them changes a count of the subject."""
    job = await make_job()
    (claim,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r1", stage="RUNNING", worker="w1", poll_after=timedelta(0)
        )
        await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    async def bring(tx: Transaction) -> None:
        await credentials.save_credential(
            tx, vault, subject_id=ADA_ID, name="ada", token=Secret("hf_new"), expires_at=None
        )

    async def end(tx: Transaction) -> None:
        await run_end.end_run(
            tx, claim.run_id, RunResult(JobState.CANCELLED, "CANCELED"), worker="w1"
        )

    await run_in_turn_at_lock(database, LOCK_SUBJECT, bring, end)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") is None
        assert await tx.fetchval("SELECT state FROM remote_run") == "ended"


async def test_two_calls_bring_a_token_and_find_the_runs_in_different_orders(
    database: Database,
    database_url: str,
    vault: Vault,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
) -> None:
    """Each makes them due: in the order of their ids, or else of their places in the table."""
    rejected, *runs = [await take_run(make_job, claim_jobs) for _ in range(4)]
    _, second, last = sorted(runs)  # the first call locks them in this order
    async with database.transaction() as tx:
        # The old rows of these four are where there is room for the next ones.
        await run_launch.mark_not_created(
            tx, rejected, reason=Reason.INTERNAL, message="no", worker="w1"
        )
        for run in runs:
            await run_launch.mark_unconfirmed(
                tx, run, cause="lost", worker="w1", recheck_after=timedelta(minutes=1)
            )
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)

    async def bring(tx: Transaction) -> None:
        await credentials.save_credential(
            tx, vault, subject_id=ADA_ID, name="ada", token=Secret("hf_new"), expires_at=None
        )

    async def move_the_last_to_the_front_and_bring(tx: Transaction) -> None:
        async with database.transaction() as mover:
            await mover.execute(MOVE_RUN, last)
        assert await tx.fetchval(f"{SELECT_RUN} WHERE state = 'unknown' {FIRST}") == last
        await bring(tx)

    connection = await asyncpg.connect(database_url)
    try:

        async def move_to_the_front() -> UUID:
            await connection.execute("VACUUM (INDEX_CLEANUP on) remote_run")
            await connection.execute(MOVE_RUN, rejected)
            first: UUID = await connection.fetchval(f"{SELECT_RUN} {FIRST}")
            return first

        await eventually(move_to_the_front, lambda first: first == rejected)
    finally:
        await connection.close()

    lock_second = f"SELECT FROM remote_run WHERE id = '{second}' FOR UPDATE"
    await run_in_turn_at_lock(database, lock_second, bring, move_the_last_to_the_front_and_bring)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT hold FROM subject") is None
        assert await tx.fetchval("SELECT count(*) FROM remote_run WHERE due_at <= now()") == 3


async def take_run(make_job: JobFactory, claim_jobs: ClaimFactory) -> UUID:
    await make_job()
    (claim,) = await claim_jobs()
    return claim.run_id
