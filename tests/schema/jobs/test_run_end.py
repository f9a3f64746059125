"""The promises about runs that are over, that never were, and that turn up too late."""

from datetime import datetime, timedelta

import pytest

from schema.billing.budgets import Rate
from schema.db.database import Database
from schema.hub.job import JOB_ADAPTER
from schema.jobs import queries as job_queries
from schema.jobs import run_end, run_launch, work_queues
from schema.jobs.queries import JobStatus, UpstreamState
from schema.jobs.run_end import MIN_MISSED_LISTINGS, RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState, Reason
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.jobs.job_costs import DOLLAR_MICRO_USD
from workers.hub.job_ending import derive_run_result

NO_DELAY = timedelta(0)


async def read_status(database: Database, ada: str, claim: ClaimedJob) -> JobStatus:
    async with database.transaction() as tx:
        status = await job_queries.get_job_status(tx, ada, claim.job_id)
    assert status is not None
    return status


async def mark_absent(
    database: Database,
    claim: ClaimedJob,
    *,
    misses: int = MIN_MISSED_LISTINGS,
    relaunch: bool = False,
) -> list[bool]:
    """Doubt a run, miss it in some listings, and conclude that it is absent."""
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, claim.run_id, cause="timeout", worker="w1")
        ripe = [
            await run_end.record_missed_listing(tx, claim.run_id, recheck_after=NO_DELAY)
            for _ in range(misses)
        ]
        await run_end.mark_absent(tx, claim.run_id, worker="w1", relaunch=relaunch)
    return ripe


async def test_an_ending_is_written_once(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Two workers may see the same ending; the second finds nothing left to say."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
        ending = RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "exit code: 3", 3)
        await run_end.end_run(tx, one.run_id, ending, worker="w1")
        await run_end.end_run(
            tx, one.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w2"
        )

    status = await read_status(database, ada_id, one)
    assert (status.state, status.reason, status.exit_code) == (
        JobState.FAILED,
        Reason.EXIT_NONZERO,
        3,
    )
    assert status.upstream is UpstreamState.STOPPED


@pytest.mark.parametrize("hours_off", [-5, 0, 5])
@pytest.mark.parametrize("is_seen_running", [True, False])
async def test_a_job_starts_before_it_ends_whatever_the_clock_of_the_hub_says(
    database: Database,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    *,
    hours_off: int,
    is_seen_running: bool,
) -> None:
    """Between the request and the end, by our clock; how long it ran is told by the Hub's alone."""
    await make_job(rate=Rate(DOLLAR_MICRO_USD, timedelta(hours=2)))
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
        await tx.execute("UPDATE remote_run SET posted_at = now() - interval '1 hour'")
        now: datetime = await tx.fetchval("SELECT now()")
    start = now - timedelta(minutes=30) + timedelta(hours=hours_off)
    job = JOB_ADAPTER.validate_python(
        {
            "id": "a" * 24,
            "createdAt": (start - timedelta(minutes=30)).isoformat(),
            "startedAt": start.isoformat(),
            "finishedAt": (start + timedelta(minutes=10)).isoformat(),
            "status": {"stage": "COMPLETED"},
        }
    )
    ending = derive_run_result(job)
    assert ending is not None

    async with database.transaction() as tx:
        if is_seen_running:
            await run_end.record_stage(
                tx,
                one.run_id,
                stage="RUNNING",
                worker="w1",
                started_at=job.started_at,
                max_stage_duration=None,
            )
        await run_end.end_run(tx, one.run_id, ending, worker="w1")

    async with database.transaction() as tx:
        row = await tx.fetchrow(
            "SELECT started_at, finished_at, posted_at, cost_micro_usd"
            "  FROM job JOIN remote_run AS run ON run.job_id = job.id"
        )
    assert row is not None
    assert row["posted_at"] <= row["started_at"] <= row["finished_at"]
    assert row["cost_micro_usd"] == 10 * DOLLAR_MICRO_USD
    if hours_off == 0 or not is_seen_running:
        assert row["started_at"] == now - timedelta(minutes=30)


