"""What is forgotten when its time is over, and what never is."""

from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import pytest

from schema.billing import budgets
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.retention import pruning
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobKind, JobState
from tests.support.factories import ClaimFactory, JobFactory, WorkspaceFactory
from tests.support.jobs.job_costs import TEN_CENT_RATE
from tests.support.jobs.retention import prune_older_than, uniform_periods
from tests.support.subjects import ADA_ID

MONTH = timedelta(days=30)


async def prune_old_rows(database: Database) -> None:
    async with database.transaction() as tx:
        await prune_older_than(tx, timedelta(0))


async def count_rows(database: Database, table: str) -> int:
    async with database.transaction() as tx:
        rows: int = await tx.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608  # our names
    return rows


async def test_a_finished_job_goes_with_everything_of_it(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Nothing about a forgotten job stays behind."""
    job = await make_job(idempotency_key="k")
    (run,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.mark_not_created(tx, run.run_id, reason=None, message="", worker="w")
        await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)

    await prune_old_rows(database)

    tables = ("job", "job_payload", "job_event", "remote_run", "idempotency_key")
    assert [await count_rows(database, table) for table in tables] == [0] * len(tables)


async def test_what_is_young_or_unfinished_stays(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """A handle that was answered exists until its time is over."""
    await make_job()
    cancelled = await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, cancelled.id, subject_id=ada_id)
        await prune_older_than(tx, MONTH)

    assert await count_rows(database, "job") == 2


async def test_a_job_whose_run_may_still_live_is_never_forgotten(
    database: Database, ada_id: str, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Forgetting it would leave something running that nobody knows."""
    job = await make_job()
    (run,) = await claim_jobs()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, run.run_id, remote_id="r1", stage=None, worker="w", poll_after=timedelta(0)
        )
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)

    await prune_old_rows(database)

    assert await count_rows(database, "job") == 1


async def test_a_key_is_forgotten_when_it_has_expired(
    database: Database, make_job: JobFactory
) -> None:
    """Keys are kept for a day, the job for as long as it lasts."""
    await make_job(idempotency_key="k")
    async with database.transaction() as tx:
        await tx.execute("UPDATE idempotency_key SET expires_at = now() - interval '1 second'")

    await prune_old_rows(database)

    assert await count_rows(database, "idempotency_key") == 0
    assert await count_rows(database, "job") == 1


async def test_a_count_of_calls_is_forgotten_when_no_window_needs_it(
    database: Database, ada_id: str
) -> None:
    """They are written while Valkey is away, one a minute of each caller, and read no more."""
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO call_window (window_start, subject_id, calls)
            SELECT now() - make_interval(mins => age), $1, 1 FROM unnest('{0,1,61}'::int[]) AS age
            """,
            ada_id,
        )

    await prune_old_rows(database)

    assert await count_rows(database, "call_window") == 2


async def test_old_counts_of_calls_are_forgotten_until_none_is_left(database: Database) -> None:
    """An outage of Valkey leaves one for each caller and minute, more than one bite of them."""
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO call_window (window_start, subject_id, calls)
            SELECT now() - interval '2 hours', n::text, 1 FROM generate_series(1, 501) AS n
            """
        )
        assert await prune_older_than(tx, MONTH)
        assert not await prune_older_than(tx, MONTH)

    assert await count_rows(database, "call_window") == 0


@pytest.mark.parametrize("kind", [*JobKind, "somebodys_own"])
async def test_a_kind_has_its_own_retention(
    database: Database, ada_id: str, make_job: JobFactory, kind: str
) -> None:
    """Calls may go after a day while trainings stay for years, and the other way round."""
    for each in (*JobKind, "somebodys_own"):
        job = await make_job(kind=each)
        async with database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
    short = replace(uniform_periods(MONTH), jobs_by_kind={kind: timedelta(0)})
    long = replace(uniform_periods(timedelta(0)), jobs_by_kind={kind: MONTH})

    async with database.transaction() as tx:
        await pruning.prune_expired(tx, periods=short)
        after_short = [row["kind"] for row in await tx.fetch("SELECT kind FROM job ORDER BY 1")]
    another = await make_job(kind=kind)
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, another.id, subject_id=ada_id)
    async with database.transaction() as tx:
        await pruning.prune_expired(tx, periods=long)
        after_long = [row["kind"] for row in await tx.fetch("SELECT kind FROM job")]

    assert after_short == sorted({*JobKind, "somebodys_own"} - {kind})
    assert after_long == [kind]


