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
from schema.accounts.credentials import Lent
from schema.artifacts import files
from schema.common import ids
from schema.common.durations import say
from schema.common.errors import Unavailable
from schema.common.failpoints import reach
from schema.db.database import Transaction
from schema.jobs import deadlines, run_end, work_queues
from schema.jobs.run_tables import Desired
from schema.jobs.tables import Reason
from schema.jobs.work_queues import AgedRun, Turn
from workers.artifacts import outputs
from workers.artifacts.log_capture import capture, redacted, redactor_of, unsaid
from workers.artifacts.redaction import Redactor
from workers.context import Worker
from workers.hub.client import Answered4xx, HubError
from workers.hub.job import RemoteJob
from workers.hub.job_ending import ACTIVE, verdict
from workers.hub.labels import APP, APP_LABEL, RUN_LABEL
from workers.loops.reconcile_runs import age_of, is_run, is_young, record

_BATCH: Final = 8
_FOLLOWED: Final = 4
"""Logs captured in one turn while their runs go on; every log is captured at its end."""
_HANDS: Final = 8
"""Runs of one group looked at together."""
_RUNNING: Final = "RUNNING"
_UNAUTHORIZED: Final = 401

log = structlog.stdlib.get_logger()


async def observe(worker: Worker) -> bool:
    """Take the groups that are due and look at each; true if there may be more."""
    async with worker.database.transaction() as tx:
        turns = await work_queues.take_groups(tx, limit=_BATCH, lease=worker.settings.lease)
    if turns:
        reach("observe.taken")
    async with anyio.create_task_group() as group:
        for turn in turns:
            group.start_soon(_observe_group, worker, turn)
    return len(turns) == _BATCH


async def _observe_group(worker: Worker, turn: Turn) -> None:
    settings = worker.settings
    wait: timedelta | None = None
    try:
        async with worker.database.transaction() as tx:
            lent = await credentials.lend(tx, worker.vault, turn.subject_id)
            runs = await work_queues.bound_runs(tx, turn)
        if lent is not None:
            wait = await _look(worker, turn, runs, lent)
        async with worker.database.transaction() as tx:
            reach("observe.seen")
            if wait is None:
                await work_queues.give_back(
                    tx, turn, fastest=settings.observe_min, slowest=settings.observe_max
                )
            else:
                await work_queues.postpone(tx, turn, look_again=wait)
    except Unavailable as error:
        # The turn is due again when its lease lapses.
        log.warning("group.unobserved", namespace=turn.namespace, error=str(error))
    except anyio.get_cancelled_exc_class():
        async with worker.last_word() as tx:
            await work_queues.postpone(tx, turn, look_again=timedelta(0))
        raise


async def _look(worker: Worker, turn: Turn, runs: list[AgedRun], lent: Lent) -> timedelta | None:
    """Compare a group with its listing; say how long to wait if something could not be seen."""
    try:
        listed = await worker.hub.list_jobs(
            turn.namespace, lent.token, label=f"{APP_LABEL}={APP}", stages=ACTIVE
        )
    except HubError as error:
        return await _after(worker, turn, lent, error)
    reach("observe.listed")
    # Before anything is ended: nobody may list this group once its last run is over.
    await _take_stock(worker, turn, listed, runs)
    active = {job.id: job for job in listed}
    followed = {run.id for run in [r for r in runs if r.desired is Desired.ALIVE][:_FOLLOWED]}
    troubles: list[HubError | Unavailable] = []
    waiting: list[AgedRun] = []
    hands = anyio.CapacityLimiter(_HANDS)

    async def look_at(run: AgedRun) -> None:
        # What goes wrong with one run is no reason not to look at the others.
        async with hands:
            try:
                job = active.get(run.remote_id or "")
                if not await _look_at(worker, run, lent, job, follow=run.id in followed):
                    waiting.append(run)
            except (HubError, Unavailable) as error:
                troubles.append(error)

    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(look_at, run)
    if troubles:
        return await _after(worker, turn, lent, troubles[0])
    return outputs.look_again(worker) if waiting else None


