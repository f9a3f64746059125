"""The poll loop: one listing shows the stages of all runs of a subject in a namespace.

A job is written only when it has changed. A run that the listing no longer shows is asked for by
its id, once. How often a group is polled depends on the age of its youngest run, and not on how
many people wait.

    one transaction     lease the groups that are due, read their tokens and their runs
    no transaction      list each group, compare
    for what changed    a transaction for each run
    one transaction     when each group is due again, for all groups that are done

So many runs that have not changed take two transactions. A group whose listing or log is slow
keeps the others waiting for no more than `_FINISH_INTERVAL`.
"""

from collections import defaultdict
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

import anyio
import structlog

from schema.accounts import credentials
from schema.accounts.credentials import DecryptedToken
from schema.artifacts import files
from schema.common.durations import format_duration
from schema.common.errors import Unavailable
from schema.common.failpoints import hit_failpoint
from schema.db.database import Transaction
from schema.hub.client import HubError, HubRejected
from schema.hub.job import RemoteJob
from schema.hub.labels import APP_LABEL, APP_NAME, RUN_LABEL
from schema.jobs import deadlines, run_end, work_queues
from schema.jobs.run_tables import DesiredState
from schema.jobs.tables import Reason
from schema.jobs.work_queues import BoundRun, DueRun, PollLease
from workers.artifacts import outputs
from workers.artifacts.log_capture import (
    capture_log,
    load_redactor,
    redact_or_withhold,
    redact_run_result,
)
from workers.artifacts.redaction import Redactor
from workers.attempts.run import record_created
from workers.attempts.spans import trace_poll, trace_run
from workers.context import Worker
from workers.executor import Created
from workers.hub.job_ending import ACTIVE_STAGES, derive_run_result
from workers.loops.reconcile_runs import (
    created_at_key,
    hold_if_token_rejected,
    is_job_of_run,
    is_recently_created,
)

BATCH_SIZE: Final = 8
"""Groups that a worker polls at the same time."""
MAX_FOLLOWED_LOGS: Final = 4
"""Logs captured in one poll while their runs go on; every log is captured at its end."""
_MAX_CONCURRENT_RUNS: Final = 8
"""Runs of one group that are updated at the same time."""
_FINISH_INTERVAL: Final = timedelta(seconds=0.25)
"""How often it is written when groups are due again, while others are still polled."""
_RUNNING_STAGE: Final = "RUNNING"

log = structlog.stdlib.get_logger()


async def poll_runs(worker: Worker) -> bool:
    """Take the groups that are due and poll each; true if there may be more."""
    lease_duration = worker.settings.lease
    runs: list[BoundRun] = []
    async with worker.database.transaction() as tx:
        leases = await work_queues.lease_due_poll_groups(tx, limit=BATCH_SIZE, lease=lease_duration)
        if leases:
            await worker.clock.read_lead(tx, lease_duration)  # the ages below are by that clock
            runs = await work_queues.list_bound_runs(tx, leases)
    if leases:
        hit_failpoint("observe.taken")
        await _poll_groups(worker, leases, runs)
    return len(leases) == BATCH_SIZE


async def _poll_groups(worker: Worker, leases: list[PollLease], runs: list[BoundRun]) -> None:
    """Poll groups side by side, and write together when those that are done are due again."""
    runs_by_group: defaultdict[tuple[str, str], list[BoundRun]] = defaultdict(list)
    for run in runs:
        runs_by_group[run.subject_id, run.namespace].append(run)
    done: list[PollLease] = []
    all_done = anyio.Event()

    async def finish_until_all_are_done() -> None:
        while done or not all_done.is_set():
            with anyio.move_on_after(_FINISH_INTERVAL.total_seconds()):
                await all_done.wait()
            if finished := done.copy():
                await _finish_polls(worker, finished)
                del done[: len(finished)]  # others are behind them by now

    try:
        async with anyio.create_task_group() as writer:
            writer.start_soon(finish_until_all_are_done)
            async with anyio.create_task_group() as polls:
                for lease in leases:
                    group_runs = runs_by_group[lease.subject_id, lease.namespace]
                    polls.start_soon(_poll_group, worker, lease, group_runs, done)
            all_done.set()
    except BaseException:  # a stop, or a bug in the poll of another group
        if done:
            await worker.hand_back(partial(_set_next_polls, worker, done))
        raise


