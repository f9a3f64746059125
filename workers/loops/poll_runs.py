"""The observe loop: one listing tells how all of a subject's runs in a namespace are doing.

No job is written while it has not changed. What a listing no longer shows is asked for by id,
once. How often depends on the age of the youngest run, not on how many people are waiting.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.accounts import credentials
from schema.accounts.credentials import DecryptedToken
from schema.artifacts import files
from schema.common import ids
from schema.common.durations import format_duration
from schema.common.errors import Unavailable
from schema.common.failpoints import hit_failpoint
from schema.db.database import Transaction
from schema.hub.client import HubError, HubRejected
from schema.jobs import deadlines, run_end, work_queues
from schema.jobs.run_tables import DesiredState
from schema.jobs.tables import Reason
from schema.jobs.work_queues import DueRun, PollLease
from workers.artifacts import outputs
from workers.artifacts.log_capture import (
    capture_log,
    load_redactor,
    redact_or_withhold,
    redact_run_result,
)
from workers.artifacts.redaction import Redactor
from workers.attempts.run import record_created
from workers.context import Worker
from workers.executor import Created
from workers.hub.job import RemoteJob
from workers.hub.job_ending import ACTIVE_STAGES, derive_run_result
from workers.hub.labels import APP_LABEL, APP_NAME, RUN_LABEL
from workers.loops.reconcile_runs import (
    created_at_key,
    hold_if_token_rejected,
    is_job_of_run,
    is_recently_created,
)

_BATCH_SIZE: Final = 8
_MAX_FOLLOWED_LOGS: Final = 4
"""Logs captured in one turn while their runs go on; every log is captured at its end."""
_MAX_CONCURRENT_RUNS: Final = 8
"""Runs of one group looked at together."""
_RUNNING_STAGE: Final = "RUNNING"

log = structlog.stdlib.get_logger()


async def poll_runs(worker: Worker) -> bool:
    """Take the groups that are due and look at each; true if there may be more."""
    async with worker.database.transaction() as tx:
        turns = await work_queues.lease_due_poll_groups(
            tx, limit=_BATCH_SIZE, lease=worker.settings.lease
        )
    if turns:
        hit_failpoint("observe.taken")
    async with anyio.create_task_group() as group:
        for turn in turns:
            group.start_soon(_poll_group, worker, turn)
    return len(turns) == _BATCH_SIZE


async def _poll_group(worker: Worker, lease: PollLease) -> None:
    settings = worker.settings
    wait: timedelta | None = None
    try:
        async with worker.database.transaction() as tx:
            lent = await credentials.load_token(tx, worker.vault, lease.subject_id)
            runs = await work_queues.list_bound_runs(tx, lease)
        if lent is not None:
            wait = await _compare_with_listing(worker, lease, runs, lent)
        async with worker.database.transaction() as tx:
            hit_failpoint("observe.seen")
            if wait is None:
                await work_queues.finish_poll(
                    tx, lease, min_interval=settings.observe_min, max_interval=settings.observe_max
                )
            else:
                await work_queues.postpone_poll(tx, lease, recheck_after=wait)
    except Unavailable as error:
        # The turn is due again when its lease lapses.
        log.warning("group.unobserved", namespace=lease.namespace, error=str(error))
    except anyio.get_cancelled_exc_class():
        async with worker.shutdown_transaction() as tx:
            await work_queues.postpone_poll(tx, lease, recheck_after=timedelta(0))
        raise


async def _compare_with_listing(
    worker: Worker, lease: PollLease, runs: list[DueRun], credential: DecryptedToken
) -> timedelta | None:
    """Compare a group with its listing; say how long to wait if something could not be seen."""
    try:
        listed = await worker.hub.list_jobs(
            lease.namespace, credential.token, label=f"{APP_LABEL}={APP_NAME}", stages=ACTIVE_STAGES
        )
    except HubError as error:
        return await _delay_after_error(worker, lease, credential, error)
    hit_failpoint("observe.listed")
    # Before anything is ended: nobody may list this group once its last run is over.
    await _record_untracked_jobs(worker, lease, listed, runs)
    active = {job.id: job for job in listed}
    followed = {
        run.id for run in [r for r in runs if r.desired is DesiredState.ALIVE][:_MAX_FOLLOWED_LOGS]
    }
    troubles: list[HubError | Unavailable] = []
    waiting: list[DueRun] = []
    hands = anyio.CapacityLimiter(_MAX_CONCURRENT_RUNS)

    async def look_at(run: DueRun) -> None:
        # What goes wrong with one run is no reason not to look at the others.
        async with hands:
            try:
                job = active.get(run.remote_id or "")
                if not await _update_run(
                    worker, run, credential, job, follow_log=run.id in followed
                ):
                    waiting.append(run)
            except (HubError, Unavailable) as error:
                troubles.append(error)

    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(look_at, run)
    if troubles:
        return await _delay_after_error(worker, lease, credential, troubles[0])
    return outputs.recheck_interval(worker) if waiting else None


async def _delay_after_error(
    worker: Worker, lease: PollLease, credential: DecryptedToken, error: HubError | Unavailable
) -> timedelta:
    """Say when to look again after something went wrong; a refused token holds its subject."""
    log.warning("group.unseen", namespace=lease.namespace, error=str(error))
    await hold_if_token_rejected(worker, lease.subject_id, credential, error)
    asked = error.retry_after if isinstance(error, HubRejected) else None
    return asked or worker.settings.observe_max / 6


async def _update_run(
    worker: Worker,
    run: DueRun,
    credential: DecryptedToken,
    job: RemoteJob | None,
    *,
    follow_log: bool,
) -> bool:
    """Write down what is new about one run; false if it is over, and its outputs are waited for."""
    assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
    if job is None:
        job = await worker.hub.inspect_job(run.namespace, run.remote_id, credential.token)
        if job is None and is_recently_created(worker, run):
            return True
    ending = derive_run_result(job)
    stage = job.stage if job is not None else None
    printing = ending is not None or (follow_log and stage == _RUNNING_STAGE)
    redactor = await load_redactor(worker, run, credential) if printing or run.overdue else None
    # Its log is whole where only its outputs are waited for.
    printing = printing and run.stage != outputs.COMPLETED_STAGE
    if printing and not await capture_log(
        worker, run, credential, redactor, is_finished=ending is not None
    ):
        return True
    left: outputs.CollectedOutputs | None = None
    if ending is not None:
        left = await outputs.collect_outputs(worker, run, credential, ending, redactor)
    async with worker.database.transaction() as tx:
        if left is not None:
            hit_failpoint("end.before")
            await run_end.end_run(
                tx, run.id, redact_run_result(left.run_result, redactor), worker=worker.name
            )
            await files.save_files(tx, run.job_id, left.files)
            hit_failpoint("end.written")
        elif job is not None and stage is not None and stage != run.stage:
            await run_end.record_stage(
                tx,
                run.id,
                stage=stage,
                started_at=job.started_at,
                addresses=job.addresses,
                worker=worker.name,
                max_stage_duration=_max_stage_duration(worker, run, stage),
            )
            hit_failpoint("stage.written")
        elif run.overdue and ending is None:
            await _expire_run(tx, worker, run, job, redactor)
    if left is not None:
        hit_failpoint("end.committed")
        name = ids.format_handle(ids.HandleKind.JOB, run.job_id)
        log.info("job.ended", job=name, state=left.run_result.state, reason=left.run_result.reason)
    return ending is None or left is not None


async def _expire_run(
    tx: Transaction,
    worker: Worker,
    run: DueRun,
    job: RemoteJob | None,
    redactor: Redactor | None,
) -> None:
    """End a run that the Hub leaves in one stage for too long, with what was seen of it."""
    running = run.stage == _RUNNING_STAGE
    lasted = format_duration(_max_stage_duration(worker, run, run.stage))
    said = job.status.message if job is not None and job.status is not None else None
    evidence = f"It was still {run.stage} after {lasted}."
    if said:
        evidence += f" {redact_or_withhold(said, redactor)}"
    reason = Reason.TIMED_OUT if running else Reason.STUCK_SCHEDULING
    if await deadlines.expire_run(tx, run.id, reason=reason, message=evidence, worker=worker.name):
        worker.events.reconcile.set()
        log.warning("run.expired", run=str(run.id), stage=run.stage)


def _max_stage_duration(worker: Worker, run: DueRun, stage: str | None) -> timedelta:
    """Say how long a stage may last."""
    settings = worker.settings
    if stage == outputs.COMPLETED_STAGE:
        return settings.outputs_patience
    if stage != _RUNNING_STAGE or run.timeout is None:
        return settings.scheduling_deadline
    return run.timeout + settings.run_slack


async def _record_untracked_jobs(
    worker: Worker, lease: PollLease, jobs: list[RemoteJob], runs: list[DueRun]
) -> None:
    """Record the labelled jobs that nobody has recorded: unanswered, late, or one too many."""
    recorded = {run.remote_id for run in runs}
    strays = [
        (run_id, job)
        for job in sorted(jobs, key=created_at_key)
        if job.id not in recorded and (run_id := _parse_run_id(job)) is not None
    ]
    if not strays:
        return
    async with worker.database.transaction() as tx:
        known = await work_queues.find_group_runs(tx, lease, [run_id for run_id, _ in strays])
        for run_id, job in strays:
            run = known.get(run_id)
            if run is not None and run.remote_id != job.id and is_job_of_run(job, run):
                hit_failpoint("stock.before")
                if await record_created(
                    tx, worker, run_id, Created.from_job(job), poll_after=timedelta(0)
                ):
                    worker.events.reconcile.set()
                log.warning("job.found", run=str(run_id), remote=job.id)


def _parse_run_id(job: RemoteJob) -> UUID | None:
    try:
        return UUID((job.labels or {})[RUN_LABEL])
    except (KeyError, ValueError):
        return None
