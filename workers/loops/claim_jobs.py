"""The claim loop: takes as many due jobs as there are free slots, and runs an attempt of each.

Where all slots are taken and others wait, an attempt that resumes hands its slot back after a turn.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from schema.common import ids
from schema.common.errors import InDoubt, Unavailable
from schema.common.failpoints import hit_failpoint
from schema.db.database import Transaction
from schema.jobs import run_launch
from schema.jobs.run_launch import ClaimedJob
from workers.attempts.db_retry import retry_transaction
from workers.attempts.run import run_attempt
from workers.attempts.spans import trace_attempt
from workers.context import Worker
from workers.executor import Executor
from workers.timing import boottime_seconds

_UNSENT_MESSAGE: Final = "It was interrupted while it was claimed; nothing was sent."

log = structlog.stdlib.get_logger()


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """An attempt that is under way, and holds a slot."""

    claim: ClaimedJob
    claimed_at: float
    """By `boottime_seconds`."""
    hand_back: asyncio.Event = field(default_factory=asyncio.Event)
    """Asks an executor that resumes to stop, because others wait for the slot."""


class ClaimLoop:
    """The attempts that one worker has under way, by kind."""

    def __init__(self, worker: Worker, tasks: TaskGroup) -> None:
        self._worker = worker
        self._tasks = tasks
        self._held_slots = worker.activity.held_slots
        self._attempts = {kind: set[_Attempt]() for kind in worker.executors}

    async def claim_due_jobs(self) -> bool:
        """Claim due jobs; true if there may be more for which a slot is free.

        The kinds are claimed one after the other, first those that a wake-up was for.
        """
        woken_kinds = self._worker.activity.woken_kinds.copy()
        self._worker.activity.woken_kinds.clear()
        executors = sorted(
            self._worker.executors.values(), key=lambda each: each.kind not in woken_kinds
        )
        results = [await self._claim_for_executor(executor) for executor in executors]
        return any(results)

    async def _claim_for_executor(self, executor: Executor) -> bool:
        held_slots = self._held_slots[executor.kind]
        free_slots = executor.slots - held_slots.total()
        if free_slots == 0:
            if executor.resumes:
                await self._ask_for_slot(executor.kind)
            return False
        # Read before the claim commits, so that we never believe the lease to last longer than it
        # does.
        claimed_at = boottime_seconds()
        hit_failpoint("claim.before")
        claims = await self._claim(executor, limit=free_slots)
        if claims:
            hit_failpoint("claim.committed")
        held_slots.update(claim.subject_id for claim in claims)
        for claim in claims:
            attempt = _Attempt(claim, claimed_at)
            self._attempts[executor.kind].add(attempt)
            self._tasks.start_soon(self._run_attempt, executor, attempt)
        return len(claims) == free_slots

    async def _claim(self, executor: Executor, *, limit: int) -> list[ClaimedJob]:
        worker, settings = self._worker, self._worker.settings
        claims: list[ClaimedJob] = []
        try:
            async with worker.database.transaction() as tx:
                claims = await run_launch.claim(
                    tx,
                    executor.kind,
                    limit=limit,
                    worker=worker.name,
                    lease=settings.lease,
                    settle_window=settings.settle,
                    held_slots=self._held_slots[executor.kind],
                )
                if executor.is_call:
                    claims = await self._begin_calls(tx, claims)
                if claims:
                    hit_failpoint("claim.written")
        except InDoubt:
            # Begun as they may be, nothing was sent of them: another worker could not know that.
            for claim in claims:
                self._tasks.start_soon(self._hand_back, claim)
            raise
        except anyio.get_cancelled_exc_class():
            for claim in claims:
                await worker.hand_back(partial(_queue_again, worker, claim))
            raise
        return claims

    async def _begin_calls(self, tx: Transaction, claims: list[ClaimedJob]) -> list[ClaimedJob]:
        """Begin the calls of claims with a token: they are sent at once, as soon as it commits."""
        ready = [claim.run_id for claim in claims if claim.sealed_token is not None]
        begun = await run_launch.begin_calls(tx, ready, worker=self._worker.name) if ready else ()
        return [replace(claim, has_begun=claim.run_id in begun) for claim in claims]

    async def _hand_back(self, claim: ClaimedJob) -> None:
        """Queue a job again whose claim may have been committed, once the database is back."""
        worker = self._worker
        write = partial(_queue_again, worker, claim)
        try:
            await retry_transaction(worker.database, write)
        except anyio.get_cancelled_exc_class():
            await worker.hand_back(write)
            raise
        except Exception:  # it must not end the loops; the lease of the job will lapse
            log.exception("claim.broken")

    async def _ask_for_slot(self, kind: str) -> None:
        """Ask the longest attempt of whoever holds most to stop, if somebody waits who holds less.

        One at a time: its slot is free before the next one is asked.
        """
        attempts, held_slots = self._attempts[kind], self._held_slots[kind]
        longest_start = boottime_seconds() - self._worker.settings.turn.total_seconds()
        long_attempts = [each for each in attempts if each.claimed_at <= longest_start]
        if not long_attempts or any(attempt.hand_back.is_set() for attempt in attempts):
            return
        async with self._worker.database.transaction() as tx:
            waiting = await run_launch.find_waiting_subjects(tx, kind)
        chosen = min(
            long_attempts, key=lambda each: (-held_slots[each.claim.subject_id], each.claimed_at)
        )
        if any(held_slots[subject] < held_slots[chosen.claim.subject_id] for subject in waiting):
            chosen.hand_back.set()

    async def _run_attempt(self, executor: Executor, attempt: _Attempt) -> None:
        claim = attempt.claim
        job = ids.format_handle(ids.HandleKind.JOB, claim.job_id)
        request = {} if claim.request_id is None else {"request_id": claim.request_id}
        with (
            structlog.contextvars.bound_contextvars(job=job, attempt=claim.attempt, **request),
            trace_attempt(self._worker.tracer, executor.kind, claim),
        ):
            try:
                await run_attempt(
                    self._worker,
                    executor,
                    claim,
                    claimed_at=attempt.claimed_at,
                    hand_back=attempt.hand_back,
                )
            except Unavailable as error:  # its lease will lapse
                log.warning("attempt.interrupted", error=str(error))
            except Exception:  # one attempt must not end the others; its lease will lapse
                log.exception("attempt.broken")
            finally:
                self._attempts[executor.kind].remove(attempt)
                self._held_slots[executor.kind] -= Counter([claim.subject_id])
                self._worker.events.claim.set()


async def _queue_again(worker: Worker, claim: ClaimedJob, tx: Transaction) -> None:
    await run_launch.mark_not_created(
        tx, claim.run_id, reason=None, message=_UNSENT_MESSAGE, worker=worker.name
    )
