"""One attempt, from the committed claim to the written outcome.

The transactions are short and none is open while the Hub is spoken to. If the worker dies anywhere
in here its lease lapses, and `workers.loops.reconcile_runs` finds out from the Hub what became of
the request.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final, TypeVar, assert_never
from uuid import UUID

import anyio
import structlog

from schema.accounts import credentials
from schema.accounts import secrets as sealed_secrets
from schema.accounts.credentials import DecryptedToken
from schema.accounts.vault import Secret, Unsealable
from schema.artifacts import files
from schema.common.errors import Unavailable
from schema.common.failpoints import hit_failpoint
from schema.db.database import Transaction
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState, Reason
from schema.specs.hub_job import TOKEN_VARIABLE, list_token_variables
from workers.artifacts.redaction import Redactor
from workers.attempts.db_retry import retry_transaction
from workers.attempts.progress import ProgressReporter
from workers.context import Worker
from workers.executor import (
    Completed,
    Created,
    ExecutionRequest,
    Executor,
    Outcome,
    Rejected,
    ReportProgress,
    RetryLater,
    TokenRejected,
    Unknown,
)
from workers.timing import MAX_LAUNCH_TRIES, backoff, boottime_seconds

T = TypeVar("T")

_RENEWALS_PER_LEASE: Final = 4
"""Renewals in the time of one lease; more often than every few seconds is no use."""
_MAX_RENEWAL_INTERVAL: Final = timedelta(seconds=5)

_STOPPED_MESSAGE: Final = "The worker was stopped meanwhile."

log = structlog.stdlib.get_logger()


async def run_attempt(
    worker: Worker, executor: Executor, claim: ClaimedJob, *, claimed_at: float
) -> None:
    """Carry out a claimed attempt; if the worker is stopped meanwhile, hand it back."""
    lent = await retry_transaction(
        worker.database, lambda tx: credentials.load_token(tx, worker.vault, claim.subject_id)
    )
    if lent is None:
        await retry_transaction(
            worker.database, lambda tx: _requeue_without_token(tx, worker, claim)
        )
        return
    secrets = await retry_transaction(
        worker.database, lambda tx: _decrypt_secrets(tx, worker, claim, lent)
    )
    if secrets is None:
        return
    hit_failpoint("launch.lent")
    # What is true of the attempt if this is as far as it gets.
    known: Outcome = RetryLater(_STOPPED_MESSAGE)
    try:
        if refusal := await _check_may_send(worker, executor, claim, claimed_at=claimed_at):
            known = refusal
        else:
            hit_failpoint("launch.unsent")
            known = Unknown(_STOPPED_MESSAGE)
            sent = await _execute(worker, executor, claim, lent, secrets)
            known = redact_outcome(sent, Redactor({**secrets, TOKEN_VARIABLE: lent.token}))
            hit_failpoint("launch.sent")
        outcome = known
        await retry_transaction(
            worker.database, lambda tx: record_outcome(tx, worker, executor, claim, lent, outcome)
        )
        hit_failpoint("launch.settled")
    except anyio.get_cancelled_exc_class():
        async with worker.shutdown_transaction() as tx:
            await record_outcome(tx, worker, executor, claim, lent, known)
        raise


async def record_outcome(
    tx: Transaction,
    worker: Worker,
    executor: Executor,
    claim: ClaimedJob,
    credential: DecryptedToken,
    outcome: Outcome,
) -> None:
    """Write down how an attempt went."""
    run_id, by = claim.run_id, worker.name
    match outcome:
        case Created(remote_id, stage, addresses):
            hit_failpoint("bind.before")
            settings = worker.settings
            if await run_launch.record_remote_id(
                tx,
                run_id,
                remote_id=remote_id,
                stage=stage,
                addresses=addresses,
                worker=by,
                poll_after=settings.observe_min,
                max_stage_duration=settings.scheduling_deadline,
            ):
                worker.events.reconcile.set()
            hit_failpoint("bind.written")
        case Completed(ending, left):
            hit_failpoint("answer.before")
            if await run_end.end_call(tx, run_id, ending, worker=by):
                await files.save_files(tx, claim.job_id, left)
            hit_failpoint("answer.written")
        case Rejected(reason, message):
            hit_failpoint("refuse.before")
            await run_launch.mark_not_created(tx, run_id, reason=reason, message=message, worker=by)
            hit_failpoint("refuse.written")
        case RetryLater(message, asked):
            hit_failpoint("postpone.before")
            spent = claim.tries + 1 >= MAX_LAUNCH_TRIES
            await run_launch.mark_not_created(
                tx,
                run_id,
                reason=Reason.HUB_UNAVAILABLE if spent else None,
                message=message,
                worker=by,
                retry_after=asked or backoff(claim.tries),
                pause_subject_for=asked or timedelta(0),
            )
        case TokenRejected(message):
            await credentials.mark_credential_refused(
                tx, claim.subject_id, version=credential.version
            )
            hit_failpoint("hold.written")
            await run_launch.mark_not_created(tx, run_id, reason=None, message=message, worker=by)
        case Unknown(why) if executor.is_call:
            await _record_lost_call(tx, executor, run_id, why, by)
        case Unknown(why):
            hit_failpoint("doubt.before")
            await run_launch.mark_unconfirmed(
                tx, run_id, cause=why, worker=by, recheck_after=timedelta(seconds=1)
            )
            hit_failpoint("doubt.written")
            worker.events.reconcile.set()
        case _:
            assert_never(outcome)
    log.info("attempt.settled", outcome=type(outcome).__name__)


async def _record_lost_call(
    tx: Transaction, executor: Executor, run_id: UUID, message: str, worker_name: str
) -> None:
    """Write down that a call was cut off: it goes on where it was left, or nobody knows."""
    if executor.resumes:
        await run_launch.mark_not_created(
            tx, run_id, reason=None, message=message, worker=worker_name
        )
    else:
        lost = RunResult(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN, message)
        await run_end.end_call(tx, run_id, lost, worker=worker_name)


async def _requeue_without_token(tx: Transaction, worker: Worker, claim: ClaimedJob) -> None:
    await run_launch.mark_not_created(
        tx, claim.run_id, reason=None, message="No usable token.", worker=worker.name
    )


async def _decrypt_secrets(
    tx: Transaction, worker: Worker, claim: ClaimedJob, credential: DecryptedToken
) -> Mapping[str, Secret] | None:
    """Open the secrets of a job; one whose key was lost fails, for nobody has them any more.

    The token, if the job is trusted with it, may be another when its log is read: it is kept too.
    """
    try:
        secrets = await sealed_secrets.open_job_secrets(tx, worker.vault, claim.job_id)
        if names := list_token_variables(claim.spec):
            secrets |= dict.fromkeys(names, credential.token)
            await sealed_secrets.save_run_secrets(
                tx, worker.vault, claim.job_id, claim.run_id, claim.subject_id, secrets
            )
    except Unsealable:
        log.exception("secrets.unsealable")
        await run_launch.mark_not_created(
            tx,
            claim.run_id,
            reason=Reason.INTERNAL,
            message="Its secrets can no longer be opened: their key has left the ring.",
            worker=worker.name,
        )
        return None
    return secrets


async def _check_may_send(
    worker: Worker, executor: Executor, claim: ClaimedJob, *, claimed_at: float
) -> Outcome | None:
    """Say why nothing must be sent, if so."""
    if executor.is_call:
        async with worker.database.transaction() as tx:
            begun = await run_launch.begin_call(tx, claim.run_id, worker=worker.name)
        return None if begun else RetryLater("It was called off, or held up, before it was sent.")
    settings = worker.settings
    if boottime_seconds() - claimed_at > (settings.lease - settings.post_timeout).total_seconds():
        # Somebody may already be asking the Hub about this run: it must not come to be now.
        return RetryLater("The worker was held up before it could send the request.")
    return None


async def _execute(
    worker: Worker,
    executor: Executor,
    claim: ClaimedJob,
    credential: DecryptedToken,
    secrets: Mapping[str, Secret],
) -> Outcome:
    """Send the one request of an attempt; a call is dropped if its lease cannot be renewed."""
    outcome: Outcome | None = None
    async with anyio.create_task_group() as group:

        async def renewing() -> None:
            if not await _renew_lease(worker, claim):
                group.cancel_scope.cancel()

        reporter = ProgressReporter(worker, claim.run_id)

        async def stopping() -> None:
            await worker.stopping.wait()
            group.cancel_scope.cancel()

        if executor.resumes:  # it hands back what is left sooner than it is cut off
            group.start_soon(stopping)
        if executor.is_call:
            group.start_soon(renewing)
            group.start_soon(reporter.write_until_cancelled)
        outcome = await executor.execute(
            _build_request(claim, credential, secrets, worker.settings.post_timeout, reporter)
        )
        group.cancel_scope.cancel()
    return outcome or _cancelled_outcome(executor)


def _cancelled_outcome(executor: Executor) -> Outcome:
    if executor.resumes:  # it may only have lost its lease; a job that was called off is not queued
        return Unknown("Stopped, called off, or its lease was lost.")
    return Completed(RunResult(JobState.FAILED, "ABORTED", Reason.OUTCOME_UNKNOWN, "Called off."))


async def _renew_lease(worker: Worker, claim: ClaimedJob) -> bool:
    """Renew until the lease cannot be renewed."""
    lease = worker.settings.lease
    pause = min(lease / _RENEWALS_PER_LEASE, _MAX_RENEWAL_INTERVAL).total_seconds()
    while True:
        await anyio.sleep(pause)
        try:
            async with worker.database.transaction() as tx:
                if not await run_launch.renew_lease(tx, claim.run_id, lease=lease):
                    return False
        except Unavailable:
            log.warning("lease.unrenewed")


def _build_request(
    claim: ClaimedJob,
    credential: DecryptedToken,
    secrets: Mapping[str, Secret],
    request_timeout: timedelta,
    report_progress: ReportProgress,
) -> ExecutionRequest:
    return ExecutionRequest(
        run_id=claim.run_id,
        job_id=claim.job_id,
        namespace=claim.namespace,
        spec=claim.spec,
        labels=claim.labels,
        token=credential.token,
        secrets=secrets,
        request_timeout=request_timeout,
        report_progress=report_progress,
    )


def redact_outcome(outcome: Outcome, redactor: Redactor) -> Outcome:
    """Return an outcome that repeats no secret, whatever the Hub said to it."""
    match outcome:
        case Rejected() | RetryLater() | TokenRejected():
            return replace(outcome, message=redactor.redact(outcome.message))
        case Unknown():
            return replace(outcome, message=redactor.redact(outcome.message))
        case Completed(ending) if ending.message is not None:
            said = replace(ending, message=redactor.redact(ending.message))
            return replace(outcome, run_result=said)
        case Created() | Completed():
            return outcome