async def _finish_polls(worker: Worker, leases: list[PollLease]) -> None:
    """Write when groups are due again; if that is cut off, the caller hands them back."""
    try:
        async with worker.database.transaction() as tx:
            hit_failpoint("observe.seen")
            await _set_next_polls(worker, leases, tx)
    except Unavailable as error:
        # The groups are due again when their leases lapse.
        log.warning("group.unobserved", groups=len(leases), error=str(error))


async def _set_next_polls(worker: Worker, leases: list[PollLease], tx: Transaction) -> None:
    settings = worker.settings
    await work_queues.finish_polls(
        tx, leases, min_interval=settings.observe_min, max_interval=settings.observe_max
    )


async def _poll_group(
    worker: Worker, lease: PollLease, runs: list[BoundRun], done: list[PollLease]
) -> None:
    """Poll one group; add its lease to those that are done, unless it has to be polled sooner."""
    wait: timedelta | None = None
    try:
        credential = credentials.open_held_token(worker.vault, lease)
        if credential is None:
            credential = await _load_token(worker, lease)
        if credential is not None:
            with trace_poll(worker.tracer, runs=len(runs)):
                wait = await _compare_with_listing(worker, lease, runs, credential)
        if wait is None:
            done.append(lease)
            return
        async with worker.database.transaction() as tx:
            await work_queues.postpone_poll(tx, lease, recheck_after=wait)
    except Unavailable as error:
        # The group is due again when its lease lapses.
        log.warning("group.unobserved", namespace=lease.namespace, error=str(error))
    except anyio.get_cancelled_exc_class():
        await worker.hand_back(
            lambda tx: work_queues.postpone_poll(tx, lease, recheck_after=timedelta(0))
        )
        raise


async def _load_token(worker: Worker, lease: PollLease) -> DecryptedToken | None:
    """Read the token of a lease that came without a usable one; without any, hold its subject."""
    async with worker.database.transaction() as tx:
        return await credentials.load_token(tx, worker.vault, lease.subject_id)


async def _compare_with_listing(
    worker: Worker, lease: PollLease, runs: list[BoundRun], credential: DecryptedToken
) -> timedelta | None:
    """Update a group from its listing; return how long to wait if a run could not be updated."""
    try:
        listed = await worker.hub.list_jobs(
            lease.namespace, credential.token, label=f"{APP_LABEL}={APP_NAME}", stages=ACTIVE_STAGES
        )
    except HubError as error:
        return await _delay_after_error(worker, lease, credential, error)
    hit_failpoint("observe.listed")
    # Before a run is ended: after the end of its last run nobody may list this group again.
    await _record_untracked_jobs(worker, lease, listed, runs)
    active = {job.id: job for job in listed}
    wanted_runs = [run for run in runs if run.desired is DesiredState.ALIVE]
    followed_ids = {run.id for run in wanted_runs[:MAX_FOLLOWED_LOGS]}
    errors: list[HubError | Unavailable] = []
    runs_without_outputs: list[DueRun] = []
    limiter = anyio.CapacityLimiter(_MAX_CONCURRENT_RUNS)

    async def update(run: DueRun, job: RemoteJob | None) -> None:
        async with limiter:
            try:
                # One that is listed as active is seen again and again, and makes no span.
                async with trace_run(worker, run, "end run") if job is None else nullcontext():
                    is_updated = await _update_run(
                        worker, run, credential, job, follow_log=run.id in followed_ids
                    )
                if not is_updated:
                    runs_without_outputs.append(run)
            except (HubError, Unavailable) as error:  # it must not keep us from the other runs
                errors.append(error)

    async with anyio.create_task_group() as group:
        for run in runs:
            job = active.get(run.remote_id)
            if job is None or not _is_unchanged(run, job, follow_log=run.id in followed_ids):
                group.start_soon(update, run.read(), job)
    if errors:
        return await _delay_after_error(worker, lease, credential, errors[0])
    return outputs.recheck_interval(worker) if runs_without_outputs else None


async def _delay_after_error(
    worker: Worker, lease: PollLease, credential: DecryptedToken, error: HubError | Unavailable
) -> timedelta:
    """Return when to poll again after an error; a rejected token holds its subject."""
    log.warning("group.unseen", namespace=lease.namespace, error=str(error))
    await hold_if_token_rejected(worker, lease.subject_id, credential, error)
    retry_after = error.retry_after if isinstance(error, HubRejected) else None
    return retry_after or worker.settings.observe_max / 6


