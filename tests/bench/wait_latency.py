"""A measurement of the delay between a committed change and the answer to who waits for it.

    python3 -m tests.bench.wait_latency [--waiters N] [--changes N]

N people's calls wait in one service process for a job each, with one connection for
notifications. Jobs are changed one after the other; the time is from before the transition begins
to after the read that the notification caused. It prints both percentiles, and how much is read a
second while nothing changes.
"""

import argparse
import random
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

import anyio
from rich.console import Console

from schema.accounts.row_security import DatabaseRole
from schema.db import revisions
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.changes import JobVersion
from schema.jobs.tables import JobKind
from schema.messaging import change_notifications
from service.runtime.watch import open_watch
from tests.support.database.servers import run_postgres, run_valkey
from tests.support.database.statement_counter import CountingTenantDatabase

_SUBJECT_COUNT: Final = 20
_IDLE_SECONDS: Final = 3.0


async def queue_jobs(database: Database, count: int) -> dict[UUID, str]:
    """Queue jobs of several subjects."""
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


async def measure_latency(
    postgres: str, valkey: str, *, waiter_count: int, change_count: int
) -> None:
    """Let everybody wait, move some jobs, and print."""
    began: dict[UUID, float] = {}
    took: list[float] = []
    answered = anyio.Event()
    idle = 0.0
    async with (
        change_notifications.open_change_publisher(valkey) as sender,
        Database(
            postgres,
            application_name="mover",
            role=DatabaseRole.WORKER,
            on_job_changes=sender.enqueue,
        ) as moving,
        Database(postgres, application_name="service", role=DatabaseRole.TENANT) as database,
        open_watch(valkey, tenant_database := CountingTenantDatabase(database)) as registry,
        anyio.create_task_group() as calls,
    ):
        jobs = await queue_jobs(moving, waiter_count)

        async def wait(job_id: UUID, subject: str) -> None:
            with registry.watch_jobs(subject, [job_id]) as changed:
                changed.set_seen({job_id: JobVersion(1, None)})
                await changed.wait_for_change()
                async with tenant_database.as_subject(subject) as (tx, _):
                    await job_queries.get_job_statuses(tx, subject, [job_id])
                took.append(time.perf_counter() - began[job_id])
                if len(took) == change_count:
                    answered.set()

        for job_id, subject in jobs.items():
            calls.start_soon(wait, job_id, subject)
        await anyio.sleep(1)  # until everybody waits, and their first looks are over
        before = tenant_database.transaction_count
        await anyio.sleep(_IDLE_SECONDS)  # the stretch of time that is measured
        idle = (tenant_database.transaction_count - before) / _IDLE_SECONDS
        for job_id in random.sample(sorted(jobs), change_count):
            began[job_id] = time.perf_counter()
            async with moving.transaction() as tx:
                await lifecycle.cancel_job(tx, job_id, subject_id=jobs[job_id])
        await answered.wait()
        calls.cancel_scope.cancel()
    cuts = statistics.quantiles(took, n=20)
    Console().print(
        f"{waiter_count} waiters, {change_count} changes: p50 {cuts[9] * 1000:.0f} ms, "
        f"p95 {cuts[18] * 1000:.0f} ms; idle: {idle:.1f} statements a second"
    )


def main() -> None:
    """Start servers, measure, stop them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--waiters", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=200)
    arguments = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        run_postgres(Path(folder) / "postgres") as postgres,
        run_valkey(Path(folder) / "valkey") as valkey,
    ):
        revisions.upgrade_to_revision(postgres)

        async def run() -> None:
            await measure_latency(
                postgres, valkey, waiter_count=arguments.waiters, change_count=arguments.changes
            )

        anyio.run(run)


if __name__ == "__main__":
    main()
