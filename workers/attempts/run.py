"""One attempt, from the committed claim to the written outcome.

The transactions are short, and none is open during a request to the Hub. If the worker dies at any
point of this module, the lease of the run lapses, and `workers.loops.reconcile_runs` asks the Hub
what became of the request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final, assert_never
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
from schema.common.observability.tracing import TRACEPARENT
from schema.common.text import truncate
from schema.db.database import Transaction
from schema.hub.labels import REQUEST_LABEL, SERVER_LABEL, TRACE_LABEL
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import RunResult
from schema.jobs.run_launch import ClaimedJob
from schema.jobs.tables import JobState, Reason
from schema.specs.hub_job import list_token_variables
from workers.artifacts.redaction import Redactor
from workers.attempts.db_retry import retry_transaction
from workers.attempts.progress import ProgressReporter
from workers.context import Worker
from workers.executor import (
    Completed,
    Created,
    ExecutionRequest,
    Executor,
    HandedBack,
    Outcome,
    Rejected,
    RetryLater,
    TokenRejected,
    Unknown,
)
from workers.timing import MAX_LAUNCH_TRIES, backoff, boottime_seconds

_RENEWALS_PER_LEASE: Final = 4
_MAX_RENEWAL_INTERVAL: Final = timedelta(seconds=5)
"""A renewal also shows that the job was cancelled, so even a long lease is renewed this often."""

_MAX_UNCHECKED_SECONDS: Final = 1.0
"""Seconds after a claim in which a call is sent without another look at its job."""
_MAX_MESSAGE_CHARS: Final = 2000
_HANDED_BACK_MESSAGE: Final = "Others had waited for its place; it goes on where it stopped."
_STOPPED_MESSAGE: Final = "The worker was stopped meanwhile."

log = structlog.stdlib.get_logger()


async def run_attempt(
    worker: Worker,
    executor: Executor,
    claim: ClaimedJob,
    *,
    claimed_at: float,
    hand_back: asyncio.Event,
) -> None:
    """Carry out a claimed attempt; if the worker is stopped meanwhile, hand it back.

    Args:
        claimed_at: the time, by `boottime_seconds`, before the claim was committed.
        hand_back: set when others wait for the slot of an executor that resumes.
    """
    database = worker.database
    credential = credentials.open_held_token(worker.vault, claim)
    if credential is None:
        credential = await _load_token(worker, claim)
    if credential is None:
        await retry_transaction(
            database,
            lambda tx: run_launch.mark_not_created(
                tx, claim.run_id, reason=None, message="No usable token.", worker=worker.name
            ),
        )
        return
    secrets = await _open_secrets(worker, claim, credential)
    if secrets is None:
        return
    hit_failpoint("launch.lent")
    record = partial(
        record_outcome, worker=worker, executor=executor, claim=claim, credential=credential
    )
    # The outcome of the attempt if the worker is stopped at this point.
    outcome: Outcome = RetryLater(_STOPPED_MESSAGE)
    try:
        if obstacle := await _check_may_send(worker, executor, claim, claimed_at=claimed_at):
            outcome = obstacle
        else:
            hit_failpoint("launch.unsent")
            outcome = Unknown(_STOPPED_MESSAGE)
            redactor = Redactor(secrets, credential.token)
            reporter = ProgressReporter(worker, claim.run_id, redactor)
            answer = await _execute(
                worker, executor, claim, credential, secrets, reporter, hand_back
            )
            outcome = redact_outcome(answer, redactor)
            hit_failpoint("launch.sent")
        await _write_outcome(worker, claim, outcome, partial(record, outcome=outcome))
        hit_failpoint("launch.settled")
    except anyio.get_cancelled_exc_class():
        await worker.hand_back(partial(record, outcome=outcome))
        raise


async def record_outcome(
    tx: Transaction,
    *,
    worker: Worker,
    executor: Executor,
    claim: ClaimedJob,
    credential: DecryptedToken,
    outcome: Outcome,
) -> None:
    """Write down the outcome of an attempt."""
    run_id, worker_name = claim.run_id, worker.name
    match outcome:
        case Created():
            hit_failpoint("bind.before")
            poll_after = worker.settings.observe_min
            if await record_created(tx, worker, run_id, outcome, poll_after=poll_after):
                worker.events.reconcile.set()
            hit_failpoint("bind.written")
        case Completed(run_result, job_files):
            hit_failpoint("answer.before")
            if await run_end.end_call(tx, run_id, run_result, worker=worker_name):
                await files.save_files(tx, claim.job_id, job_files)
            hit_failpoint("answer.written")
        case Rejected(reason, message):
            hit_failpoint("refuse.before")
            await run_launch.mark_not_created(
                tx, run_id, reason=reason, message=message, worker=worker_name
            )
            hit_failpoint("refuse.written")
        case RetryLater():
            hit_failpoint("postpone.before")
            await _postpone_launch(tx, worker, claim, outcome)
        case TokenRejected(message):
            # In the order of locks: job, run, subject.
            await run_launch.mark_not_created(
                tx, run_id, reason=None, message=message, worker=worker_name
            )
            hit_failpoint("hold.written")
            await credentials.mark_credential_refused(
                tx, claim.subject_id, version=credential.version
            )
        case HandedBack():
            await run_launch.hand_back(tx, run_id, message=_HANDED_BACK_MESSAGE, worker=worker_name)
        case Unknown(message):
            await _record_unknown(tx, worker, executor, run_id, message)
        case _:
            assert_never(outcome)
    log.info("attempt.settled", outcome=type(outcome).__name__)


async def _record_unknown(
    tx: Transaction, worker: Worker, executor: Executor, run_id: UUID, message: str
) -> None:
    if executor.is_call:
        await record_lost_call(
            tx, run_id, may_repeat=executor.resumes, message=message, worker=worker.name
        )
        return
    hit_failpoint("doubt.before")
    await run_launch.mark_unconfirmed(
        tx, run_id, cause=message, worker=worker.name, recheck_after=timedelta(seconds=1)
    )
    hit_failpoint("doubt.written")
    worker.events.reconcile.set()


async def record_created(
    tx: Transaction, worker: Worker, run_id: UUID, created: Created, *, poll_after: timedelta
) -> bool:
    """Write down what the Hub has created for a run; true if it must be killed at once."""
    return await run_launch.record_remote_id(
        tx,
        run_id,
        remote_id=created.remote_id,
        stage=created.stage,
        addresses=created.addresses,
        worker=worker.name,
        poll_after=poll_after,
        max_stage_duration=worker.settings.scheduling_deadline,
    )


async def record_lost_call(
    tx: Transaction,
    run_id: UUID,
    *,
    may_repeat: bool,
    message: str,
    worker: str,
    only_if_lapsed: bool = False,
) -> None:
    """Fail a job whose call was cut off, for nobody knows how it went; or queue the job again.

    `may_repeat` says that a new attempt is harmless: nothing was sent, or the executor resumes.
    """
    if may_repeat:
        await run_launch.mark_not_created(
            tx, run_id, reason=None, message=message, worker=worker, only_if_lapsed=only_if_lapsed
        )
    else:
        run_result = RunResult(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN, message)
        await run_end.end_call(tx, run_id, run_result, worker=worker, only_if_lapsed=only_if_lapsed)


async def _postpone_launch(
    tx: Transaction, worker: Worker, claim: ClaimedJob, outcome: RetryLater
) -> None:
    """Queue a job for another try, or fail it after the last one.

    If the Hub asked for a pause, it asked the subject: all their launches wait for that long.
    """
    is_last_try = claim.tries + 1 >= MAX_LAUNCH_TRIES
    await run_launch.mark_not_created(
        tx,
        claim.run_id,
        reason=Reason.HUB_UNAVAILABLE if is_last_try else None,
        message=outcome.message,
        worker=worker.name,
        retry_after=outcome.retry_after or backoff(claim.tries),
        pause_subject_for=outcome.retry_after or timedelta(0),
    )


async def _load_token(worker: Worker, claim: ClaimedJob) -> DecryptedToken | None:
    """Read the token of a claim that came without a usable one; there may be one by now."""
    return await retry_transaction(
        worker.database, lambda tx: credentials.load_token(tx, worker.vault, claim.subject_id)
    )


async def _open_secrets(
    worker: Worker, claim: ClaimedJob, credential: DecryptedToken
) -> Mapping[str, Secret] | None:
    """Open the secrets of a job; fail the job if the key of one was lost: nobody can open it.

    A job may be given the token of its subject. That token is stored with the run, because the
    subject may have another one by the time the log is read.
    """
    secrets: dict[str, Secret] = {}
    try:
        if claim.sealed_secrets is not None:
            secrets = sealed_secrets.open_sealed_job_secrets(
                worker.vault, claim.job_id, claim.subject_id, claim.sealed_secrets
            )
    except Unsealable:
        log.exception("secrets.unsealable")
        await retry_transaction(
            worker.database,
            lambda tx: run_launch.mark_not_created(
                tx,
                claim.run_id,
                reason=Reason.INTERNAL,
                message="Its secrets can no longer be decrypted: the server has lost their key.",
                worker=worker.name,
            ),
        )
        return None
    if names := list_token_variables(claim.spec):
        secrets |= dict.fromkeys(names, credential.token)
        await retry_transaction(
            worker.database,
            lambda tx: sealed_secrets.save_run_secrets(
                tx, worker.vault, claim.job_id, claim.run_id, claim.subject_id, secrets
            ),
        )
    return secrets


async def _check_may_send(
    worker: Worker, executor: Executor, claim: ClaimedJob, *, claimed_at: float
) -> RetryLater | None:
    """Return why the request must not be sent; none if it may be."""
    settings = worker.settings
    if executor.is_call:
        if await _may_send_call(worker, claim, claimed_at=claimed_at):
            return None
        return RetryLater("It was cancelled, or the worker was held up, before it was sent.")
    if boottime_seconds() - claimed_at > (settings.lease - settings.post_timeout).total_seconds():
        # Another worker may already be asking the Hub about this run, so it must not be created.
        return RetryLater("The worker was held up before it could send the request.")
    return None


async def _may_send_call(worker: Worker, claim: ClaimedJob, *, claimed_at: float) -> bool:
    """Tell whether a call may be sent: whether it was cancelled is asked if time has passed."""
    has_just_begun = boottime_seconds() - claimed_at <= _MAX_UNCHECKED_SECONDS
    if claim.has_begun and has_just_begun:
        return True
    async with worker.database.transaction() as tx:
        if claim.has_begun:
            return await run_launch.renew_lease(tx, claim.run_id, lease=worker.settings.lease)
        return bool(await run_launch.begin_calls(tx, [claim.run_id], worker=worker.name))


async def _write_outcome(
    worker: Worker,
    claim: ClaimedJob,
    outcome: Outcome,
    record: Callable[[Transaction], Awaitable[None]],
) -> None:
    """Write down an outcome until the database has taken it; answers of a subject together."""
    if not isinstance(outcome, Completed) or outcome.files:
        await retry_transaction(worker.database, record)
        return
    ended = (claim.run_id, outcome.run_result)
    try:
        await worker.grouped_writes.submit(
            worker.database, ("end", claim.subject_id), partial(_end_calls, worker.name), ended
        )
    except Unavailable:  # perhaps because of another of the group
        await retry_transaction(worker.database, record)
        return
    log.info("attempt.settled", outcome=type(outcome).__name__)


async def _end_calls(
    worker: str, tx: Transaction, ended: list[tuple[UUID, RunResult]]
) -> list[None]:
    hit_failpoint("answer.before")
    await run_end.end_calls(tx, dict(ended), worker=worker)
    hit_failpoint("answer.written")
    return [None] * len(ended)


async def _execute(
    worker: Worker,
    executor: Executor,
    claim: ClaimedJob,
    credential: DecryptedToken,
    secrets: Mapping[str, Secret],
    reporter: ProgressReporter,
    hand_back: asyncio.Event,
) -> Outcome:
    """Send the one request of an attempt; abort a call whose lease cannot be renewed."""
    outcome: Outcome | None = None
    request = ExecutionRequest(
        run_id=claim.run_id,
        job_id=claim.job_id,
        namespace=claim.namespace,
        spec=claim.spec,
        labels=claim.labels | _origin_labels(worker, claim),
        token=credential.token,
        secrets=secrets,
        request_timeout=worker.settings.post_timeout,
        report_progress=reporter,
        hand_back=hand_back,
    )
    async with anyio.create_task_group() as group:

        async def cancel_on_lost_lease() -> None:
            await _renew_until_lost(worker, claim)
            group.cancel_scope.cancel()

        async def cancel_on_shutdown() -> None:
            await worker.stopping.wait()
            group.cancel_scope.cancel()

        if executor.resumes:  # it hands back what is left before the engine's grace is over
            group.start_soon(cancel_on_shutdown)
        if executor.is_call:
            group.start_soon(cancel_on_lost_lease)
            group.start_soon(reporter.write_until_cancelled)
        outcome = await executor.execute(request)
        group.cancel_scope.cancel()
    return outcome or _cancelled_outcome(executor)


def _origin_labels(worker: Worker, claim: ClaimedJob) -> dict[str, str]:
    """Return the labels that say where a job comes from, as far as that is known."""
    trace = TRACEPARENT.fullmatch(claim.traceparent or "")
    origins = {
        SERVER_LABEL: worker.deployment_id,
        REQUEST_LABEL: claim.request_id,
        TRACE_LABEL: trace and trace[1],
    }
    return {label: str(origin) for label, origin in origins.items() if origin is not None}


def _cancelled_outcome(executor: Executor) -> Outcome:
    if executor.resumes:
        # Perhaps only the lease was lost. If the job was cancelled, it is not queued again.
        return Unknown("The worker stopped, the job was cancelled, or the lease was lost.")
    return Completed(RunResult(JobState.FAILED, "ABORTED", Reason.OUTCOME_UNKNOWN, "Called off."))


async def _renew_until_lost(worker: Worker, claim: ClaimedJob) -> None:
    """Renew the lease of a call; return when it has lapsed, or the job was cancelled."""
    lease = worker.settings.lease
    pause = min(lease / _RENEWALS_PER_LEASE, _MAX_RENEWAL_INTERVAL).total_seconds()
    while True:
        await anyio.sleep(pause)
        try:
            async with worker.database.transaction() as tx:
                if not await run_launch.renew_lease(tx, claim.run_id, lease=lease):
                    return
        except Unavailable:
            log.warning("lease.unrenewed")


def redact_outcome(outcome: Outcome, redactor: Redactor) -> Outcome:
    """Return the outcome without secrets that the Hub may have repeated in its message.

    A message is cut only here: where it is cut before, a part of a secret could be left.
    """

    def redact(message: str) -> str:
        return truncate(redactor.redact(message), _MAX_MESSAGE_CHARS, keeps_end=True)

    match outcome:
        case Rejected() | RetryLater() | TokenRejected() | Unknown():
            return replace(outcome, message=redact(outcome.message))
        case Completed(run_result) if run_result.message is not None:
            redacted = replace(run_result, message=redact(run_result.message))
            return replace(outcome, run_result=redacted)
        case Created() | Completed() | HandedBack():
            return outcome
