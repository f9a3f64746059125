"""The files of a job: what is saved, and what comes too late to be."""

from schema.artifacts import files
from schema.artifacts.files import NewJobFile
from schema.db.database import Database
from schema.jobs import run_end
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState
from tests.schema.artifacts.test_log_store import start_run
from tests.support.factories import ClaimFactory, JobFactory
from tests.support.subjects import ADA_ID

FILE = NewJobFile.from_content("model.bin", b"weights", None)


async def list_names(database: Database, run: ClaimedJob) -> list[str]:
    async with database.transaction() as tx:
        return [file.name for file in await files.list_job_files(tx, ADA_ID, run.job_id)]


async def end_run(database: Database, run: ClaimedJob) -> None:
    async with database.transaction() as tx:
        await run_end.end_run(
            tx, run.run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"), worker="w"
        )


async def test_what_a_run_left_is_saved_before_its_end(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    await make_job()
    run = await start_run(database, claim_jobs, "r1")

    async with database.transaction() as tx:
        await files.save_run_files(tx, run.run_id, [FILE])
    await end_run(database, run)

    assert await list_names(database, run) == ["model.bin"]


async def test_nothing_is_saved_once_the_run_is_over(
    database: Database, make_job: JobFactory, claim_jobs: ClaimFactory
) -> None:
    """The secrets of its job are deleted by then, so a late reader would redact no name."""
    await make_job()
    run = await start_run(database, claim_jobs, "r1")
    await end_run(database, run)

    async with database.transaction() as tx:
        await files.save_run_files(tx, run.run_id, [FILE])

    assert await list_names(database, run) == []
