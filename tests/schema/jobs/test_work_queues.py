"""The promises about who takes up what owes a step: one at a time, and again until it is done."""

from datetime import timedelta

import pytest

from schema.accounts import credentials
from schema.db.database import Database
from schema.jobs import lifecycle, run_launch, work_queues
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.work_queues import DueRun, PollLease
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID

NO_DELAY = timedelta(0)
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def bound_run(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> ClaimedJob:
    """A run that is watched, and due to be."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
    return one


@pytest.fixture
async def cancelled_run(database: Database, bound_run: ClaimedJob) -> ClaimedJob:
    """A run that is to be killed."""
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, bound_run.job_id, subject_id=ADA_ID)
    return bound_run


async def mark_another_unconfirmed(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> ClaimedJob:
    await make_job()
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(
            tx, one.run_id, cause="timeout", worker="w1", recheck_after=-MINUTE
        )
    return one


async def lease_due_runs(
    database: Database, limit: int = 9, lease: timedelta = MINUTE
) -> list[DueRun]:
    async with database.transaction() as tx:
        return await work_queues.lease_due_runs(tx, limit=limit, lease=lease)


async def lease_due_polls(database: Database, lease: timedelta = MINUTE) -> list[PollLease]:
    async with database.transaction() as tx:
        return await work_queues.lease_due_poll_groups(tx, limit=9, lease=lease)


async def hold_subject(database: Database) -> None:
    async with database.transaction() as tx:
        await credentials.mark_credential_refused(tx, ADA_ID, version=1)


async def test_a_run_taken_is_not_taken_again_until_the_lease_of_the_step_lapses(
    database: Database, cancelled_run: ClaimedJob
) -> None:
    """Two workers would ask the Hub the same thing; one that dies is followed by another."""
    lapsing = await lease_due_runs(database, lease=NO_DELAY)
    lasting = await lease_due_runs(database)

    assert [run.id for run in lapsing + lasting] == [cancelled_run.run_id] * 2
    assert await lease_due_runs(database) == []


async def test_a_group_taken_is_not_taken_again_until_the_turn_lapses(
    database: Database, bound_run: ClaimedJob
) -> None:
    """The same, for listings."""
    lapsing = await lease_due_polls(database, lease=NO_DELAY)
    lasting = await lease_due_polls(database)

    assert (len(lapsing), len(lasting)) == (1, 1)
    assert await lease_due_polls(database) == []


async def test_a_kill_order_is_taken_before_an_older_question(
    database: Database, cancelled_run: ClaimedJob, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Something that costs money is stopped before something that may not exist is looked for."""
    question = await mark_another_unconfirmed(database, make_job, claim_jobs)

    taken = [*await lease_due_runs(database, limit=1), *await lease_due_runs(database, limit=1)]

    assert [run.id for run in taken] == [cancelled_run.run_id, question.run_id]


async def test_a_kill_is_sent_again_until_the_run_is_seen_to_be_over(
    database: Database, cancelled_run: ClaimedJob
) -> None:
    """The Hub may lose a cancel request, or answer it and not carry it out."""
    for kills in range(3):
        (run,) = await lease_due_runs(database)
        assert run.kills == kills
        async with database.transaction() as tx:
            await work_queues.record_kill_request(tx, run.id, recheck_after=NO_DELAY)


async def test_nothing_is_taken_up_for_a_subject_on_hold(
    database: Database, cancelled_run: ClaimedJob, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Without a token there is nothing to ask with; it is due again once there is one."""
    await mark_another_unconfirmed(database, make_job, claim_jobs)
    await hold_subject(database)

    assert await lease_due_runs(database) == []
    assert await lease_due_polls(database) == []


async def test_a_lost_turn_can_be_neither_given_back_nor_postponed(
    database: Database, bound_run: ClaimedJob
) -> None:
    """A worker that slept through its turn must not reschedule the one that follows."""
    (slept,) = await lease_due_polls(database, lease=NO_DELAY)
    await lease_due_polls(database)

    async with database.transaction() as tx:
        due_at = await tx.fetchval("SELECT due_at FROM poll_group")
        await work_queues.finish_polls(tx, [slept], min_interval=NO_DELAY, max_interval=NO_DELAY)
        await work_queues.postpone_poll(tx, slept, recheck_after=NO_DELAY)
        assert await tx.fetchval("SELECT due_at FROM poll_group") == due_at


@pytest.mark.parametrize(("overrides", "minutes"), [({}, 1), ({"attempts": 3}, 3)])
async def test_a_run_may_last_as_long_as_all_its_attempts(
    database: Database,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    overrides: dict[str, int],
    minutes: int,
) -> None:
    """The Hub starts it anew within one run; given up after the first, the others would be lost."""
    await make_job(spec={"timeout": 60.0, "flavor": "cpu-basic", **overrides})
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
    (turn,) = await lease_due_polls(database)

    async with database.transaction() as tx:
        (run,) = await work_queues.list_bound_runs(tx, [turn])

    assert run.read().timeout == minutes * MINUTE
