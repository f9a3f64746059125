"""A hold is given back once nothing of its job can cost any more, and not before (I6)."""

from datetime import timedelta

import pytest

from schema.billing.budgets import Rate
from schema.db.database import Database
from schema.jobs import deadlines, retention, run_end, run_launch, work_queues
from schema.jobs.run_end import Ending
from schema.jobs.tables import JobState, Reason
from tests.conftest import JobFactory
from tests.schema.conftest import ClaimFactory
from tests.schema.money import (
    DIME,
    DOLLAR,
    THIRTY_CENTS,
    WorkspaceFactory,
    bind,
    cancel,
    cost,
    lose,
    stop_watching,
    sums,
)


@pytest.mark.parametrize(
    ("ran", "spent", "uncounted"),
    [
        (timedelta(0), 0, 0),
        (timedelta(seconds=1), 10_000, 0),
        (timedelta(minutes=3, seconds=1), 40_000, 0),
        (timedelta(minutes=25), 100_000, 150_000),
    ],
)
async def test_a_job_is_settled_by_what_upstream_says_it_ran(
    database: Database,
    make_job: JobFactory,
    claim: ClaimFactory,
    make_workspace: WorkspaceFactory,
    ran: timedelta,
    spent: int,
    uncounted: int,
) -> None:
    """Each started minute is billed; what was never held is counted nowhere, and said."""
    job = await make_job(rate=DIME, workspace_id=await make_workspace())
    (taken,) = await claim()
    await bind(database, taken)
    assert await sums(database) == (100_000, 0)

    async with database.transaction() as tx:
        ending = Ending(JobState.SUCCEEDED, "COMPLETED", ran=ran)
        await run_end.end(tx, taken.run_id, ending, worker="w")

    assert await sums(database) == await sums(database, "workspace") == (0, spent)
    settled = await cost(database, job)
    assert (settled["spent_micro_usd"], settled["uncounted_micro_usd"]) == (spent, uncounted)


