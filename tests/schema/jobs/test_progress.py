"""The progress of a run in the row of its job, and in its events."""

from typing import Any

from schema.db.database import Database
from schema.jobs.progress import JobProgress, record_progress
from tests.support.factories import JobFactory
from tests.support.jobs.job_states import RunDriver


async def read_stored(database: Database) -> tuple[Any, list[Any]]:
    """Return the progress of the only job, and the facts of its events about it."""
    async with database.transaction() as tx:
        progress = await tx.fetchval("SELECT progress FROM job")
        rows = await tx.fetch(
            "SELECT facts FROM job_event WHERE kind = 'progressed' ORDER BY version"
        )
    return progress, [row["facts"] for row in rows]


async def test_what_was_yielded_is_in_the_row_and_in_no_event(
    database: Database, make_job: JobFactory
) -> None:
    """`record_progress` runs every two seconds: the history would have each value once more."""
    await make_job()
    run_id = await RunDriver(database).start_run()

    async with database.transaction() as tx:
        for partial in ("a", "a b"):
            assert await record_progress(
                tx, run_id, JobProgress(message="Running"), partial=partial, worker="w"
            )

    progress, events = await read_stored(database)
    assert progress == {"done": None, "total": None, "message": "Running", "partial": "a b"}
    assert events == [{"message": "Running"}] * 2


async def test_what_was_yielded_has_a_limit(database: Database, make_job: JobFactory) -> None:
    """Whatever an executor reports, the row stays small."""
    await make_job()
    run_id = await RunDriver(database).start_run()

    async with database.transaction() as tx:
        await record_progress(tx, run_id, JobProgress(), partial="x" * 9999, worker="w")

    progress, _ = await read_stored(database)
    assert len(progress["partial"]) == 2000