async def read_money(database: Database) -> list[list[dict[str, Any]]]:
    """Read everything that says what was used and spent."""
    async with database.transaction() as tx:
        month = await budgets.read_monthly_budget(tx, ADA_ID, default_monthly_budget=1)
        return [
            *[
                [dict(row) for row in await tx.fetch(f"SELECT * FROM {name} ORDER BY 1, 2, 3")]  # noqa: S608  # our names
                for name in ("v_workspace_cost", "v_subject_usage", "spending", "workspace")
            ],
            [asdict(month)],
        ]


async def test_no_sum_of_usage_or_money_changes_when_jobs_are_deleted(
    database: Database,
    ada_id: str,
    make_job: JobFactory,
    make_workspace: WorkspaceFactory,
    claim_jobs: ClaimFactory,
) -> None:
    """Whatever is deleted, whether once or one after another; what is open stays as it is."""
    workspace_id = await make_workspace(None)
    for number in range(3):
        for workspace in (None, workspace_id):
            for flavor in ("cpu-basic", "a10g-small"):
                await make_job(
                    workspace_id=workspace,
                    spec={"image": "i", "command": ["true"], "flavor": flavor},
                    rate=TEN_CENT_RATE,
                )
                await make_job(workspace_id=workspace, kind=JobKind.INFERENCE, spec={"model": "m"})
        runs = [*await claim_jobs(limit=99), *await claim_jobs(JobKind.INFERENCE, limit=99)]
        async with database.transaction() as tx:
            for run in runs[: 4 + number]:
                await run_launch.record_remote_id(
                    tx,
                    run.run_id,
                    remote_id=f"{run.run_id}",
                    stage="RUNNING",
                    worker="w",
                    poll_after=timedelta(0),
                )
                await run_end.end_run(
                    tx,
                    run.run_id,
                    RunResult(JobState.SUCCEEDED, "COMPLETED"),
                    worker="w",
                )
            await tx.execute(
                """
                WITH seen AS (
                    UPDATE job SET started_at = created_at + interval '1 millisecond' * $1::int,
                           version = version + 1
                     WHERE finished_at IS NOT NULL AND started_at IS NULL RETURNING *
                )
                INSERT INTO job_event (job_id, version, kind, state, actor)
                SELECT id, version, 'stage', state, 'w' FROM seen
                """,
                number,
            )
        before = await read_money(database)
        ended = await count_rows(database, "job WHERE finished_at IS NOT NULL")
        async with database.transaction() as tx:
            await pruning.prune_expired(
                tx, periods=replace(uniform_periods(MONTH), jobs=timedelta(0))
            )

        assert ended > 0
        assert await count_rows(database, "job WHERE finished_at IS NOT NULL") == 0
        assert before[0][0]["cost_usd"] > 0
        assert await read_money(database) == before


async def test_sums_are_kept_for_longer_than_jobs_and_not_for_ever(
    database: Database, ada_id: str, make_job: JobFactory
) -> None:
    """The sums of this month are those that budgets compare."""
    job = await make_job()
    async with database.transaction() as tx:
        await lifecycle.cancel_job(tx, job.id, subject_id=ada_id)
    async with database.transaction() as tx:
        await tx.execute(
            """
            INSERT INTO spending (subject_id, month, held_micro_usd)
            SELECT $1, (date_trunc('month', now()) - make_interval(months => ago))::date, held
              FROM (VALUES (0, 0), (2, 0), (30, 0), (31, 0)) AS month (ago, held)
            """,
            ada_id,
        )
        await prune_older_than(tx, timedelta(0))
        await tx.execute("UPDATE usage_history SET day = day - 60")
        await prune_older_than(tx, timedelta(days=90))
        left = await tx.fetchval("SELECT count(*) FROM usage_history")
        await prune_older_than(tx, timedelta(days=30))

    assert left == 1
    assert await count_rows(database, "usage_history") == 0
    assert await count_rows(database, "spending") == 1


async def test_a_month_with_something_held_is_kept_however_old_it_is(
    database: Database, make_job: JobFactory
) -> None:
    """The settlement of its job would have no sum to return the hold to."""
    await make_job(rate=TEN_CENT_RATE)
    async with database.transaction() as tx:
        for table in ("job_cost", "spending"):
            await tx.execute(f"UPDATE {table} SET month = month - interval '10 years'")  # noqa: S608  # our names

    await prune_old_rows(database)

    assert await count_rows(database, "spending") == 1
