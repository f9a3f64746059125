"""The reconcile loop: asks the Hub about unknown runs, and kills the runs that must end.

It works through the runs that owe a step. An unknown run is found when the Hub's listing shows its
label. It counts as absent when the listing did not show it until the settle window had closed; no
create request is sent again before.
"""

from datetime import timedelta
from http import HTTPStatus
from typing import Final

import anyio
import structlog

from schema.accounts import credentials
from schema.accounts.credentials import DecryptedToken
from schema.artifacts import files
from schema.common import ids
from schema.common.errors import Unavailable
from schema.common.failpoints import hit_failpoint
from schema.hub.client import HubError, HubRejected
from schema.hub.job import RemoteJob
from schema.hub.labels import RUN_VARIABLE, run_label
from schema.jobs import run_end, run_launch, work_queues
from schema.jobs.run_tables import RemoteRun, RunState
from schema.jobs.tables import JobKind
from schema.jobs.work_queues import DueRun, LapsedRun
from workers.artifacts import outputs
from workers.artifacts.log_capture import capture_log, load_redactor, redact_run_result
from workers.attempts.run import record_created, record_lost_call
from workers.attempts.spans import trace_run
from workers.context import Worker
from workers.executor import Created
from workers.hub.job_ending import derive_run_result
from workers.timing import backoff

_BATCH_SIZE: Final = 20
_MAX_KILL_INTERVAL: Final = timedelta(minutes=1)

log = structlog.stdlib.get_logger()


async def reconcile_runs(worker: Worker) -> bool:
    """Take the runs that owe a step and make that step; true if there may be more."""
    await _settle_lapsed_runs(worker)
    async with worker.database.transaction() as tx:
        runs = await work_queues.lease_due_runs(tx, limit=_BATCH_SIZE, lease=worker.settings.lease)
    if runs:
        hit_failpoint("attend.taken")
    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(_reconcile_run, worker, run)
    return len(runs) == _BATCH_SIZE


async def _settle_lapsed_runs(worker: Worker) -> None:
    """Take over the runs of workers that did not renew their leases."""
    async with worker.database.transaction() as tx:
        # After a jump the workers that live have renewed their leases before one lease is over.
        jumped = await worker.clock.read_lead(tx, worker.settings.lease)
        lapsed_runs = [] if jumped else await work_queues.find_lapsed_runs(tx)
    for run in lapsed_runs:
        await _settle_lapsed_run(worker, run)


async def _settle_lapsed_run(worker: Worker, run: LapsedRun) -> None:
    message = "The worker did not renew its lease."
    hit_failpoint("lapse.before")
    async with worker.database.transaction() as tx:
        if run.kind == JobKind.HUB_JOB:
            await run_launch.mark_unconfirmed(
                tx, run.run_id, cause=message, worker=worker.name, only_if_lapsed=True
            )
        else:
            await record_lost_call(
                tx,
                run.run_id,
                may_repeat=not run.has_begun or _is_resumable(worker, run.kind),
                message=message,
                worker=worker.name,
                only_if_lapsed=True,
            )
    hit_failpoint("lapse.committed")
    worker.activity.lapses[run.kind] += 1
    log.warning("lease.lapsed", run=str(run.run_id))


def _is_resumable(worker: Worker, kind: str) -> bool:
    """Tell whether the executor continues a call that was cut off."""
    executor = worker.executors.get(kind)
    return executor is not None and executor.resumes


async def _reconcile_run(worker: Worker, run: DueRun) -> None:
    job = ids.format_handle(ids.HandleKind.JOB, run.job_id)
    with structlog.contextvars.bound_contextvars(job=job, run=str(run.id)):
        try:
            async with worker.database.transaction() as tx:
                credential = await credentials.load_token(tx, worker.vault, run.subject_id)
            if credential is not None:
                await _find_or_kill_run(worker, run, credential)
        except (HubError, Unavailable) as error:
            # The run stays due: it is taken again when the lease of this step lapses.
            log.warning("run.unattended", error=str(error))
        except anyio.get_cancelled_exc_class():
            await worker.hand_back(lambda tx: work_queues.release_run_lease(tx, run.id))
            raise


async def _find_or_kill_run(worker: Worker, run: DueRun, credential: DecryptedToken) -> None:
    try:
        if run.state is RunState.UNKNOWN:
            async with trace_run(worker, run, "find run"):
                await _find_unknown_run(worker, run, credential)
        else:
            async with trace_run(worker, run, "kill run"):
                await _kill_run(worker, run, credential)
    except HubRejected as rejection:
        if not await hold_if_token_rejected(worker, run.subject_id, credential, rejection):
            raise


async def hold_if_token_rejected(
    worker: Worker, subject_id: str, credential: DecryptedToken, error: Exception
) -> bool:
    """Hold a subject's jobs if the error says that their token is invalid; false if it does not."""
    if not (isinstance(error, HubRejected) and error.status == HTTPStatus.UNAUTHORIZED):
        return False
    async with worker.database.transaction() as tx:
        await credentials.mark_credential_refused(tx, subject_id, version=credential.version)
    return True


