"""A hold is given back once nothing of its job can cost any more, and not before (I6)."""

from datetime import timedelta

import pytest

from schema.billing.budgets import Rate
from schema.db.database import Database
from schema.jobs import deadlines, run_end, run_launch, work_queues
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState, Reason
from tests.support.factories import ClaimFactory, JobFactory, WorkspaceFactory
from tests.support.jobs.job_costs import (
    DOLLAR_MICRO_USD,
    TEN_CENT_RATE,
    THIRTY_CENT_RATE,
    cancel_job,
    give_up_launch,
    read_held_and_spent,
    read_job_cost,
    record_remote_id,
    stop_watching_absent_runs,
)
from tests.support.jobs.retention import prune_older_than


@pytest.mark.parametrize(
    ("ran", "spent", "uncounted"),
    [
        (timedelta(0), 10_000, 0),
        (timedelta(seconds=0.5), 10_000, 0),
        (timedelta(seconds=60), 10_000, 0),
        (timedelta(seconds=61), 20_000, 0),
        (timedelta(minutes=3, seconds=1), 40_000, 0),
        (timedelta(minutes=25), 100_000, 150_000),
    ],
)
async def test_a_job_is_settled_by_what_upstream_says_it_ran(
    database: Database,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    make_workspace: WorkspaceFactory,
    ran: timedelta,
    spent: int,
    uncounted: int,
) -> None:
    """Each started minute is billed; what was never held is counted nowhere, and said."""
    job = await make_job(rate=TEN_CENT_RATE, workspace_id=await make_workspace())
    (taken,) = await claim_jobs()
    await record_remote_id(database, taken)
    assert await read_held_and_spent(database) == (100_000, 0)

    async with database.transaction() as tx:
        ending = RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=ran)
        await run_end.end_run(tx, taken.run_id, ending, worker="w")

    assert (
        await read_held_and_spent(database)
        == await read_held_and_spent(database, "workspace")
        == (0, spent)
    )
    settled = await read_job_cost(database, job)
    assert (settled["spent_micro_usd"], settled["uncounted_micro_usd"]) == (spent, uncounted)


@pytest.mark.parametrize(("stage", "spent"), [("SCHEDULING", 0), ("RUNNING", 10_000)])
async def test_a_run_that_never_started_costs_nothing_unless_it_was_seen_to_run(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory, stage: str, spent: int
) -> None:
    """Upstream bills no wait; but what we saw is not forgotten because it no longer says so."""
    await make_job(rate=TEN_CENT_RATE)
    (taken,) = await claim_jobs()
    await record_remote_id(database, taken, stage=stage)

    async with database.transaction() as tx:
        ending = RunResult(JobState.CANCELLED, "CANCELED", never_started=True)
        await run_end.end_run(tx, taken.run_id, ending, worker="w")

    assert await read_held_and_spent(database) == (0, spent)