async def test_no_run_is_called_absent_before_the_settle_window_closes(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The Hub may list late: a job called absent too early could be launched a second time."""
    await make_job()
    (one,) = await claim_jobs(settle=timedelta(hours=1))

    ripe = await mark_absent(database, one)

    assert not any(ripe)
    assert (await read_status(database, ada_id, one)).state is JobState.LAUNCHING


async def test_no_run_is_called_absent_before_enough_listings_lacked_it(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """One listing may have been asked of a part of the Hub that had not heard of it."""
    await make_job()
    (one,) = await claim_jobs()

    ripe = await mark_absent(database, one, misses=MIN_MISSED_LISTINGS - 1)

    assert not any(ripe)
    assert (await read_status(database, ada_id, one)).state is JobState.LAUNCHING


async def test_an_unlisted_run_ends_as_launch_unconfirmed_and_is_watched_for(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The handle ends with a reason, the request is not repeated, and nothing is forgotten."""
    await make_job()
    (one,) = await claim_jobs()

    ripe = await mark_absent(database, one)

    status = await read_status(database, ada_id, one)
    async with database.transaction() as tx:
        (turn,) = await work_queues.lease_due_poll_groups(tx, limit=5, lease=timedelta(minutes=1))
    assert ripe[-1]
    assert (status.state, status.reason) == (JobState.FAILED, Reason.LAUNCH_UNCONFIRMED)
    assert (turn.subject_id, turn.namespace) == (ada_id, "ada")
    assert await claim_jobs() == []


async def test_a_namespace_that_is_polled_already_is_watched_as_well(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Another run in the same namespace must not hide that one is missing."""
    await make_job()
    (bound,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, bound.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
    await make_job()
    (missing,) = await claim_jobs()

    await mark_absent(database, missing)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT live = 1 AND watch_until > now() FROM poll_group")


async def test_the_end_of_another_run_does_not_end_the_watch(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Its group has nothing left that is alive, as far as anybody knows."""
    await make_job()
    (missing,) = await claim_jobs()
    await mark_absent(database, missing)
    await make_job()
    (bound,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, bound.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
        await run_end.end_run(
            tx, bound.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w1"
        )

    async with database.transaction() as tx:
        assert len(await work_queues.lease_due_poll_groups(tx, limit=5, lease=NO_DELAY)) == 1


async def test_a_run_that_arrives_after_all_is_killed_and_changes_no_verdict(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """It costs money until it is stopped, and the view says so until it is seen to have."""
    await make_job()
    (one,) = await claim_jobs()
    await mark_absent(database, one)

    async with database.transaction() as tx:
        recorded = await run_end.record_surplus_run(
            tx, one.run_id, remote_id="late", stage="RUNNING", worker="w1"
        )
        again = await run_end.record_surplus_run(
            tx, one.run_id, remote_id="late", stage="RUNNING", worker="w1"
        )
        (doomed,) = await work_queues.lease_due_runs(tx, limit=5, lease=timedelta(minutes=1))

    status = await read_status(database, ada_id, one)
    assert (recorded, again) == (True, False)
    assert doomed.remote_id == "late"
    assert (status.state, status.upstream) == (JobState.FAILED, UpstreamState.STOPPING)
    async with database.transaction() as tx:
        await run_end.end_run(tx, doomed.id, RunResult(JobState.CANCELLED, "CANCELED"), worker="w1")
    assert (await read_status(database, ada_id, one)).upstream is UpstreamState.STOPPED


async def test_a_second_run_with_the_same_label_is_killed_and_the_first_goes_on(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """At most one may live: the one that is bound."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id="first", stage=None, worker="w1", poll_after=NO_DELAY
        )
        await run_end.record_surplus_run(
            tx, one.run_id, remote_id="second", stage="RUNNING", worker="w1"
        )
        (doomed,) = await work_queues.lease_due_runs(tx, limit=5, lease=timedelta(minutes=1))
        await run_end.end_run(tx, doomed.id, RunResult(JobState.CANCELLED, "CANCELED"), worker="w1")
        counted = await tx.fetchval("SELECT active FROM subject")
        live = await tx.fetchval("SELECT live FROM poll_group")

    status = await read_status(database, ada_id, one)
    assert doomed.remote_id == "second"
    assert (status.state, status.remote_id) == (JobState.RUNNING, "first")
    assert (counted, live) == (1, 1)


async def test_a_group_taken_over_cannot_be_given_back_by_its_first_taker(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A worker that slept through its turn must not reschedule the one that follows."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id="r1", stage=None, worker="w1", poll_after=NO_DELAY
        )
    async with database.transaction() as tx:
        (slept,) = await work_queues.lease_due_poll_groups(tx, limit=5, lease=NO_DELAY)
    async with database.transaction() as tx:
        (awake,) = await work_queues.lease_due_poll_groups(tx, limit=5, lease=timedelta(minutes=1))
        before = await tx.fetchval("SELECT due_at FROM poll_group")

    async with database.transaction() as tx:
        await work_queues.postpone_poll(tx, slept, recheck_after=timedelta(days=1))
        after = await tx.fetchval("SELECT due_at FROM poll_group")

    assert awake.epoch == slept.epoch + 1
    assert after == before


async def test_a_run_that_may_be_relaunched_is_so_once(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A launch that was never confirmed may be tried again; a second such one is enough."""
    await make_job()
    (first,) = await claim_jobs()
    await mark_absent(database, first, relaunch=True)
    again = await read_status(database, ada_id, first)

    (second,) = await claim_jobs()
    await mark_absent(database, second, relaunch=True)

    ended = await read_status(database, ada_id, second)
    assert (again.state, again.attempt) == (JobState.QUEUED, 1)
    assert second.job_id == first.job_id
    assert (ended.state, ended.reason) == (JobState.FAILED, Reason.LAUNCH_UNCONFIRMED)


async def test_an_id_that_comes_after_a_run_was_given_up_is_kept_to_kill_by(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """What is known of something that costs money is never dropped."""
    await make_job()
    (one,) = await claim_jobs()
    await mark_absent(database, one)

    async with database.transaction() as tx:
        doomed = await run_launch.record_remote_id(
            tx, one.run_id, remote_id="late", stage=None, worker="w1", poll_after=NO_DELAY
        )

    assert doomed
    assert (await read_status(database, ada_id, one)).upstream is UpstreamState.STOPPING


async def test_who_sent_the_request_knows_that_it_was_refused_even_after_it_was_doubted(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Otherwise a plain refusal would end as a launch that was never confirmed."""
    await make_job()
    (one,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_unconfirmed(tx, one.run_id, cause="silent", worker="w2")
        await run_launch.mark_not_created(
            tx, one.run_id, reason=Reason.INVALID_REQUEST, message="no such flavor", worker="w1"
        )

    status = await read_status(database, ada_id, one)
    assert (status.state, status.reason) == (JobState.FAILED, Reason.INVALID_REQUEST)