async def test_without_a_word_from_upstream_our_own_times_count(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """And never for more than the job may cost: they say how long nobody looked, too."""
    jobs = [await make_job(rate=DIME) for _ in range(2)]
    taken = await claim()
    for number, each in enumerate(taken):
        await bind(database, each, f"r{number}")
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
            deleted = Ending(JobState.FAILED, "DELETED", Reason.UPSTREAM_DELETED)
            await run_end.end(tx, each.run_id, deleted, worker="w")

    settled = [await cost(database, job) for job in jobs]
    assert [row["spent_micro_usd"] for row in settled] == [30_000, 100_000]
    assert [row["uncounted_micro_usd"] for row in settled] == [0, 0]
    assert await sums(database) == (0, 130_000)


async def test_a_job_that_was_refused_for_good_gives_everything_back(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """One that is to be tried again keeps its place and its hold, once."""
    await make_job(rate=DIME)
    (first,) = await claim()
    async with database.transaction() as tx:
        await run_launch.reject(tx, first.run_id, reason=None, message="later", worker="w")
    assert await sums(database) == (100_000, 0)

    (second,) = await claim()
    assert await sums(database) == (100_000, 0)
    async with database.transaction() as tx:
        await run_launch.reject(
            tx, second.run_id, reason=Reason.INVALID_REQUEST, message="no", worker="w"
        )

    assert await sums(database) == (0, 0)


async def test_a_cancelled_job_is_settled_when_its_run_is_seen_to_be_over(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """Until then it may cost money, so nobody else may have it."""
    job = await make_job(rate=DIME)
    (taken,) = await claim()
    await bind(database, taken)

    await cancel(database, job)
    assert await sums(database) == (100_000, 0)

    async with database.transaction() as tx:
        over = Ending(JobState.CANCELLED, "CANCELED", ran=timedelta(seconds=61))
        await run_end.end(tx, taken.run_id, over, worker="w")
    assert await sums(database) == (0, 20_000)


async def test_what_is_watched_for_is_held_until_the_watch_is_over(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """A launch nobody confirmed may still turn up; retention does not forget it either."""
    job = await make_job(rate=DIME)
    (taken,) = await claim()
    await lose(database, taken, relaunch=False, monthly=None)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT reason FROM job") == Reason.LAUNCH_UNCONFIRMED
        await deadlines.stop_watching(tx, worker="w")
        await retention.prune(tx, retention=timedelta(0))
    assert await sums(database) == (100_000, 0)

    await stop_watching(database)
    assert await sums(database) == (0, 0)
    assert (await cost(database, job))["spent_micro_usd"] == 0


async def test_a_late_arrival_is_paid_out_of_the_hold(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """It is killed, but it did run."""
    await make_job(rate=DIME)
    (taken,) = await claim()
    await lose(database, taken, relaunch=False, monthly=None)
    await bind(database, taken)
    async with database.transaction() as tx:
        (late,) = await work_queues.take_runs(tx, limit=1, lease=timedelta(minutes=1))
        over = Ending(JobState.CANCELLED, "CANCELED", ran=timedelta(minutes=2))
        await run_end.end(tx, late.id, over, worker="w")

    assert await sums(database) == (0, 20_000)


async def test_what_arrives_after_the_watch_is_said_and_in_no_budget(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """The hold was given back, and somebody else may have it by now."""
    job = await make_job(rate=DIME)
    (taken,) = await claim()
    await lose(database, taken, relaunch=False, monthly=None)
    await stop_watching(database)
    await bind(database, taken)
    async with database.transaction() as tx:
        (late,) = await work_queues.take_runs(tx, limit=1, lease=timedelta(minutes=1))
        over = Ending(JobState.CANCELLED, "CANCELED", ran=timedelta(minutes=2))
        await run_end.end(tx, late.id, over, worker="w")

    assert await sums(database) == (0, 0)
    assert (await cost(database, job))["uncounted_micro_usd"] == 20_000


async def test_a_second_launch_holds_a_second_time(
    database: Database, make_job: JobFactory, claim: ClaimFactory, make_workspace: WorkspaceFactory
) -> None:
    """Both may be alive; when the second is over, the first is still watched for."""
    await make_job(rate=DIME, workspace_id=await make_workspace())
    (first,) = await claim()
    await lose(database, first, relaunch=True, monthly=DOLLAR)
    assert await sums(database) == await sums(database, "workspace") == (200_000, 0)

    (second,) = await claim()
    await bind(database, second)
    async with database.transaction() as tx:
        over = Ending(JobState.SUCCEEDED, "COMPLETED", ran=timedelta(minutes=1))
        await run_end.end(tx, second.run_id, over, worker="w")
    assert await sums(database) == (200_000, 0)

    await stop_watching(database)
    assert await sums(database) == await sums(database, "workspace") == (0, 10_000)


@pytest.mark.parametrize("bound", ["workspace", "month", "job"])
async def test_a_second_launch_that_does_not_fit_is_not_made(
    database: Database,
    make_job: JobFactory,
    claim: ClaimFactory,
    make_workspace: WorkspaceFactory,
    bound: str,
) -> None:
    """Rather no answer than a bill that nobody agreed to."""
    most = 150_000 if bound == "job" else None
    workspace = await make_workspace(150_000 if bound == "workspace" else None)
    monthly = 150_000 if bound == "month" else None
    rate = Rate(DIME.price_micro_usd, DIME.timeout, most_micro_usd=most)
    await make_job(rate=rate, workspace_id=workspace, monthly_budget=monthly)
    (first,) = await claim()

    await lose(database, first, relaunch=True, monthly=monthly)

    async with database.transaction() as tx:
        assert await tx.fetchval("SELECT reason FROM job") == Reason.LAUNCH_UNCONFIRMED
    assert await sums(database) == (100_000, 0)


async def test_a_hold_counts_against_the_month_of_its_launch(
    database: Database, make_job: JobFactory, claim: ClaimFactory
) -> None:
    """What ends in the next month is not billed to it."""
    await make_job(rate=DIME)
    (taken,) = await claim()
    await bind(database, taken)
    async with database.transaction() as tx:
        for table in ("job_cost", "spending"):
            await tx.execute(f"UPDATE {table} SET month = month - interval '1 month'")  # noqa: S608

    await make_job(rate=THIRTY_CENTS, monthly_budget=300_000)
    async with database.transaction() as tx:
        over = Ending(JobState.SUCCEEDED, "COMPLETED", ran=timedelta(minutes=1))
        await run_end.end(tx, taken.run_id, over, worker="w")
        months = await tx.fetch(
            "SELECT held_micro_usd, spent_micro_usd FROM spending ORDER BY month"
        )

    assert [tuple(row.values()) for row in months] == [(0, 10_000), (300_000, 0)]
