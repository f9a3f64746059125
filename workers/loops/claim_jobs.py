"""The claim loop: takes as many due jobs as there are free slots, and runs an attempt of each."""

from collections import Counter

import structlog
from anyio.abc import TaskGroup

from schema.common import ids
from schema.common.failpoints import hit_failpoint
from schema.jobs import run_launch
from schema.jobs.run_launch import ClaimedJob
from workers.attempts.run import run_attempt
from workers.context import Worker
from workers.executor import Executor
from workers.timing import boottime_seconds

log = structlog.stdlib.get_logger()


class ClaimLoop:
    """The attempts that one worker has under way, counted by kind."""

    def __init__(self, worker: Worker, tasks: TaskGroup) -> None:
        self._worker = worker
        self._tasks = tasks
        self._held_slots = worker.activity.held_slots

    async def claim_due_jobs(self) -> bool:
        """Claim due jobs; true if there may be more for which a slot is free."""
        results = [
            await self._claim_for_executor(executor) for executor in self._worker.executors.values()
        ]
        return any(results)

    async def _claim_for_executor(self, executor: Executor) -> bool:
        held_slots = self._held_slots[executor.kind]
        free_slots = executor.slots - held_slots.total()
        if free_slots == 0:
            return False
        worker, settings = self._worker, self._worker.settings
        # Read before the claim commits, so that we never believe the lease to last longer than it
        # does.
        claimed_at = boottime_seconds()
        hit_failpoint("claim.before")
        async with worker.database.transaction() as tx:
            claims = await run_launch.claim(
                tx,
                executor.kind,
                limit=free_slots,
                worker=worker.name,
                lease=settings.lease,
                settle_window=settings.settle,
                held_slots=held_slots,
            )
            if claims:
                hit_failpoint("claim.written")
        if claims:
            hit_failpoint("claim.committed")
        held_slots.update(claim.subject_id for claim in claims)
        for claim in claims:
            self._tasks.start_soon(self._run_attempt, executor, claim, claimed_at)
        return len(claims) == free_slots

    async def _run_attempt(self, executor: Executor, claim: ClaimedJob, claimed_at: float) -> None:
        job = ids.format_handle(ids.HandleKind.JOB, claim.job_id)
        with structlog.contextvars.bound_contextvars(job=job, attempt=claim.attempt):
            try:
                await run_attempt(self._worker, executor, claim, claimed_at=claimed_at)
            except Exception:  # one attempt must not end the others; its lease will lapse
                log.exception("attempt.broken")
            finally:
                self._held_slots[executor.kind] -= Counter([claim.subject_id])
                self._worker.events.claim.set()
