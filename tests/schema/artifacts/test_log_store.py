"""The promises about logs: every line once, in order, to their owner alone."""

from datetime import timedelta

from schema.artifacts import log_store
from schema.artifacts.log_store import LogExtent
from schema.db.database import Database
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState
from schema.settings import DEFAULT_LOG_BYTES
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID


async def start_run(database: Database, claim: ClaimFactory, remote_id: str) -> ClaimedJob:
    (one,) = await claim()
    async with database.transaction() as tx:
        await run_launch.record_remote_id(
            tx, one.run_id, remote_id=remote_id, stage=None, worker="w", poll_after=timedelta(0)
        )
    return one


async def append_lines(
    database: Database, run: ClaimedJob, lines: list[str], *, already: int
) -> None:
    async with database.transaction() as tx:
        await log_store.append_lines(
            tx, run.run_id, lines, start_line=already, max_log_bytes=DEFAULT_LOG_BYTES
        )


async def read_lines(
    database: Database, run: ClaimedJob, start: int = 0, limit: int = 100
) -> list[str]:
    async with database.transaction() as tx:
        lines = await log_store.read_lines(tx, ADA_ID, run.job_id, start=start, limit=limit)
    assert [line.number for line in lines] == list(range(start, start + len(lines)))
    return [line.text for line in lines]


async def test_what_two_workers_captured_is_kept_once(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The Hub replays a log from its start; only what follows the last capture is new."""
    await make_job()
    run = await start_run(database, claim_jobs, "r1")

    await append_lines(database, run, ["a", "b"], already=0)
    await append_lines(database, run, ["a", "b"], already=0)
    await append_lines(database, run, ["c"], already=2)

    assert await read_lines(database, run) == ["a", "b", "c"]


async def test_nothing_is_appended_once_the_run_is_over(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The secrets of its job are deleted by then, so a late reader would redact nothing."""
    await make_job()
    run = await start_run(database, claim_jobs, "r1")
    async with database.transaction() as tx:
        await run_end.end_run(
            tx, run.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w"
        )

    await append_lines(database, run, ["a secret"], already=0)

    assert await read_lines(database, run) == []


async def test_a_log_is_read_from_any_line_across_captures(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """A cursor is a line number: what was read before is not read again."""
    await make_job()
    run = await start_run(database, claim_jobs, "r1")
    for first in range(0, 9, 3):
        await append_lines(database, run, [str(first + n) for n in range(3)], already=first)

    assert await read_lines(database, run, start=4, limit=3) == ["4", "5", "6"]
    assert await read_lines(database, run, start=9) == []


async def test_a_stranger_reads_nothing(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """Logs often hold what should not have been printed."""
    await make_job()
    run = await start_run(database, claim_jobs, "r1")
    await append_lines(database, run, ["private"], already=0)

    async with database.transaction() as tx:
        assert await log_store.read_lines(tx, "f" * 24, run.job_id, start=0, limit=9) == []
        assert await log_store.read_log_extent(tx, "f" * 24, run.job_id) == LogExtent()