async def _find_unknown_run(worker: Worker, run: DueRun, credential: DecryptedToken) -> None:
    """Ask the Hub whether a run exists; record its id, or count that it was not listed."""
    listed = await worker.hub.list_jobs(run.namespace, credential.token, label=run_label(run.id))
    hit_failpoint("find.listed")
    matches = sorted((job for job in listed if is_job_of_run(job, run)), key=created_at_key)
    async with worker.database.transaction() as tx:
        if not matches:
            is_absent = await run_end.record_missed_listing(
                tx, run.id, recheck_after=_recheck_interval(worker, run)
            )
            hit_failpoint("find.missed")
            # After a jump the settle window is waited for once more.
            if is_absent and not await worker.clock.read_lead(tx, worker.settings.settle):
                relaunch = _may_relaunch(worker, run)
                await run_end.mark_absent(
                    tx,
                    run.id,
                    worker=worker.name,
                    relaunch=relaunch,
                    default_monthly_budget=worker.settings.monthly_budget_micro_usd,
                )
                hit_failpoint("find.absent")
                log.warning("run.absent", relaunch=relaunch)
            return
        # The oldest first. Once a job is recorded, here or by another worker, the rest are surplus.
        must_kill = [
            await record_created(tx, worker, run.id, Created.from_job(job), poll_after=timedelta(0))
            for job in matches
        ]
        hit_failpoint("find.written")
    hit_failpoint("find.committed")
    log.info("run.found", remote=matches[0].id, listed=len(matches))
    if any(must_kill):
        worker.events.reconcile.set()


async def _kill_run(worker: Worker, run: DueRun, credential: DecryptedToken) -> None:
    """Cancel a run at the Hub, and check that it has ended; until then it is due again."""
    assert run.remote_id is not None  # noqa: S101  # a bound run has one: ck_remote_run_bound_by_id
    async with worker.database.transaction() as tx:
        await work_queues.record_kill_request(
            tx, run.id, recheck_after=min(backoff(run.kills), _MAX_KILL_INTERVAL)
        )
    hit_failpoint("kill.unsent")
    cancel_error = await _send_cancel(worker, run, credential)
    hit_failpoint("kill.sent")
    job = await worker.hub.inspect_job(run.namespace, run.remote_id, credential.token)
    is_too_young = job is None and is_recently_created(worker, run)
    run_result = None if is_too_young else derive_run_result(job)
    if run_result is None:
        if cancel_error is not None:
            raise cancel_error
        return
    hit_failpoint("kill.seen")
    redactor = await load_redactor(worker, run, credential)
    if not await capture_log(worker, run, credential, redactor, is_finished=True):
        return
    job_files = await outputs.collect_partial_outputs(worker, run, credential, redactor)
    async with worker.database.transaction() as tx:
        redacted = redact_run_result(run_result, redactor)
        await files.save_run_files(tx, run.id, job_files)
        await run_end.end_run(tx, run.id, redacted, worker=worker.name)
        hit_failpoint("kill.written")
    hit_failpoint("kill.committed")
    log.info("run.killed", stage=run_result.stage)


async def _send_cancel(
    worker: Worker, run: RemoteRun, credential: DecryptedToken
) -> HubError | None:
    """Send the cancel request, and return its error: what the Hub then shows counts for more."""
    assert run.remote_id is not None  # noqa: S101  # as above
    try:
        await worker.hub.cancel_job(run.namespace, run.remote_id, credential.token)
    except HubError as error:
        return error
    return None


def is_job_of_run(job: RemoteJob, run: RemoteRun) -> bool:
    """Tell whether a listed job is this run, and not a person's copy of it."""
    run_id = (job.environment or {}).get(RUN_VARIABLE)
    return not job.is_copy and run_id in (None, str(run.id))


def is_recently_created(worker: Worker, run: DueRun) -> bool:
    """Tell whether a run is so young that not every server of the Hub may know it yet."""
    lease = worker.settings.lease
    return run.age < lease + worker.clock.lead(lease)


def _may_relaunch(worker: Worker, run: DueRun) -> bool:
    """Tell whether to send a second create request: a duplicate it may cause is found and killed.

    Never for a job that the Hub itself restarts: a late first run could be several duplicates.
    """
    if run.attempts > 1:
        return False
    policy = worker.settings.unknown
    return policy == "relaunch" or (policy is None and (run.flavor or "").startswith("cpu-"))


def created_at_key(job: RemoteJob) -> str:
    """Return the sort key that puts the oldest job first."""
    return job.created_at or ""


def _recheck_interval(worker: Worker, run: RemoteRun) -> timedelta:
    return min(backoff(run.misses), worker.settings.settle / 10)
