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
from schema.accounts.credentials import Lent
from schema.accounts.vault import Secret, Unsealable
from schema.artifacts import files
from schema.common.errors import Unavailable
from schema.common.failpoints import reach
from schema.db.database import Transaction
from schema.jobs import run_end, run_launch
from schema.jobs.run_end import Ending
from schema.jobs.run_launch import Claim
from schema.jobs.tables import JobState, Reason
from schema.specs.hub_job import TOKEN_VARIABLE, token_variables
from workers.artifacts.redaction import Redactor
from workers.attempts.db_retry import persist
from workers.attempts.progress import Reporter
from workers.context import Worker
from workers.executor import (
    Answered,
    Bound,
    Executor,
    Later,
    Order,
    Outcome,
    Refused,
    Report,
    TokenRefused,
    Unclear,
)
from workers.timing import MOST_TRIES, backoff, elapsed

T = TypeVar("T")

_RENEWALS: Final = 4
"""Renewals in the time of one lease; more often than every few seconds is no use."""
_OFTEN: Final = timedelta(seconds=5)

_STOPPED: Final = "The worker was stopped meanwhile."

log = structlog.stdlib.get_logger()


async def launch(worker: Worker, executor: Executor, claim: Claim, *, claimed_at: float) -> None:
    """Carry out a claimed attempt; if the worker is stopped meanwhile, hand it back."""
    lent = await persist(
        worker.database, lambda tx: credentials.lend(tx, worker.vault, claim.subject_id)
    )
    if lent is None:
        await persist(worker.database, lambda tx: _wait_for_token(tx, worker, claim))
        return
    secrets = await persist(worker.database, lambda tx: _open_secrets(tx, worker, claim, lent))
    if secrets is None:
        return
    reach("launch.lent")
    # What is true of the attempt if this is as far as it gets.
    known: Outcome = Later(_STOPPED)
    try:
        if refusal := await _hindrance(worker, executor, claim, claimed_at=claimed_at):
            known = refusal
        else:
            reach("launch.unsent")
            known = Unclear(_STOPPED)
            sent = await _send(worker, executor, claim, lent, secrets)
            known = without_secrets(sent, Redactor({**secrets, TOKEN_VARIABLE: lent.token}))
            reach("launch.sent")
        outcome = known
        await persist(
            worker.database, lambda tx: settle(tx, worker, executor, claim, lent, outcome)
        )
        reach("launch.settled")
    except anyio.get_cancelled_exc_class():
        async with worker.last_word() as tx:
            await settle(tx, worker, executor, claim, lent, known)
        raise


async def settle(
    tx: Transaction,
    worker: Worker,
    executor: Executor,
    claim: Claim,
    lent: Lent,
    outcome: Outcome,
) -> None:
    """Write down how an attempt went."""
    run_id, by = claim.run_id, worker.name
    match outcome:
        case Bound(remote_id, stage, addresses):
            reach("bind.before")
            settings = worker.settings
            if await run_launch.bind(
                tx,
                run_id,
                remote_id=remote_id,
                stage=stage,
                addresses=addresses,
                worker=by,
                look_again=settings.observe_min,
                patience=settings.scheduling_deadline,
            ):
                worker.bells.attend.ring()
            reach("bind.written")
        case Answered(ending, left):
            reach("answer.before")
            if await run_end.answer(tx, run_id, ending, worker=by):
                await files.keep(tx, claim.job_id, left)
            reach("answer.written")
        case Refused(reason, message):
            reach("refuse.before")
            await run_launch.reject(tx, run_id, reason=reason, message=message, worker=by)
            reach("refuse.written")
        case Later(message, asked):
            reach("postpone.before")
            spent = claim.tries + 1 >= MOST_TRIES
            await run_launch.reject(
                tx,
                run_id,
                reason=Reason.HUB_UNAVAILABLE if spent else None,
                message=message,
                worker=by,
                retry_after=asked or backoff(claim.tries),
                quiet_for=asked or timedelta(0),
            )
        case TokenRefused(message):
            await credentials.refused(tx, claim.subject_id, version=lent.version)
            reach("hold.written")
            await run_launch.reject(tx, run_id, reason=None, message=message, worker=by)
        case Unclear(why) if executor.is_call:
            await _lose(tx, executor, run_id, why, by)
        case Unclear(why):
            reach("doubt.before")
            await run_launch.doubt(tx, run_id, why=why, worker=by, look_after=timedelta(seconds=1))
            reach("doubt.written")
            worker.bells.attend.ring()
        case _:
            assert_never(outcome)
    log.info("attempt.settled", outcome=type(outcome).__name__)


