"""What nobody can do anything about any more comes to an end all the same."""

from datetime import timedelta

import pytest

from schema.accounts import credentials
from schema.db.database import Database
from schema.jobs import deadlines, run_launch
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.tables import Job, JobState, Reason
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID

WEEK = timedelta(days=7)


async def read_status(database: Database, job: Job) -> JobStatus:
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ADA_ID, job.id)
    assert status is not None
    return status


@pytest.mark.parametrize(
    ("age", "state"), [("6 days", JobState.QUEUED), ("8 days", JobState.FAILED)]
)
async def test_a_job_whose_subject_never_came_back_is_given_up(
    database: Database, ada_id: str, make_job: JobFactory, age: str, state: JobState
) -> None:
    """A handle that was answered comes to a final state, and says what it waited for."""
    job = await make_job()
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ada_id, version=1)
        await tx.execute(
            "UPDATE job SET due_at = now() - $1::text::interval, version = version + 1", age
        )
        await tx.execute(
            "INSERT INTO job_event (job_id, version, kind, state, actor)"
            " VALUES ($1, 2, 'stage', 'queued', 'test')",
            job.id,
        )
        await deadlines.fail_abandoned_jobs(tx, abandon_after=WEEK, worker="w1")
        counted = await tx.fetchval("SELECT queued FROM subject")

    status = await read_status(database, job)
    why = (Reason.STUCK_SCHEDULING, "It waited here for a token that is still accepted.")
    assert status.state is state
    assert (status.reason, status.message) == (why if counted == 0 else (None, None))
    assert counted == (state is JobState.QUEUED)


async def test_a_run_that_nobody_could_look_at_for_too_long_ends_as_unknown(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """It is long over upstream, most likely; a kill order waits for the next token all the same."""
    job = await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx,
            one.run_id,
            remote_id="r1",
            stage=None,
            worker="w1",
            poll_after=WEEK,
            max_stage_duration=timedelta(0),
        )
    async with database.transaction() as tx:
        await deadlines.fail_abandoned_jobs(tx, abandon_after=WEEK, worker="w1")
    waiting = await read_status(database, job)
    async with database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET deadline_at = now() - interval '8 days'")
        await deadlines.fail_abandoned_jobs(tx, abandon_after=WEEK, worker="w1")

    given_up = await read_status(database, job)
    assert waiting.state is JobState.RUNNING
    assert (given_up.state, given_up.reason) == (JobState.FAILED, Reason.OUTCOME_UNKNOWN)
    assert given_up.upstream is UpstreamState.STOPPING


async def test_a_stage_that_may_still_last_is_left_alone(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The move compares again, for the run may have moved on since somebody looked."""
    job = await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx,
            one.run_id,
            remote_id="r",
            stage=None,
            worker="w",
            poll_after=WEEK,
            max_stage_duration=WEEK,
        )
        expired = await deadlines.expire_run(
            tx, one.run_id, reason=Reason.TIMED_OUT, message="late", worker="w"
        )

    assert not expired
    assert (await read_status(database, job)).state is JobState.RUNNING
