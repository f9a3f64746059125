"""How long after a change is committed does whoever waits for it have the job as it is now?

    python3 -m tests.bench.waiters [--waiters N] [--changes N]

N people's calls wait in one service process for a job each, with one connection for hints. Jobs are
moved one after the other; the time is from before the move is begun to after the reading that the
hint caused. It prints both percentiles, and what is read a second while nothing changes.
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

from schema.accounts.row_security import Role
from schema.db import revisions
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs import queries as job_queries
from schema.jobs.changes import Mark
from schema.jobs.tables import JobKind
from schema.messaging import change_notifications
from service.runtime.job_watch import waiting
from tests.servers import postgres_server, valkey_server
from tests.service.counting import Counting

_SUBJECTS: Final = 20
_IDLE: Final = 3.0


async def make(database: Database, count: int) -> dict[UUID, str]:
    """Queue jobs of several subjects."""
    jobs: dict[UUID, str] = {}
    async with database.transaction() as tx:
        for number in range(_SUBJECTS):
            await tx.execute("INSERT INTO subject (id, name) VALUES ($1, $1)", f"s{number}")
        for number in range(count):
            subject = f"s{number % _SUBJECTS}"
            job = await lifecycle.submit(
                tx,
                subject_id=subject,
                kind=JobKind.HUB_JOB,
                namespace=subject,
                title="a job",
                spec={"command": ["true"], "number": number},
                labels={},
                most_open=count,
            )
            jobs[job.id] = subject
    return jobs


async def measure(postgres: str, valkey: str, *, waiters: int, changes: int) -> None:
    """Let everybody wait, move some jobs, and print."""
    began: dict[UUID, float] = {}
    took: list[float] = []
    answered = anyio.Event()
    idle = 0.0
    async with (
        change_notifications.hints(valkey) as sender,
        Database(postgres, application="mover", role=Role.WORKER, tell=sender.tell) as moving,
        Database(postgres, application="service", role=Role.TENANT) as database,
        waiting(valkey, ground := Counting(database)) as registry,
        anyio.create_task_group() as calls,
    ):
        jobs = await make(moving, waiters)

        async def wait(job_id: UUID, subject: str) -> None:
            with registry.on(subject, [job_id]) as changed:
                changed.saw({job_id: Mark(1, None)})
                await changed.next()
                async with ground.acting_for(subject) as (tx, _):
                    await job_queries.statuses(tx, subject, [job_id])
                took.append(time.perf_counter() - began[job_id])
                if len(took) == changes:
                    answered.set()

        for job_id, subject in jobs.items():
            calls.start_soon(wait, job_id, subject)
        await anyio.sleep(1)  # until everybody waits, and their first looks are over
        before = ground.transactions
        await anyio.sleep(_IDLE)  # the stretch of time that is measured
        idle = (ground.transactions - before) / _IDLE
        for job_id in random.sample(sorted(jobs), changes):
            began[job_id] = time.perf_counter()
            async with moving.transaction() as tx:
                await lifecycle.cancel(tx, job_id, subject_id=jobs[job_id])
        await answered.wait()
        calls.cancel_scope.cancel()
    cuts = statistics.quantiles(took, n=20)
    Console().print(
        f"{waiters} waiters, {changes} changes: p50 {cuts[9] * 1000:.0f} ms, "
        f"p95 {cuts[18] * 1000:.0f} ms; idle: {idle:.1f} statements a second"
    )


def main() -> None:
    """Start servers, measure, stop them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--waiters", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=200)
    given = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        postgres_server(Path(folder) / "postgres") as postgres,
        valkey_server(Path(folder) / "valkey") as valkey,
    ):
        revisions.upgrade(postgres)

        async def run() -> None:
            await measure(postgres, valkey, waiters=given.waiters, changes=given.changes)

        anyio.run(run)


if __name__ == "__main__":
    main()