async def _lose(tx: Transaction, executor: Executor, run_id: UUID, why: str, by: str) -> None:
    """Write down that a call was cut off: it goes on where it was left, or nobody knows."""
    if executor.resumes:
        await run_launch.reject(tx, run_id, reason=None, message=why, worker=by)
    else:
        lost = Ending(JobState.FAILED, "LOST", Reason.OUTCOME_UNKNOWN, why)
        await run_end.answer(tx, run_id, lost, worker=by)


async def _wait_for_token(tx: Transaction, worker: Worker, claim: Claim) -> None:
    await run_launch.reject(
        tx, claim.run_id, reason=None, message="No usable token.", worker=worker.name
    )


async def _open_secrets(
    tx: Transaction, worker: Worker, claim: Claim, lent: Lent
) -> Mapping[str, Secret] | None:
    """Open the secrets of a job; one whose key was lost fails, for nobody has them any more.

    The token, if the job is trusted with it, may be another when its log is read: it is kept too.
    """
    try:
        secrets = await sealed_secrets.open_job_secrets(tx, worker.vault, claim.job_id)
        if names := token_variables(claim.spec):
            secrets |= dict.fromkeys(names, lent.token)
            await sealed_secrets.save_run_secrets(
                tx, worker.vault, claim.job_id, claim.run_id, claim.subject_id, secrets
            )
    except Unsealable:
        log.exception("secrets.unsealable")
        await run_launch.reject(
            tx,
            claim.run_id,
            reason=Reason.INTERNAL,
            message="Its secrets can no longer be opened: their key has left the ring.",
            worker=worker.name,
        )
        return None
    return secrets


async def _hindrance(
    worker: Worker, executor: Executor, claim: Claim, *, claimed_at: float
) -> Outcome | None:
    """Say why nothing must be sent, if so."""
    if executor.is_call:
        async with worker.database.transaction() as tx:
            begun = await run_launch.begin(tx, claim.run_id, worker=worker.name)
        return None if begun else Later("It was called off, or held up, before it was sent.")
    settings = worker.settings
    if elapsed() - claimed_at > (settings.lease - settings.post_timeout).total_seconds():
        # Somebody may already be asking the Hub about this run: it must not come to be now.
        return Later("The worker was held up before it could send the request.")
    return None


async def _send(
    worker: Worker,
    executor: Executor,
    claim: Claim,
    lent: Lent,
    secrets: Mapping[str, Secret],
) -> Outcome:
    """Send the one request of an attempt; a call is dropped if its lease cannot be renewed."""
    outcome: Outcome | None = None
    async with anyio.create_task_group() as group:

        async def renewing() -> None:
            if not await _keep(worker, claim):
                group.cancel_scope.cancel()

        reporter = Reporter(worker, claim.run_id)

        async def stopping() -> None:
            await worker.stopping.wait()
            group.cancel_scope.cancel()

        if executor.resumes:  # it hands back what is left sooner than it is cut off
            group.start_soon(stopping)
        if executor.is_call:
            group.start_soon(renewing)
            group.start_soon(reporter.write)
        outcome = await executor.execute(
            _order(claim, lent, secrets, worker.settings.post_timeout, reporter)
        )
        group.cancel_scope.cancel()
    return outcome or _called_off(executor)


def _called_off(executor: Executor) -> Outcome:
    if executor.resumes:  # it may only have lost its lease; a job that was called off is not queued
        return Unclear("Stopped, called off, or its lease was lost.")
    return Answered(Ending(JobState.FAILED, "ABORTED", Reason.OUTCOME_UNKNOWN, "Called off."))


async def _keep(worker: Worker, claim: Claim) -> bool:
    """Renew until the lease cannot be renewed."""
    lease = worker.settings.lease
    pause = min(lease / _RENEWALS, _OFTEN).total_seconds()
    while True:
        await anyio.sleep(pause)
        try:
            async with worker.database.transaction() as tx:
                if not await run_launch.renew(tx, claim.run_id, lease=lease):
                    return False
        except Unavailable:
            log.warning("lease.unrenewed")


def _order(
    claim: Claim, lent: Lent, secrets: Mapping[str, Secret], within: timedelta, report: Report
) -> Order:
    return Order(
        run_id=claim.run_id,
        job_id=claim.job_id,
        namespace=claim.namespace,
        spec=claim.spec,
        labels=claim.labels,
        token=lent.token,
        secrets=secrets,
        within=within,
        report=report,
    )


def without_secrets(outcome: Outcome, redactor: Redactor) -> Outcome:
    """Return an outcome that repeats no secret, whatever the Hub said to it."""
    match outcome:
        case Refused() | Later() | TokenRefused():
            return replace(outcome, message=redactor.text(outcome.message))
        case Unclear():
            return replace(outcome, why=redactor.text(outcome.why))
        case Answered(ending) if ending.message is not None:
            said = replace(ending, message=redactor.text(ending.message))
            return replace(outcome, ending=said)
        case Bound() | Answered():
            return outcome
