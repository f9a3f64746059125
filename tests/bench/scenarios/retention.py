"""The scenario of retention: how quickly finished jobs are deleted with everything of theirs."""

import asyncio
import time
from datetime import timedelta
from typing import Final

from schema.accounts.row_security import DatabaseRole
from schema.db.database import Database
from schema.jobs.retention.pruning import RetentionPeriods, prune_expired
from tests.bench.comparison import Rounds
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.filled_tables import fill_finished_jobs
from tests.bench.scenarios.servers import BenchServers, run_servers

_JOBS: Final = {Size.TINY: 600, Size.QUICK: 20_000, Size.FULL: 1_000_000}
_PERIODS: Final = RetentionPeriods(
    jobs=timedelta(days=30),
    jobs_by_kind={},
    firings=timedelta(days=30),
    audit=timedelta(days=365),
    spending=timedelta(days=730),
)
_TABLES: Final = ("job", "job_payload", "job_event", "job_cost", "remote_run")


def measure_retention(run: BenchRun) -> Rounds:
    """Delete jobs that are all past their retention, in the batches of a worker."""
    jobs = _JOBS[run.size]
    run.report(f"filling the tables with {jobs:,} old jobs")
    with run_servers(run.folder) as servers:
        asyncio.run(
            fill_finished_jobs(
                servers.database_url,
                subject_id="bench",
                count=jobs,
                oldest=timedelta(days=60),
                newest=timedelta(days=40),
            )
        )
        run.report("deleting them")
        return {f"{jobs:,} jobs": [asyncio.run(prune_all(servers))]}


async def prune_all(servers: BenchServers) -> dict[str, float]:
    """Delete every job; all have to be past their retention."""
    async with servers.open_database(DatabaseRole.WORKER) as database:
        jobs, rows = await _count_rows(database)
        started_at = time.perf_counter()
        more = True
        while more:
            async with database.transaction() as tx:
                more = await prune_expired(tx, periods=_PERIODS)
        seconds = time.perf_counter() - started_at
        jobs_left, rows_left = await _count_rows(database)
    if jobs_left:
        raise AssertionError(f"{jobs_left} jobs are left")
    return {
        "rows_per_second": (rows - rows_left) / seconds,
        "jobs_per_second": jobs / seconds,
        "seconds": seconds,
    }


async def _count_rows(database: Database) -> tuple[int, int]:
    """Return how many jobs there are, and how many rows in all their tables."""
    async with database.transaction() as tx:
        counts = [
            await tx.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608  # our own words
            for table in _TABLES
        ]
    return counts[0], sum(counts)
