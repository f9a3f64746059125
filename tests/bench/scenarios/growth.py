"""The scenario of growth: the same reads and claims beside few and beside many finished jobs.

All databases are on one server. Every operation is measured in one and then in the next, and the
order is reversed in every other round.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Final
from uuid import UUID

from schema.accounts.row_security import DatabaseRole
from schema.db.database import Database
from schema.jobs import lifecycle, run_launch
from schema.jobs import queries as job_queries
from schema.jobs.queries import JobFilter
from schema.jobs.tables import Reason
from service.database import TenantDatabase
from tests.bench.comparison import Rounds, collect
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.filled_tables import (
    EVENTS_PER_JOB,
    RARE_JOBS,
    RARE_LABEL,
    fill_finished_jobs,
)
from tests.bench.scenarios.servers import BenchServers, run_servers

_FINISHED_JOBS: Final = {
    Size.TINY: (1000, 10_000),
    Size.QUICK: (1000, 100_000),
    Size.FULL: (1000, 10_000, 100_000, 1_000_000),
}
"""Of each database; the largest of all has ten million events."""
_CALLS: Final = {Size.TINY: 5, Size.QUICK: 200, Size.FULL: 500}
_MAX_SECONDS: Final = 4.0
"""After so long an operation has shown what it takes, however few calls that were."""
_SUBJECT: Final = "bench"
_READ_JOBS: Final = 10_000
"""At most so many different jobs have their status read."""
_MAX_OPEN_JOBS: Final = 1000
_KIND: Final = "noop"
"""Of the jobs that are claimed; no executor has it."""
_LIST_LIMIT: Final = 20
_AGE: Final = timedelta(days=20)
_LEASE: Final = timedelta(seconds=90)

_CHOOSE_JOBS: Final = "SELECT id FROM job ORDER BY random() LIMIT $1"
_ANY_JOB: Final = JobFilter(workspace_id=None, states=None, kind=None, labels={})
_LABELLED_JOB: Final = JobFilter(workspace_id=None, states=None, kind=None, labels=RARE_LABEL)


class FilledDatabase:
    """A database with finished jobs of one subject."""

    def __init__(self, tenant: TenantDatabase, worker: Database, job_ids: list[UUID]) -> None:
        self._tenant = tenant
        self._worker = worker
        self._job_ids = job_ids
        self._submitted = 0

    async def measure(self, calls: int) -> dict[str, float]:
        """Measure every operation; each result is the median of its calls, in milliseconds."""
        operations: dict[str, Callable[[], Awaitable[float]]] = {
            "job_status_p50_ms": self._read_status,
            "list_jobs_p50_ms": lambda: self._list(_ANY_JOB, _LIST_LIMIT),
            "list_by_label_p50_ms": lambda: self._list(_LABELLED_JOB, RARE_JOBS),
            "claim_p50_ms": self._claim,
        }
        return {name: await _find_median(once, calls) for name, once in operations.items()}

    async def _read_status(self) -> float:
        job_id = random.choice(self._job_ids)  # noqa: S311  # no secret
        started_at = time.perf_counter()
        async with self._tenant.as_subject(_SUBJECT) as (tx, _):
            statuses = await job_queries.get_job_statuses(tx, _SUBJECT, [job_id])
        seconds = time.perf_counter() - started_at
        assert len(statuses) == 1
        return seconds

    async def _list(self, job_filter: JobFilter, expected: int) -> float:
        started_at = time.perf_counter()
        async with self._tenant.as_subject(_SUBJECT) as (tx, _):
            jobs = await job_queries.list_jobs(
                tx, _SUBJECT, job_filter, before=None, limit=_LIST_LIMIT
            )
        seconds = time.perf_counter() - started_at
        assert len(jobs) == expected
        return seconds

    async def _claim(self) -> float:
        """Claim a job that was just submitted, and end it again, which is not measured."""
        self._submitted += 1
        async with self._worker.transaction() as tx:
            await lifecycle.submit_job(
                tx,
                subject_id=_SUBJECT,
                kind=_KIND,
                namespace=_SUBJECT,
                title="a job",
                spec={"number": self._submitted},
                labels={},
                max_open_jobs=_MAX_OPEN_JOBS,
            )
        started_at = time.perf_counter()
        async with self._worker.transaction() as tx:
            (claim,) = await run_launch.claim(
                tx, _KIND, limit=32, worker="bench", lease=_LEASE, settle_window=_LEASE
            )
        seconds = time.perf_counter() - started_at
        async with self._worker.transaction() as tx:
            await run_launch.mark_not_created(
                tx, claim.run_id, reason=Reason.INTERNAL, message="measured", worker="bench"
            )
        return seconds


def measure_growth(run: BenchRun) -> Rounds:
    """Fill some databases, and measure the same in all."""
    with run_servers(run.folder) as servers:
        urls: dict[int, str] = {}
        for count in _FINISHED_JOBS[run.size]:
            run.report(f"filling the tables with {count:,} jobs")
            urls[count] = servers.create_database(f"bench_{count}")
            asyncio.run(
                fill_finished_jobs(
                    urls[count],
                    subject_id=_SUBJECT,
                    count=count,
                    oldest=_AGE,
                    newest=timedelta(hours=1),
                )
            )
        return asyncio.run(_measure_rounds(run, servers, urls))


async def _measure_rounds(run: BenchRun, servers: BenchServers, urls: dict[int, str]) -> Rounds:
    results: list[tuple[str, dict[str, float]]] = []
    async with AsyncExitStack() as pools:
        filled: dict[int, FilledDatabase] = {}
        for count, url in urls.items():
            tenant, worker = [
                await pools.enter_async_context(servers.open_database(role, url=url))
                for role in (DatabaseRole.TENANT, DatabaseRole.WORKER)
            ]
            async with worker.transaction() as tx:
                rows = await tx.fetch(_CHOOSE_JOBS, _READ_JOBS)
            job_ids = [row["id"] for row in rows]
            filled[count] = FilledDatabase(TenantDatabase(tenant), worker, job_ids)
        for number in range(run.rounds):
            for count in sorted(filled, reverse=bool(number % 2)):
                name = f"{count:,} finished jobs"
                run.report(f"round {number + 1} of {run.rounds}: {name}")
                measures = await filled[count].measure(_CALLS[run.size])
                results.append(
                    (name, {"jobs": count, "events": EVENTS_PER_JOB * count, **measures})
                )
    return collect(results)


async def _find_median(once: Callable[[], Awaitable[float]], calls: int) -> float:
    """Repeat an operation; return the median of what it took, in milliseconds."""
    durations: list[float] = []
    await once()  # prepares its statements
    while len(durations) < calls and sum(durations) < _MAX_SECONDS:
        durations.append(await once())
    return statistics.median(durations) * 1000
