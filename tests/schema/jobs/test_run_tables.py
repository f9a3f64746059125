"""What the table of runs refuses by itself, even from psql."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from schema.db.database import Database
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState
from tests.support.factories import ClaimFactory, JobFactory

COPY_RUN = """
INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state, due_at,
                        absent_after)
SELECT gen_random_uuid(), job_id, subject_id, namespace, kind, $1, $2, $3, absent_after
  FROM remote_run
"""


async def record_remote_id(database: Database, claim: ClaimedJob) -> None:
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, claim.run_id, remote_id="r1", stage=None, worker="w1", poll_after=timedelta(0)
        )


async def test_a_job_has_at_most_one_open_launch(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Two that may be alive could both be paid for."""
    await make_job()
    (one,) = await claim_jobs()
    await record_remote_id(database, one)

    with pytest.raises(asyncpg.UniqueViolationError, match="one_open_launch"):
        async with database.transaction() as tx:
            await tx.execute(COPY_RUN, 2, "posting", datetime.now(UTC))


async def test_an_attempt_has_one_run(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The run of an attempt decides for it; there cannot be two to say."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(tx, one.run_id, reason=None, message="busy", worker="w1")

    with pytest.raises(asyncpg.UniqueViolationError, match="one_run_an_attempt"):
        async with database.transaction() as tx:
            await tx.execute(COPY_RUN, 1, "rejected", None)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM remote_run", "may be alive"),
        ("UPDATE remote_run SET state = 'unknown', remote_id = NULL, due_at = now()", "move from"),
        ("UPDATE remote_run SET remote_id = 'r2'", "written once"),
        ("UPDATE remote_run SET desired = 'alive', due_at = NULL", "never taken back"),
    ],
)
async def test_the_database_refuses_what_no_move_does_to_a_run(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, statement: str, why: str
) -> None:
    """What may be alive is neither forgotten, nor renamed, nor pardoned."""
    await make_job()
    (one,) = await claim_jobs()
    await record_remote_id(database, one)
    async with database.transaction() as tx:
        await run_end.record_surplus_run(tx, one.run_id, remote_id="r9", stage=None, worker="w1")

    with pytest.raises(asyncpg.RaiseError, match=why):
        async with database.transaction() as tx:
            await tx.execute(f"{statement} WHERE origin = 'surplus'")


async def test_a_launch_ends_only_after_it_was_bound(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Nobody has seen the end of what nobody has seen."""
    await make_job()
    (one,) = await claim_jobs()
    answer = RunResult(JobState.SUCCEEDED, "ANSWERED")

    with pytest.raises(asyncpg.RaiseError, match="ends only after"):
        async with database.transaction() as tx:
            await run_end.end_call(tx, one.run_id, answer, worker="w1")
