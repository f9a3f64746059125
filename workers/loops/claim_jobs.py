"""The claim loop: take as many due jobs as there are free hands, and launch each."""

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
    """The launches one worker has under way, counted by kind."""

    def __init__(self, worker: Worker, tasks: TaskGroup) -> None:
        self._worker = worker
        self._tasks = tasks
        self._free_slots = {kind: executor.slots for kind, executor in worker.executors.items()}

    async def claim_due_jobs(self) -> bool:
        """Take due jobs; true if there may be more that a hand is free for."""
        more = [
            await self._claim_for_executor(executor) for executor in self._worker.executors.values()
        ]
        return any(more)

    async def _claim_for_executor(self, executor: Executor) -> bool:
        free = self._free_slots[executor.kind]
        if free == 0:
            return False
        worker, settings = self._worker, self._worker.settings
        # Measured before the claim commits: the lease cannot have lapsed later than we think.
        claimed_at = boottime_seconds()
        hit_failpoint("claim.before")
        async with worker.database.transaction() as tx:
            claims = await run_launch.claim(
                tx,
                executor.kind,
                limit=free,
                worker=worker.name,
                lease=settings.lease,
                settle_window=settings.settle,
            )
            if claims:
                hit_failpoint("claim.written")
        if claims:
            hit_failpoint("claim.committed")
        self._free_slots[executor.kind] -= len(claims)
        for claim in claims:
            self._tasks.start_soon(self._run_attempt, executor, claim, claimed_at)
        return len(claims) == free

    async def _run_attempt(self, executor: Executor, claim: ClaimedJob, claimed_at: float) -> None:
        job = ids.format_handle(ids.HandleKind.JOB, claim.job_id)
        with structlog.contextvars.bound_contextvars(job=job, attempt=claim.attempt):
            try:
                await run_attempt(self._worker, executor, claim, claimed_at=claimed_at)
            except Exception:  # one attempt must not take the others down; its lease will lapse
                log.exception("attempt.broken")
            finally:
                self._free_slots[executor.kind] += 1
                self._worker.events.claim.set()
