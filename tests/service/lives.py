"""A worker's moves, one by one, and the lives that a job of Ada's can have had."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from schema.artifacts import log_store
from schema.db.database import Database
from schema.jobs import lifecycle, run_end, run_launch
from schema.jobs.run_end import Ending
from schema.jobs.tables import Job, JobKind, JobState, Reason
from schema.settings import ROOM
from tests.conftest import JobFactory
from tests.service.stand_in import ADA

REMOTE: Final = "6a31d7ef5ff0a6cf94f9f8b9"

LIVES: Final = ("queued", "cancelled", "running", "stopping", "succeeded", "failed", "answered")


@dataclass(frozen=True)
class Worker:
    """Makes the moves of a worker."""

    database: Database

    async def bind(self, kind: JobKind = JobKind.HUB_JOB, remote: str = REMOTE) -> UUID:
        """Claim the one queued job, and bring its run into being."""
        long = timedelta(minutes=5)
        async with self.database.transaction() as tx:
            [claim] = await run_launch.claim(tx, kind, limit=1, worker="w", lease=long, settle=long)
            if kind is JobKind.INFERENCE:
                await run_launch.begin(tx, claim.run_id, worker="w")
            else:
                await run_launch.bind(
                    tx, claim.run_id, remote_id=remote, stage="RUNNING", worker="w", look_again=long
                )
        return claim.run_id

    async def log(self, run_id: UUID, *lines: str) -> None:
        """Capture lines."""
        async with self.database.transaction() as tx:
            await log_store.append(tx, run_id, list(lines), already=0, room=ROOM)

    async def end(self, run_id: UUID, ending: Ending) -> None:
        """See a run over."""
        async with self.database.transaction() as tx:
            await run_end.end(tx, run_id, ending, worker="w")

    async def answer(self, run_id: UUID, ending: Ending) -> None:
        """Write down a call's answer."""
        async with self.database.transaction() as tx:
            await run_end.answer(tx, run_id, ending, worker="w")


async def lived(worker: Worker, make_job: JobFactory, life: str) -> Job:
    """Bring a job of Ada's to where one of the `LIVES` has led."""
    if life == "answered":
        job = await make_job(kind=JobKind.INFERENCE, spec={"model": "m/m"}, title="m/m: Hi")
        run_id = await worker.bind(JobKind.INFERENCE)
        answer = Ending(JobState.SUCCEEDED, "ANSWERED", result={"text": "Rhine"})
        await worker.answer(run_id, answer)
        return job
    job = await make_job()
    if life not in {"queued", "cancelled"}:
        run_id = await worker.bind()
        await worker.log(run_id, "a line")
        if life == "succeeded":
            await worker.end(run_id, Ending(JobState.SUCCEEDED, "COMPLETED"))
        if life == "failed":
            await worker.end(
                run_id, Ending(JobState.FAILED, "ERROR", Reason.EXIT_NONZERO, "boom", 3)
            )
    if life in {"cancelled", "stopping"}:
        async with worker.database.transaction() as tx:
            await lifecycle.cancel(tx, job.id, subject_id=ADA)
    return job
