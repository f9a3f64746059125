"""The attend loop: settle what is unknown by asking the Hub, and kill what must die.

It works through the runs that owe a step. Either the Hub's listing shows the label of a run, or it
is absent until the settle window has closed; a create request is never sent again before.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.accounts import credentials
from schema.accounts.credentials import Lent
from schema.artifacts import files
from schema.common import ids
from schema.common.errors import Unavailable
from schema.common.failpoints import reach
from schema.db.database import Transaction
from schema.jobs import run_end, run_launch, work_queues
from schema.jobs.run_end import Ending
from schema.jobs.run_launch import Lapsed
from schema.jobs.run_tables import RemoteRun, RunState
from schema.jobs.tables import JobKind, JobState, Reason
from schema.jobs.work_queues import AgedRun
from workers.artifacts import outputs
from workers.artifacts.log_capture import capture, redactor_of, unsaid
from workers.context import Worker
from workers.hub.client import Answered4xx, HubError
from workers.hub.job import RemoteJob
from workers.hub.job_ending import verdict
from workers.hub.labels import RUN_VARIABLE, run_label
from workers.timing import backoff

_BATCH: Final = 20
_MINUTE: Final = timedelta(minutes=1)
_COPIES: Final = frozenset({"duplicated-job", "scheduled-job"})
"""Initiators whose jobs carry our labels because a person copied them: not ours to count."""
_UNAUTHORIZED: Final = 401

log = structlog.stdlib.get_logger()


async def attend(worker: Worker) -> bool:
    """Take the runs that owe a step and make it; true if there may be more."""
    await _take_over(worker)
    async with worker.database.transaction() as tx:
        runs = await work_queues.take_runs(tx, limit=_BATCH, lease=worker.settings.lease)
    if runs:
        reach("attend.taken")
    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(_attend_one, worker, run)
    return len(runs) == _BATCH


async def _take_over(worker: Worker) -> None:
    """Take up the runs of workers that fell silent."""
    async with worker.database.transaction() as tx:
        silent = await run_launch.lapsed(tx)
    for run in silent:
        await _lapse(worker, run)


async def _lapse(worker: Worker, run: Lapsed) -> None:
    why = "The worker fell silent."
    reach("lapse.before")
    async with worker.database.transaction() as tx:
        if run.kind == JobKind.HUB_JOB:
            await run_launch.doubt(tx, run.run_id, why=why, worker=worker.name, lapsed=True)
        elif run.begun and not _resumes(worker, run.kind):
            lost = Ending(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN, why)
            await run_end.answer(tx, run.run_id, lost, worker=worker.name, lapsed=True)
        else:
            await run_launch.reject(
                tx, run.run_id, reason=None, message=why, worker=worker.name, lapsed=True
            )
    reach("lapse.committed")
    log.warning("lease.lapsed", run=str(run.run_id))


def _resumes(worker: Worker, kind: str) -> bool:
    """Tell whether a call that was cut off goes on where it was left."""
    executor = worker.executors.get(kind)
    return executor is not None and executor.resumes


async def _attend_one(worker: Worker, run: AgedRun) -> None:
    job = ids.write(ids.Kind.JOB, run.job_id)
    with structlog.contextvars.bound_contextvars(job=job, run=str(run.id)):
        try:
            async with worker.database.transaction() as tx:
                lent = await credentials.lend(tx, worker.vault, run.subject_id)
            if lent is not None:
                await _step(worker, run, lent)
        except (HubError, Unavailable) as error:
            # The run stays due: it is taken again when the lease of this step lapses.
            log.warning("run.unattended", error=str(error))
        except anyio.get_cancelled_exc_class():
            async with worker.last_word() as tx:
                await work_queues.hand_back_run(tx, run.id)
            raise


async def _step(worker: Worker, run: AgedRun, lent: Lent) -> None:
    try:
        if run.state is RunState.UNKNOWN:
            await _find(worker, run, lent)
        else:
            await _kill(worker, run, lent)
    except Answered4xx as no:
        if no.status != _UNAUTHORIZED:
            raise
        async with worker.database.transaction() as tx:
            await credentials.refused(tx, run.subject_id, version=lent.version)


async def _find(worker: Worker, run: AgedRun, lent: Lent) -> None:
    """Ask the Hub whether a run exists: bind it, or count the miss."""
    listed = await worker.hub.list_jobs(run.namespace, lent.token, label=run_label(run.id))
    reach("find.listed")
    found = sorted((job for job in listed if is_run(job, run)), key=age_of)
    async with worker.database.transaction() as tx:
        if not found:
            ripe = await run_end.miss(tx, run.id, look_again=_patience(worker, run))
            reach("find.missed")
            if ripe:
                again = _may_relaunch(worker, run)
                await run_end.conclude_absent(
                    tx,
                    run.id,
                    worker=worker.name,
                    relaunch=again,
                    monthly_budget=worker.settings.monthly_budget,
                )
                reach("find.absent")
                log.warning("run.absent", relaunch=again)
            return
        # Oldest first; whatever is bound by then, in here or meanwhile, the others are surplus.
        doomed = [await record(tx, worker, run.id, job) for job in found]
        reach("find.written")
    reach("find.committed")
    log.info("run.found", remote=found[0].id, listed=len(found))
    if any(doomed):
        worker.bells.attend.ring()


async def _kill(worker: Worker, run: AgedRun, lent: Lent) -> None:
    """Stop a run, and look whether it has stopped; it is due again until it has."""
    assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
    async with worker.database.transaction() as tx:
        await work_queues.kill_sent(tx, run.id, look_again=min(backoff(run.kills), _MINUTE))
    reach("kill.unsent")
    refusal = await _ask_to_stop(worker, run, lent)
    reach("kill.sent")
    job = await worker.hub.inspect_job(run.namespace, run.remote_id, lent.token)
    ending = None if job is None and is_young(worker, run) else verdict(job)
    if ending is None:
        if refusal is not None:
            raise refusal
        return
    reach("kill.seen")
    redactor = await redactor_of(worker, run, lent)
    if not await capture(worker, run, lent, redactor, over=True):
        return
    left = await outputs.salvage(worker, run, lent, redactor)
    async with worker.database.transaction() as tx:
        await run_end.end(tx, run.id, unsaid(ending, redactor), worker=worker.name)
        await files.keep(tx, run.job_id, left)
        reach("kill.written")
    reach("kill.committed")
    log.info("run.killed", stage=ending.stage)


async def _ask_to_stop(worker: Worker, run: RemoteRun, lent: Lent) -> HubError | None:
    """Send the cancel request; what it answers counts for less than what is seen afterwards."""
    assert run.remote_id is not None  # noqa: S101  # as above
    try:
        await worker.hub.cancel_job(run.namespace, run.remote_id, lent.token)
    except HubError as error:
        return error
    return None


async def record(tx: Transaction, worker: Worker, run_id: UUID, job: RemoteJob) -> bool:
    """Write down that the Hub has this job for a run; true if it is to be killed at once."""
    return await run_launch.bind(
        tx,
        run_id,
        remote_id=job.id,
        stage=job.stage,
        addresses=job.addresses,
        worker=worker.name,
        look_again=timedelta(0),
        patience=worker.settings.scheduling_deadline,
    )


def is_run(job: RemoteJob, run: RemoteRun) -> bool:
    """Tell whether a listed job is this run, and not a person's copy of it."""
    copied = job.initiator is not None and job.initiator.type in _COPIES
    named = (job.environment or {}).get(RUN_VARIABLE)
    return not copied and named in (None, str(run.id))


def is_young(worker: Worker, run: AgedRun) -> bool:
    """Tell whether a run that the Hub does not know may only not be known everywhere yet."""
    return run.age < worker.settings.lease


def _may_relaunch(worker: Worker, run: AgedRun) -> bool:
    """Tell whether a second create request is worth a duplicate, which is found and killed.

    Never of a job that the Hub itself starts anew: what came late would be more than one duplicate.
    """
    if run.attempts > 1:
        return False
    chosen = worker.settings.unknown
    return chosen == "relaunch" or (chosen is None and (run.flavor or "").startswith("cpu-"))


def age_of(job: RemoteJob) -> str:
    """Return what sorts jobs, the oldest first."""
    return job.created_at or ""


def _patience(worker: Worker, run: RemoteRun) -> timedelta:
    return min(backoff(run.misses), worker.settings.settle / 10)
