"""The claim loop: take as many due jobs as there are free hands, and launch each."""

import structlog
from anyio.abc import TaskGroup

from schema.common import ids
from schema.common.failpoints import reach
from schema.jobs import run_launch
from schema.jobs.run_launch import Claim
from workers.attempts.run import launch
from workers.context import Worker
from workers.executor import Executor
from workers.timing import elapsed

log = structlog.stdlib.get_logger()


class Hands:
    """The launches one worker has under way, counted by kind."""

    def __init__(self, worker: Worker, tasks: TaskGroup) -> None:
        self._worker = worker
        self._tasks = tasks
        self._free = {kind: executor.slots for kind, executor in worker.executors.items()}

    async def claim(self) -> bool:
        """Take due jobs; true if there may be more that a hand is free for."""
        more = [await self._claim(executor) for executor in self._worker.executors.values()]
        return any(more)

    async def _claim(self, executor: Executor) -> bool:
        free = self._free[executor.kind]
        if free == 0:
            return False
        worker, settings = self._worker, self._worker.settings
        # Measured before the claim commits: the lease cannot have lapsed later than we think.
        claimed_at = elapsed()
        reach("claim.before")
        async with worker.database.transaction() as tx:
            claims = await run_launch.claim(
                tx,
                executor.kind,
                limit=free,
                worker=worker.name,
                lease=settings.lease,
                settle=settings.settle,
            )
            if claims:
                reach("claim.written")
        if claims:
            reach("claim.committed")
        self._free[executor.kind] -= len(claims)
        for claim in claims:
            self._tasks.start_soon(self._launch, executor, claim, claimed_at)
        return len(claims) == free

    async def _launch(self, executor: Executor, claim: Claim, claimed_at: float) -> None:
        job = ids.write(ids.Kind.JOB, claim.job_id)
        with structlog.contextvars.bound_contextvars(job=job, attempt=claim.attempt):
            try:
                await launch(self._worker, executor, claim, claimed_at=claimed_at)
            except Exception:  # one attempt must not take the others down; its lease will lapse
                log.exception("attempt.broken")
            finally:
                self._free[executor.kind] += 1
                self._worker.bells.claim.ring()
