"""Ours under the load of the queues: `python -m tests.bench.holdfast_queue SUBJECTS LOAD`.

A no-op executor stands in for the Hub. All else is the product: the row of the job, its events, its
idempotency key and its reservation in one transaction; the claim, the credential, the secrets, the
lease and the answer.
"""

import asyncio
import base64
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Final

import anyio
import structlog
import uvloop
from arq.worker import Worker as ArqWorker
from redis.exceptions import RedisError

from schema.accounts.row_security import DatabaseRole
from schema.accounts.vault import Vault
from schema.billing.budgets import Rate
from schema.common import ids
from schema.db import revisions
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.run_end import RunResult
from schema.jobs.tables import JobState
from schema.messaging.wakeups import WakeupSender, open_wakeup_sender
from schema.settings import Settings
from tests.bench.queue_load import SINK, LoadSize, QueueResult, measure
from tests.bench.scenarios.servers import lend_tokens
from workers.context import Worker
from workers.executor import Completed, ExecutionRequest
from workers.hub.client import open_hub_jobs_client
from workers.loops import engine
from workers.worker import arq_settings, receive_wakeups

_SLOTS: Final = 32
_CONNECTIONS: Final = 16
_POLL_SECONDS: Final = 0.005
_RATE: Final = Rate(price_micro_usd=1, timeout=timedelta(minutes=1))
_NO_HUB: Final = "http://127.0.0.1:9"
"""The no-op executor asks no Hub."""
_MAX_OPEN_JOBS: Final = 1_000_000


class NoopExecutor:
    """Carries out nothing."""

    kind = "noop"
    is_call = True
    resumes = False

    def __init__(self, slots: int = _SLOTS) -> None:
        self.slots = slots

    async def execute(self, request: ExecutionRequest) -> Completed:
        """Answer at once."""
        SINK.hit(request.spec.get("key"))
        return Completed(RunResult(JobState.SUCCEEDED, "DONE", result={"ok": True}))


class HoldfastQueue:
    """The product as a queue of no-op jobs of a few subjects."""

    name = "holdfast"
    drains_while_submitting = False

    def __init__(
        self,
        worker: Worker,
        service_database: Database,
        wakeups: WakeupSender,
        subjects: list[str],
    ) -> None:
        self._worker = worker
        self._service_database = service_database
        self._wakeups = wakeups
        self._subjects = subjects
        self._submitted = 0

    async def submit(self, key: str | None) -> None:
        """Submit a job as the service does, and wake a worker after the commit."""
        number = self._submitted = self._submitted + 1
        subject = self._subjects[number % len(self._subjects)]
        job_id = ids.new_id()

        def wake_worker() -> None:
            if key is not None:  # where nobody waits, a wake-up would only measure Redis
                handle = ids.format_handle(ids.HandleKind.JOB, job_id)
                self._wakeups.start_sending(handle, NoopExecutor.kind)

        job = await lifecycle.commit_job(
            self._service_database,
            subject,
            wake_worker,
            job_id=job_id,
            subject_id=subject,
            kind=NoopExecutor.kind,
            namespace=subject,
            title="a job",
            spec={"key": key, "number": number},
            labels={},
            max_open_jobs=_MAX_OPEN_JOBS,
            idempotency_key=f"key-{number}",
            rate=_RATE,
        )
        if job is None:
            raise RuntimeError("a submission was refused")

    async def drain(self, runs: int) -> None:
        """Run one worker until every job is over in the database."""
        stop = anyio.Event()
        task = asyncio.create_task(engine.run_loops(self._worker, stop))
        engine.wake_loops(self._worker)
        while not task.done() and (SINK.runs < runs or await self._count_open_jobs()):  # noqa: ASYNC110
            await asyncio.sleep(_POLL_SECONDS)  # between two looks at the rows
        stop.set()
        await task

    @asynccontextmanager
    async def run_worker(self) -> AsyncGenerator[None]:
        """Run one worker with its wake-ups."""
        stop = anyio.Event()
        loops = asyncio.create_task(engine.run_loops(self._worker, stop))
        arq_worker = ArqWorker(**arq_settings(self._worker.settings, self._worker))
        wakeups = asyncio.create_task(arq_worker.async_run())
        listening = asyncio.create_task(receive_wakeups(self._worker))
        try:
            yield
        finally:
            wakeups.cancel()
            listening.cancel()
            await asyncio.wait([wakeups, listening])
            with suppress(RedisError, OSError, asyncio.CancelledError):  # of its own tasks
                await arq_worker.close()
            stop.set()
            await loops

    async def _count_open_jobs(self) -> int:
        async with self._worker.database.transaction() as tx:
            count: int = await tx.fetchval("SELECT count(*) FROM job WHERE finished_at IS NULL")
        return count


async def run_holdfast(subject_count: int, size: LoadSize) -> QueueResult:
    """Migrate an empty database, and put the load on it."""
    database_url, redis_url = os.environ["BENCH_DATABASE_URL"], os.environ["BENCH_REDIS_URL"]
    await asyncio.to_thread(revisions.upgrade_to_revision, database_url)
    keys = f"1:{base64.b64encode(os.urandom(32)).decode()}"
    settings = Settings.model_validate(
        {"HOLDFAST_DATABASE_URL": database_url, "HOLDFAST_REDIS_URL": redis_url, "vault_keys": keys}
    )
    vault = Vault.from_key_ring(keys)
    subjects = [f"subject-{number}" for number in range(subject_count)]
    async with (
        _open_database(database_url, DatabaseRole.WORKER) as worker_database,
        _open_database(database_url, DatabaseRole.TENANT) as service_database,
        open_wakeup_sender(redis_url) as wakeups,
        open_hub_jobs_client(_NO_HUB, _NO_HUB) as hub,
    ):
        await lend_tokens(worker_database, vault, subjects)
        worker = Worker(
            name="bench",
            settings=settings,
            database=worker_database,
            vault=vault,
            hub=hub,
            executors={NoopExecutor.kind: NoopExecutor(size.slots or _SLOTS)},
        )
        return await measure(HoldfastQueue(worker, service_database, wakeups, subjects), size)


def _open_database(url: str, role: DatabaseRole) -> Database:
    return Database(url, application_name="bench", role=role, max_connections=_CONNECTIONS)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    _, subjects, load = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as a worker does
        runner.run(run_holdfast(int(subjects), LoadSize(**json.loads(load)))).print()
