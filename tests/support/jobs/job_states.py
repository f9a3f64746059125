"""The steps of a worker, one by one, and the histories that a job of Ada's can have."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from schema.artifacts import log_store
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.tables import Job, JobKind, JobState, Reason
from schema.settings import DEFAULT_LOG_BYTES
from tests.support.factories import JobFactory
from tests.support.subjects import ADA_ID

REMOTE_ID: Final = "6a31d7ef5ff0a6cf94f9f8b9"

JOB_HISTORIES: Final = (
    "queued",
    "cancelled",
    "running",
    "stopping",
    "succeeded",
    "failed",
    "answered",
)


@dataclass(frozen=True)
class RunDriver:
    """Makes the moves of a worker."""

    database: Database

    async def start_run(self, kind: JobKind = JobKind.HUB_JOB, remote_id: str = REMOTE_ID) -> UUID:
        """Claim the one queued job, and bring its run into being."""
        long = timedelta(minutes=5)
        async with self.database.transaction() as tx:
            [claim] = await run_launch.claim(
                tx, kind, limit=1, worker="w", lease=long, settle_window=long
            )
            if kind is JobKind.INFERENCE:
                await run_launch.begin_calls(tx, [claim.run_id], worker="w")
            else:
                await run_launch.record_remote_id(
                    tx,
                    claim.run_id,
                    remote_id=remote_id,
                    stage="RUNNING",
                    worker="w",
                    poll_after=long,
                )
                await run_end.record_stage(
                    tx, claim.run_id, stage="RUNNING", started_at=None, worker="w"
                )
        return claim.run_id

    async def append_log(self, run_id: UUID, *lines: str) -> None:
        """Capture lines."""
        async with self.database.transaction() as tx:
            await log_store.append_lines(
                tx, run_id, list(lines), start_line=0, max_log_bytes=DEFAULT_LOG_BYTES
            )

    async def end_run(self, run_id: UUID, ending: RunResult) -> None:
        """See a run over."""
        async with self.database.transaction() as tx:
            await run_end.end_run(tx, run_id, ending, worker="w")

    async def answer_run(self, run_id: UUID, ending: RunResult) -> None:
        """Write down a call's answer."""
        async with self.database.transaction() as tx:
            await run_end.end_call(tx, run_id, ending, worker="w")


async def make_job_with_history(run_driver: RunDriver, make_job: JobFactory, history: str) -> Job:
    """Give a job of Ada's one of the `JOB_HISTORIES`."""
    if history == "answered":
        job = await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"}, title="m/m: Hi")
        run_id = await run_driver.start_run(JobKind.INFERENCE)
        answer = RunResult(JobState.SUCCEEDED, "ANSWERED", result={"text": "Rhine"})
        await run_driver.answer_run(run_id, answer)
        return job
    job = await make_job()
    if history not in {"queued", "cancelled"}:
        run_id = await run_driver.start_run()
        await run_driver.append_log(run_id, "a line")
        if history == "succeeded":
            await run_driver.end_run(run_id, RunResult(JobState.SUCCEEDED, "COMPLETED"))
        if history == "failed":
            await run_driver.end_run(
                run_id, RunResult(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
            )
    if history in {"cancelled", "stopping"}:
        async with run_driver.database.transaction() as tx:
            await lifecycle.cancel_job(tx, job.id, subject_id=ADA_ID)
    return job
