"""What is forgotten when its time is over, and what never is."""

from datetime import timedelta

from schema.db.database import Database
from schema.jobs import lifecycle, retention, run_launch
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID

MONTH = timedelta(days=30)


async def prune_old_rows(database: Database) -> None:
    async with database.transaction() as tx:
        await retention.prune_expired(tx, retention=timedelta(0))


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
        await retention.prune_expired(tx, retention=MONTH)

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
        assert await retention.prune_expired(tx, retention=MONTH)
        assert not await retention.prune_expired(tx, retention=MONTH)

    assert await count_rows(database, "call_window") == 0