async def test_without_an_end_the_wait_until_the_start_is_not_billed(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A cancelled run has a start only. The wait is a difference of two times of one clock, so the
    hours by which that clock is off do not count; a start in the future is a started minute."""
    jobs = [await make_job(rate=TEN_CENT_RATE) for _ in range(2)]
    taken = await claim_jobs()
    for number, each in enumerate(taken):
        await record_remote_id(database, each, f"r{number}")
    async with database.transaction() as tx:
        await tx.execute("UPDATE remote_run SET posted_at = now() - interval '250 seconds'")
        for each in taken:
            waited = timedelta(seconds=100) if each.job_id == jobs[0].id else timedelta(hours=1)
            ending = RunResult(JobState.CANCELLED, "CANCELED", time_to_start=waited)
            await run_end.end_run(tx, each.run_id, ending, worker="w")

    settled = [await read_job_cost(database, job) for job in jobs]
    assert [row["spent_micro_usd"] for row in settled] == [30_000, 10_000]


async def test_without_a_word_from_upstream_our_own_times_count(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """And never for more than the job may cost: they say how long nobody looked, too."""
    jobs = [await make_job(rate=TEN_CENT_RATE) for _ in range(2)]
    taken = await claim_jobs()
    for number, each in enumerate(taken):
        await record_remote_id(database, each, f"r{number}")
    async with database.transaction() as tx:
        for each in taken:
            ago = 150 if each.job_id == jobs[0].id else 9000
            await tx.execute(
                "UPDATE remote_run SET posted_at = now() - make_interval(secs => $2) WHERE id = $1",
                each.run_id,
                float(ago),
            )
    async with database.transaction() as tx:
        for each in taken:
            deleted = RunResult(JobState.FAILED, "DELETED", Reason.UPSTREAM_DELETED)
            await run_end.end_run(tx, each.run_id, deleted, worker="w")

    settled = [await read_job_cost(database, job) for job in jobs]
    assert [row["spent_micro_usd"] for row in settled] == [30_000, 100_000]
    assert [row["uncounted_micro_usd"] for row in settled] == [0, 0]
    assert await read_held_and_spent(database) == (0, 130_000)


async def test_a_job_that_was_refused_for_good_gives_everything_back(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """One that is to be tried again keeps its place and its hold, once."""
    await make_job(rate=TEN_CENT_RATE)
    (first,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, first.run_id, reason=None, message="later", worker="w"
        )
    assert await read_held_and_spent(database) == (100_000, 0)

    (second,) = await claim_jobs()
    assert await read_held_and_spent(database) == (100_000, 0)
    async with database.transaction() as tx:
        await run_launch.mark_not_created(
            tx, second.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w"
        )

    assert await read_held_and_spent(database) == (0, 0)


async def test_a_cancelled_job_is_settled_when_its_run_is_seen_to_be_over(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Until then it may cost money, so nobody else may have it."""
    job = await make_job(rate=TEN_CENT_RATE)
    (taken,) = await claim_jobs()
    await record_remote_id(database, taken)

    await cancel_job(database, job)
    assert await read_held_and_spent(database) == (100_000, 0)

    async with database.transaction() as tx:
        over = RunResult(JobState.CANCELLED, "CANCELED", run_duration=timedelta(seconds=61))
        await run_end.end_run(tx, taken.run_id, over, worker="w")
    assert await read_held_and_spent(database) == (0, 20_000)


async def test_what_is_watched_for_is_held_until_the_watch_is_over(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A launch nobody confirmed may still turn up; retention does not forget it either."""
    job = await make_job(rate=TEN_CENT_RATE)
    (taken,) = await claim_jobs()
    await give_up_launch(database, taken, relaunch=False, monthly_budget=None)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT reason FROM job") == Reason.LAUNCH_UNCONFIRMED
        await deadlines.stop_watching_absent_runs(tx, worker="w")
        await prune_older_than(tx, timedelta(0))
    assert await read_held_and_spent(database) == (100_000, 0)

    await stop_watching_absent_runs(database)
    assert await read_held_and_spent(database) == (0, 0)
    assert (await read_job_cost(database, job))["spent_micro_usd"] == 0


async def test_a_late_arrival_is_paid_out_of_the_hold(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """It is killed, but it did run."""
    await make_job(rate=TEN_CENT_RATE)
    (taken,) = await claim_jobs()
    await give_up_launch(database, taken, relaunch=False, monthly_budget=None)
    await record_remote_id(database, taken)
    async with database.transaction() as tx:
        (late,) = await work_queues.lease_due_runs(tx, limit=1, lease=timedelta(minutes=1))
        over = RunResult(JobState.CANCELLED, "CANCELED", run_duration=timedelta(minutes=2))
        await run_end.end_run(tx, late.id, over, worker="w")

    assert await read_held_and_spent(database) == (0, 20_000)


async def test_what_arrives_after_the_watch_is_said_and_in_no_budget(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The hold was given back, and somebody else may have it by now."""
    job = await make_job(rate=TEN_CENT_RATE)
    (taken,) = await claim_jobs()
    await give_up_launch(database, taken, relaunch=False, monthly_budget=None)
    await stop_watching_absent_runs(database)
    await record_remote_id(database, taken)
    async with database.transaction() as tx:
        (late,) = await work_queues.lease_due_runs(tx, limit=1, lease=timedelta(minutes=1))
        over = RunResult(JobState.CANCELLED, "CANCELED", run_duration=timedelta(minutes=2))
        await run_end.end_run(tx, late.id, over, worker="w")

    assert await read_held_and_spent(database) == (0, 0)
    assert (await read_job_cost(database, job))["uncounted_micro_usd"] == 20_000


async def test_a_second_launch_holds_a_second_time(
    database: Database,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    make_workspace: WorkspaceFactory,
) -> None:
    """Both may be alive; when the second is over, the first is still watched for."""
    await make_job(rate=TEN_CENT_RATE, workspace_id=await make_workspace())
    (first,) = await claim_jobs()
    await give_up_launch(database, first, relaunch=True, monthly_budget=DOLLAR_MICRO_USD)
    assert (
        await read_held_and_spent(database)
        == await read_held_and_spent(database, "workspace")
        == (200_000, 0)
    )

    (second,) = await claim_jobs()
    await record_remote_id(database, second)
    async with database.transaction() as tx:
        over = RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(minutes=1))
        await run_end.end_run(tx, second.run_id, over, worker="w")
    assert await read_held_and_spent(database) == (200_000, 0)

    await stop_watching_absent_runs(database)
    assert (
        await read_held_and_spent(database)
        == await read_held_and_spent(database, "workspace")
        == (0, 10_000)
    )


@pytest.mark.parametrize("bound", ["workspace", "month", "job"])
async def test_a_second_launch_that_does_not_fit_is_not_made(
    database: Database,
    make_job: JobFactory,
    claim_jobs: ClaimFactory,
    make_workspace: WorkspaceFactory,
    bound: str,
) -> None:
    """Rather no answer than a bill that nobody agreed to."""
    most = 150_000 if bound == "job" else None
    workspace = await make_workspace(150_000 if bound == "workspace" else None)
    monthly = 150_000 if bound == "month" else None
    rate = Rate(TEN_CENT_RATE.price_micro_usd, TEN_CENT_RATE.timeout, most_micro_usd=most)
    await make_job(rate=rate, workspace_id=workspace, default_monthly_budget=monthly)
    (first,) = await claim_jobs()

    await give_up_launch(database, first, relaunch=True, monthly_budget=monthly)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT reason FROM job") == Reason.LAUNCH_UNCONFIRMED
    assert await read_held_and_spent(database) == (100_000, 0)


async def test_a_hold_counts_against_the_month_of_its_launch(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """What ends in the next month is not billed to it."""
    await make_job(rate=TEN_CENT_RATE)
    (taken,) = await claim_jobs()
    await record_remote_id(database, taken)
    async with database.transaction() as tx:
        for table in ("job_cost", "spending"):
            await tx.execute(f"UPDATE {table} SET month = month - interval '1 month'")  # noqa: S608

    await make_job(rate=THIRTY_CENT_RATE, default_monthly_budget=300_000)
    async with database.transaction() as tx:
        over = RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(minutes=1))
        await run_end.end_run(tx, taken.run_id, over, worker="w")
        months = await tx.fetch(
            "SELECT held_micro_usd, spent_micro_usd FROM spending ORDER BY month"
        )

    assert [tuple(row.values()) for row in months] == [(0, 10_000), (300_000, 0)]
