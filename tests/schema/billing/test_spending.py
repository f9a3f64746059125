"""What was spent, held and left: in one statement, and exact to a millionth of a dollar."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import pytest

from schema.billing import spending
from schema.billing.budgets import Rate
from schema.billing.spending import SpendingDimension, SpendingQuery, SpendingReport
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.retention import pruning
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState
from schema.workspaces import store as workspace_store
from tests.support.database.row_security import tenant_transaction
from tests.support.database.subject_statements import order_arguments, without_subject_comparison
from tests.support.factories import JobFactory
from tests.support.jobs.job_states import RunDriver
from tests.support.jobs.retention import uniform_periods
from tests.support.subjects import ADA_ID, EVE_ID

MINUTE: Final = timedelta(minutes=1)
MONTH: Final = timedelta(days=30)
RATE: Final = Rate(16_667, 10 * MINUTE)
ALL: Final = tuple(SpendingDimension)


async def read(
    database: Database,
    *dimensions: SpendingDimension,
    limit: int = 100,
    time_zone: str = "UTC",
    **query: Any,
) -> SpendingReport:
    async with database.transaction() as tx:
        await tx.execute(f"SET LOCAL timezone = '{time_zone}'")
        report = await spending.read_spending(
            tx,
            ADA_ID,
            SpendingQuery(dimensions, **query),
            default_monthly_budget=1_000_000,
            limit=limit,
        )
    assert report is not None
    return report


async def move_to_day(database: Database, job_id: UUID, day: datetime) -> None:
    """Make a job one of another day; it is no transition."""
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")
        new_id = UUID(int=int(day.timestamp() * 1000) << 80 | job_id.int % 2**80)
        await tx.execute(
            "UPDATE job SET created_at = $2, id = $3 WHERE id = $1", job_id, day, new_id
        )
        for table in ("job_cost", "job_payload", "job_event", "remote_run"):
            await tx.execute(f"UPDATE {table} SET job_id = $2 WHERE job_id = $1", job_id, new_id)  # noqa: S608  # our names


@pytest.fixture
async def workspace_id(database: Database, ada_id: str) -> UUID:
    new_id = ids.new_id()
    async with database.transaction() as tx:
        await workspace_store.create_workspace(
            tx, ada_id, new_id, "nlp", budget_micro_usd=1_000_000
        )
    return new_id


@pytest.fixture
async def jobs(database: Database, make_job: JobFactory, workspace_id: UUID) -> list[UUID]:
    """One that cost 33,334 millionths, one that runs since 125 s, one that waits, one unpriced."""
    run_driver = RunDriver(database)
    spec = {"image": "i", "command": ["true"], "flavor": "a10g-small"}
    settled = await make_job(spec=spec, rate=RATE, workspace_id=workspace_id)
    run_id = await run_driver.start_run(remote_id="1" * 24)
    await run_driver.end_run(
        run_id, RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(seconds=90))
    )
    running = await make_job(spec=spec, rate=RATE, namespace="acme")
    await run_driver.start_run(remote_id="2" * 24)
    waiting = await make_job(rate=RATE)
    unpriced = await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"})
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL session_replication_role = replica")
        await tx.execute(
            "UPDATE job SET started_at = now() - interval '125 seconds' WHERE id = $1", running.id
        )
    return [settled.id, running.id, waiting.id, unpriced.id]


async def test_what_is_spent_held_and_not_known_stands_apart(
    database: Database, jobs: list[UUID]
) -> None:
    """An amount that may still grow is not one that was paid, and no price is not a price of 0."""
    total = (await read(database, since=timedelta(days=1))).total

    assert total.model_dump() == {
        "jobs": 4,
        "unsettled": 2,
        "unpriced": 1,
        "spent_micro_usd": 33_334,
        "held_micro_usd": 333_340,
        "so_far_micro_usd": 50_001,
        "uncounted_micro_usd": 0,
    }


async def test_the_groups_of_each_dimension_are_named_and_add_up(
    database: Database, jobs: list[UUID], workspace_id: UUID
) -> None:
    """Whichever the dimensions are, no job is in two groups, or in none."""
    day = timedelta(days=1)
    by_workspace = await read(database, SpendingDimension.WORKSPACE, since=day)

    assert [
        (group.workspace_id, group.workspace, group.spent_micro_usd, group.remaining_micro_usd)
        for group in by_workspace.groups
    ] == [(None, None, 0, None), (workspace_id, "nlp", 33_334, 966_666)]
    assert {
        (group.namespace, group.kind, group.flavor)
        for group in (
            await read(
                database,
                SpendingDimension.NAMESPACE,
                SpendingDimension.KIND,
                SpendingDimension.FLAVOR,
                since=day,
            )
        ).groups
    } == {
        ("acme", "hub_job", "a10g-small"),
        ("ada", "hub_job", "a10g-small"),
        ("ada", "hub_job", None),
        ("ada", "inference", None),
    }
    for dimension in ALL:
        report = await read(database, dimension, since=day)
        for name, value in report.total.model_dump().items():
            assert sum(getattr(group, name) for group in report.groups) == value, dimension


async def test_a_workspace_and_a_namespace_narrow_what_is_counted(
    database: Database, jobs: list[UUID], workspace_id: UUID
) -> None:
    day = timedelta(days=1)
    inside = await read(database, since=day, workspace_id=workspace_id)
    billed = await read(database, since=day, namespace="acme")

    assert (inside.total.jobs, inside.total.spent_micro_usd) == (1, 33_334)
    assert (billed.total.jobs, billed.total.held_micro_usd) == (1, 166_670)


async def test_the_deletion_of_a_job_changes_no_sum(
    database: Database, jobs: list[UUID], workspace_id: UUID
) -> None:
    """Its day, its names, and what it cost, also beyond its hold, outlive it."""
    run_driver = RunDriver(database)
    run_id = await run_driver.start_run(remote_id="3" * 24)
    await run_driver.end_run(
        run_id, RunResult(JobState.SUCCEEDED, "COMPLETED", run_duration=timedelta(hours=1))
    )
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, jobs[3], subject_id=ADA_ID)
    filters: list[dict[str, Any]] = [{}, {"workspace_id": workspace_id}, {"namespace": "acme"}]
    before = [await read(database, *ALL, since=timedelta(days=1), **each) for each in filters]
    async with database.transaction() as tx:
        await pruning.prune_expired(tx, periods=replace(uniform_periods(MONTH), jobs=timedelta(0)))
        left = await tx.fetchval("SELECT count(*) FROM job")
    after = [await read(database, *ALL, since=timedelta(days=1), **each) for each in filters]

    assert left == 1
    assert before[0].total.uncounted_micro_usd == 50 * 16_667
    assert after == before


@pytest.mark.parametrize("time_zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
async def test_days_are_whole_and_in_utc_whatever_the_server_thinks(
    database: Database, jobs: list[UUID], time_zone: str
) -> None:
    """As the month of the budget is: or the two would not add up on its last evening."""
    moments = [
        datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
        datetime(2026, 4, 30, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 5, 1, tzinfo=UTC),
    ]
    for job_id, moment in zip(jobs, moments, strict=True):
        await move_to_day(database, job_id, moment)
    days = SpendingDimension.DAY

    month = await read(database, days, time_zone=time_zone, month=date(2026, 4, 1))
    some = await read(
        database, days, time_zone=time_zone, since=date(2026, 3, 31), until=moments[1]
    )

    assert (month.first_day, month.last_day) == (date(2026, 4, 1), date(2026, 4, 30))
    assert [group.first_day for group in month.groups] == [date(2026, 4, 30), date(2026, 4, 1)]
    assert [group.first_day for group in some.groups] == [date(2026, 4, 1), date(2026, 3, 31)]


async def test_a_month_is_this_one_or_so_many_ago(database: Database, ada_id: str) -> None:
    """By the clock of Postgres, as budgets are."""
    this, last = await read(database), await read(database, months_ago=1)

    assert (this.first_day.day, this.last_day) == (1, this.today)
    assert last.first_day.day == 1
    assert last.last_day + timedelta(days=1) == this.first_day


async def test_groups_that_are_not_read_are_counted(database: Database, jobs: list[UUID]) -> None:
    """The total has them, so what is left out can be summed up."""
    report = await read(
        database,
        SpendingDimension.NAMESPACE,
        SpendingDimension.FLAVOR,
        since=timedelta(days=1),
        limit=1,
    )

    assert (report.group_count, len(report.groups), report.total.jobs) == (3, 1, 4)


async def test_a_workspace_of_nobody_or_of_somebody_else_is_none(
    database: Database, workspace_id: UUID
) -> None:
    """One answer for both: what you may not see does not exist."""
    for subject_id, handle in ((ADA_ID, ids.new_id()), (EVE_ID, workspace_id)):
        async with database.transaction() as tx:
            report = await spending.read_spending(
                tx,
                subject_id,
                SpendingQuery((), workspace_id=handle),
                default_monthly_budget=None,
                limit=1,
            )
        assert report is None


async def test_without_the_comparison_of_the_subject_nothing_of_anybody_elses_is_counted(
    database: Database, database_url: str, jobs: list[UUID]
) -> None:
    """What somebody spends is theirs to know: row-level security stands behind the statement."""
    name = "billing.spending._READ_SPENDING"
    nothing = ("month", "since", "since_ago", "until", "until_ago", "workspace_id", "namespace")
    arguments = order_arguments(
        name,
        {
            "subject_id": EVE_ID,
            "dimensions": ["workspace"],
            "months_ago": 0,
            "default_monthly_budget": None,
            "limit": 10,
            **dict.fromkeys(nothing),
        },
    )
    async with tenant_transaction(database_url, EVE_ID) as tx:
        seen = await tx.fetchrow(without_subject_comparison(name), *arguments)
    async with database.transaction() as tx:
        outside = await tx.fetchrow(without_subject_comparison(name), *arguments)

    assert seen is not None
    assert outside is not None
    assert (seen["total"]["jobs"], seen["groups"], seen["month_held_micro_usd"]) == (0, [], 0)
    assert outside["total"]["jobs"] == 4, "the statement still compares"