def _is_unchanged(run: BoundRun, job: RemoteJob, *, follow_log: bool) -> bool:
    """Tell whether a listed run needs nothing, as most do."""
    return (
        job.stage == run.stage
        and job.stage in ACTIVE_STAGES
        and not run.overdue
        and not (follow_log and job.stage == _RUNNING_STAGE)
    )


async def _update_run(
    worker: Worker,
    run: DueRun,
    credential: DecryptedToken,
    job: RemoteJob | None,
    *,
    follow_log: bool,
) -> bool:
    """Write down what is new about a run; false if it has ended and its outputs are awaited."""
    assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
    if job is None:
        job = await worker.hub.inspect_job(run.namespace, run.remote_id, credential.token)
        if job is None and is_recently_created(worker, run):
            return True
    run_result = derive_run_result(job)
    stage = job.stage if job is not None else None
    has_log = run_result is not None or (follow_log and stage == _RUNNING_STAGE)
    redactor = await load_redactor(worker, run, credential) if has_log or run.overdue else None
    # When only the outputs are awaited, the log is complete already.
    if (
        has_log
        and run.stage != outputs.COMPLETED_STAGE
        and not await capture_log(
            worker, run, credential, redactor, is_finished=run_result is not None
        )
    ):
        return True
    collected: outputs.CollectedOutputs | None = None
    if run_result is not None:
        collected = await outputs.collect_outputs(worker, run, credential, run_result, redactor)
    if collected is None and stage in (run.stage, None) and not run.overdue:
        return run_result is None  # as most are: nothing is written of it
    async with worker.database.transaction() as tx:
        if collected is not None:
            hit_failpoint("end.before")
            redacted = redact_run_result(collected.run_result, redactor)
            await files.save_run_files(tx, run.id, collected.files)
            await run_end.end_run(tx, run.id, redacted, worker=worker.name)
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
        elif run.overdue and run_result is None:
            await _expire_run(tx, worker, run, job, redactor)
    if collected is not None:
        hit_failpoint("end.committed")
    return run_result is None or collected is not None


async def _expire_run(
    tx: Transaction,
    worker: Worker,
    run: DueRun,
    job: RemoteJob | None,
    redactor: Redactor | None,
) -> None:
    """End a run that has been in one stage for too long, with the Hub's last message about it."""
    is_running = run.stage == _RUNNING_STAGE
    max_duration = _max_stage_duration(worker, run, run.stage)
    assert max_duration is not None  # noqa: S101  # it is overdue, so it has a deadline
    lead = await worker.clock.read_lead(tx, max_duration)
    limit = format_duration(max_duration)
    hub_message = job.status.message if job is not None and job.status is not None else None
    message = f"It was still {run.stage} after {limit}."
    if hub_message:
        message += f" {redact_or_withhold(hub_message, redactor)}"
    reason = Reason.TIMED_OUT if is_running else Reason.STUCK_SCHEDULING
    if await deadlines.expire_run(
        tx, run.id, reason=reason, message=message, worker=worker.name, overdue_by=lead
    ):
        worker.events.reconcile.set()
        log.warning("run.expired", run=str(run.id), stage=run.stage)


def _max_stage_duration(worker: Worker, run: DueRun, stage: str | None) -> timedelta | None:
    """Return how long a stage may last; None for an adopted run, which its owner or the Hub ends.

    A run that we have launched has a deadline from its first stage on.
    """
    settings = worker.settings
    if run.deadline_at is None:
        return None
    if stage == outputs.COMPLETED_STAGE:
        return settings.outputs_patience
    if stage != _RUNNING_STAGE or run.timeout is None:
        return settings.scheduling_deadline
    return run.timeout + settings.run_slack


async def _record_untracked_jobs(
    worker: Worker, lease: PollLease, jobs: list[RemoteJob], runs: list[BoundRun]
) -> None:
    """Record the jobs with our label that have no run yet: unconfirmed, late, or surplus ones."""
    recorded_ids = {run.remote_id for run in runs}
    untracked = [
        (run_id, job)
        for job in sorted(jobs, key=created_at_key)
        if job.id not in recorded_ids and (run_id := _parse_run_id(job)) is not None
    ]
    if not untracked:
        return
    async with worker.database.transaction() as tx:
        runs_by_id = await work_queues.find_group_runs(
            tx, lease, [run_id for run_id, _ in untracked]
        )
        for run_id, job in untracked:
            run = runs_by_id.get(run_id)
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