async def _after(
    worker: Worker, turn: Turn, lent: Lent, error: HubError | Unavailable
) -> timedelta:
    """Say when to look again after something went wrong; a refused token holds its subject."""
    log.warning("group.unseen", namespace=turn.namespace, error=str(error))
    if isinstance(error, Answered4xx) and error.status == _UNAUTHORIZED:
        async with worker.database.transaction() as tx:
            await credentials.refused(tx, turn.subject_id, version=lent.version)
    asked = error.retry_after if isinstance(error, Answered4xx) else None
    return asked or worker.settings.observe_max / 6


async def _look_at(
    worker: Worker, run: AgedRun, lent: Lent, job: RemoteJob | None, *, follow: bool
) -> bool:
    """Write down what is new about one run; false if it is over, and its outputs are waited for."""
    assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
    if job is None:
        job = await worker.hub.inspect_job(run.namespace, run.remote_id, lent.token)
        if job is None and is_young(worker, run):
            return True
    ending = verdict(job)
    stage = job.stage if job is not None else None
    printing = ending is not None or (follow and stage == _RUNNING)
    redactor = await redactor_of(worker, run, lent) if printing or run.overdue else None
    # Its log is whole where only its outputs are waited for.
    printing = printing and run.stage != outputs.COMPLETED
    if printing and not await capture(worker, run, lent, redactor, over=ending is not None):
        return True
    left: outputs.Left | None = None
    if ending is not None:
        left = await outputs.collect(worker, run, lent, ending, redactor)
    async with worker.database.transaction() as tx:
        if left is not None:
            reach("end.before")
            await run_end.end(tx, run.id, unsaid(left.ending, redactor), worker=worker.name)
            await files.keep(tx, run.job_id, left.files)
            reach("end.written")
        elif job is not None and stage is not None and stage != run.stage:
            await run_end.note_stage(
                tx,
                run.id,
                stage=stage,
                started_at=job.started_at,
                addresses=job.addresses,
                worker=worker.name,
                patience=_patience(worker, run, stage),
            )
            reach("stage.written")
        elif run.overdue and ending is None:
            await _expire(tx, worker, run, job, redactor)
    if left is not None:
        reach("end.committed")
        name = ids.write(ids.Kind.JOB, run.job_id)
        log.info("job.ended", job=name, state=left.ending.state, reason=left.ending.reason)
    return ending is None or left is not None


async def _expire(
    tx: Transaction,
    worker: Worker,
    run: AgedRun,
    job: RemoteJob | None,
    redactor: Redactor | None,
) -> None:
    """End a run that the Hub leaves in one stage for too long, with what was seen of it."""
    running = run.stage == _RUNNING
    lasted = say(_patience(worker, run, run.stage))
    said = job.status.message if job is not None and job.status is not None else None
    evidence = f"It was still {run.stage} after {lasted}."
    if said:
        evidence += f" {redacted(said, redactor)}"
    reason = Reason.TIMED_OUT if running else Reason.STUCK_SCHEDULING
    if await deadlines.expire(tx, run.id, reason=reason, message=evidence, worker=worker.name):
        worker.bells.attend.ring()
        log.warning("run.expired", run=str(run.id), stage=run.stage)


def _patience(worker: Worker, run: AgedRun, stage: str | None) -> timedelta:
    """Say how long a stage may last."""
    settings = worker.settings
    if stage == outputs.COMPLETED:
        return settings.outputs_patience
    if stage != _RUNNING or run.timeout is None:
        return settings.scheduling_deadline
    return run.timeout + settings.run_slack


async def _take_stock(
    worker: Worker, turn: Turn, active: list[RemoteJob], bound: list[AgedRun]
) -> None:
    """Record the labelled jobs that nobody has recorded: unanswered, late, or one too many."""
    recorded = {run.remote_id for run in bound}
    strays = [
        (run_id, job)
        for job in sorted(active, key=age_of)
        if job.id not in recorded and (run_id := _labelled(job)) is not None
    ]
    if not strays:
        return
    async with worker.database.transaction() as tx:
        known = await work_queues.runs(tx, turn, [run_id for run_id, _ in strays])
        for run_id, job in strays:
            run = known.get(run_id)
            if run is not None and run.remote_id != job.id and is_run(job, run):
                reach("stock.before")
                if await record(tx, worker, run_id, job):
                    worker.bells.attend.ring()
                log.warning("job.found", run=str(run_id), remote=job.id)


def _labelled(job: RemoteJob) -> UUID | None:
    try:
        return UUID((job.labels or {})[RUN_LABEL])
    except (KeyError, ValueError):
        return None
