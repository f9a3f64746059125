"""The delay between a committed change and the answers to all who wait for it.

    python3 -m tests.bench.scenarios.wait_latency [--waiters N] [--jobs N]

N calls wait in one service process for one of a few jobs each, with one connection for
notifications. Every job is changed once, one after the other, as quickly as they commit. The time
of a waiter is from before the transition begins to after the read that the notification caused,
which it shares with the others of that job, as the service does. It prints JSON: both percentiles,
the connections for notifications, the memory of a waiter, and how much is read a second while
nothing changes.
"""

import argparse
import gc
import json
import random
import statistics
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

import anyio
import psutil

from schema.accounts.row_security import DatabaseRole
from schema.db import revisions
from schema.db.database import Database, Transaction
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.monitoring.changes import JobVersion
from schema.jobs.tables import JobKind
from schema.messaging import change_notifications
from schema.messaging.redis import open_redis
from service.runtime.watch import Watch, open_watch
from tests.support.database.servers import run_postgres, run_valkey
from tests.support.database.statement_counter import CountingTenantDatabase

_SUBJECT_COUNT: Final = 20
_IDLE_SECONDS: Final = 3.0


async def queue_jobs(database: Database, count: int) -> dict[UUID, str]:
    """Queue jobs of several subjects; return the subject of each."""
    jobs: dict[UUID, str] = {}
    async with database.transaction() as tx:
        for number in range(_SUBJECT_COUNT):
            await tx.execute("INSERT INTO subject (id, name) VALUES ($1, $1)", f"s{number}")
        for number in range(count):
            subject = f"s{number % _SUBJECT_COUNT}"
            job = await lifecycle.submit_job(
                tx,
                subject_id=subject,
                kind=JobKind.HUB_JOB,
                namespace=subject,
                title="a job",
                spec={"command": ["true"], "number": number},
                labels={},
                max_open_jobs=count,
            )
            jobs[job.id] = subject
    return jobs


class Waiters:
    """Calls that wait for a job each, and how long after its change each had its answer."""

    def __init__(self, watch: Watch, database: CountingTenantDatabase, count: int) -> None:
        self._watch = watch
        self._database = database
        self._count = count
        self._waiting = 0
        self.all_waiting = anyio.Event()
        self.changed_at: dict[UUID, float] = {}
        self.durations: list[float] = []
        """In seconds."""
        self.all_answered = anyio.Event()

    async def wait(self, job_id: UUID, subject_id: str) -> None:
        """Wait for a job, and read it when it has changed."""
        with self._watch.watch_jobs(subject_id, [job_id]) as changed:
            changed.set_seen({job_id: JobVersion(1, None)})
            self._waiting += 1
            if self._waiting == self._count:
                self.all_waiting.set()
            await changed.wait_for_change()
            await self._watch.reads.read(
                subject_id,
                job_id,
                partial(self._open_transaction, subject_id),
                lambda tx: job_queries.get_job_statuses(tx, subject_id, [job_id]),
            )
            self.durations.append(time.perf_counter() - self.changed_at[job_id])
            if len(self.durations) == self._count:
                self.all_answered.set()

    @asynccontextmanager
    async def _open_transaction(self, subject_id: str) -> AsyncGenerator[Transaction]:
        async with self._database.as_subject(subject_id) as (tx, _):
            yield tx


async def measure_latency(
    postgres: str, valkey: str, *, waiter_count: int, job_count: int
) -> dict[str, float]:
    """Let everybody wait, change every job, and return what was measured."""
    measures: dict[str, float] = {}
    async with (
        change_notifications.open_change_publisher(valkey) as sender,
        Database(
            postgres,
            application_name="mover",
            role=DatabaseRole.WORKER,
            on_job_changes=sender.enqueue,
        ) as moving,
        Database(postgres, application_name="service", role=DatabaseRole.TENANT) as database,
        open_watch(valkey, tenant_database := CountingTenantDatabase(database)) as watch,
        anyio.create_task_group() as calls,
    ):
        jobs = await queue_jobs(moving, job_count)
        waiters = Waiters(watch, tenant_database, waiter_count)
        memory_before = _read_memory()
        job_ids = list(jobs)
        for number in range(waiter_count):
            job_id = job_ids[number % job_count]
            calls.start_soon(waiters.wait, job_id, jobs[job_id])
        await waiters.all_waiting.wait()
        memory = _read_memory() - memory_before
        measures["kilobytes_per_waiter"] = memory / 1000 / waiter_count
        await anyio.sleep(1)  # until their first looks are over
        before = tenant_database.transaction_count
        await anyio.sleep(_IDLE_SECONDS)  # the stretch of time that is measured
        reads = tenant_database.transaction_count - before
        measures["idle_transactions_per_second"] = reads / _IDLE_SECONDS
        measures["connections"] = await _count_subscribers(valkey)
        for job_id in random.sample(job_ids, job_count):
            waiters.changed_at[job_id] = time.perf_counter()
            async with moving.transaction() as tx:
                await lifecycle.cancel_job(tx, job_id, subject_id=jobs[job_id])
        await waiters.all_answered.wait()
        cuts = statistics.quantiles(waiters.durations, n=20)
        measures |= {"change_p50_ms": cuts[9] * 1000, "change_p95_ms": cuts[18] * 1000}
        calls.cancel_scope.cancel()
    return measures


def _read_memory() -> int:
    """Return how many bytes of memory this process has, without what it could give back."""
    gc.collect()
    resident: int = psutil.Process().memory_info().rss
    return resident


async def _count_subscribers(valkey: str) -> int:
    """Return how many connections there are that wait for notifications."""
    async with open_redis(valkey) as client:
        untyped: Any = client  # its stubs are half of it
        connections: list[dict[str, Any]] = await untyped.client_list(_type="pubsub")
    return len(connections)


def main() -> None:
    """Start servers, measure, stop them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--waiters", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=200)
    arguments = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        run_postgres(Path(folder) / "postgres") as postgres,
        run_valkey(Path(folder) / "valkey") as valkey,
    ):
        revisions.upgrade_to_revision(postgres)

        async def run() -> dict[str, float]:
            return await measure_latency(
                postgres, valkey, waiter_count=arguments.waiters, job_count=arguments.jobs
            )

        sys.stdout.write(f"{json.dumps(anyio.run(run))}\n")


if __name__ == "__main__":
    main()
