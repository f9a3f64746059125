"""The scenario of the footprint: bytes, WAL, statements and updates of one job.

No measure is a time. A first round follows a checkpoint, a second one does not: in the WAL, the
first change of a page after a checkpoint is the whole page.
"""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import anyio
import asyncpg
from redis.asyncio import Redis

from schema.accounts.row_security import DatabaseRole, act_as_subject
from schema.billing.budgets import Rate
from schema.common import ids
from schema.db.database import Database
from schema.jobs import lifecycle
from schema.jobs.tables import JobKind, JobState
from schema.messaging.wakeups import open_wakeup_sender
from schema.settings import Settings
from tests.bench.comparison import Rounds
from tests.bench.holdfast_queue import NoopExecutor
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.finishing_hub import FinishingHub, run_finishing_hub
from tests.bench.scenarios.observation import RUNS_PER_GROUP, fill_open_runs, measure_pass
from tests.bench.scenarios.servers import (
    APPLICATION_NAME,
    BenchServers,
    lend_tokens,
    run_servers,
)
from tests.bench.scenarios.simulated_hub import run_simulated_hub
from tests.bench.scenarios.table_growth import ServerReading, TableMeter, TableSize
from tests.support.polling import eventually
from workers.context import Worker
from workers.executor import Executor, ExecutorDeps
from workers.executors import discover_executors
from workers.hub.client import open_hub_jobs_client
from workers.loops import engine

NOOP_KIND: Final = NoopExecutor.kind
_JOBS: Final = {Size.TINY: 40, Size.QUICK: 300, Size.FULL: 1000}
"""Jobs of each of the two rounds."""
_LOG_LINES: Final = 100
_WAITING_GROUPS: Final = {Size.TINY: 8, Size.QUICK: 200, Size.FULL: 1000}
_RUNNING_GROUPS: Final = {Size.TINY: 8, Size.QUICK: 40, Size.FULL: 40}
"""Fewer: a worker waits a second for more lines of each log that it follows."""
_COUNT_MEASURES: Final = ("transactions", "statements", "round_trips")
_SUBJECTS: Final = 20
_SERVICE: Final = "service"
_WORKER: Final = "worker"
_CONNECTIONS: Final = 10
_TIMEOUT: Final = timedelta(minutes=10)
_MAX_OPEN_JOBS: Final = 1_000_000
_RATE: Final = Rate(price_micro_usd=167, timeout=timedelta(minutes=30))


def measure_footprint(run: BenchRun) -> Rounds:
    """Measure no-op calls and jobs of the Hub, each in a database of its own; then wake-ups."""
    jobs = _JOBS[run.size]
    rounds: Rounds = {}
    with run_servers(run.folder) as servers, run_finishing_hub(_LOG_LINES) as (hub, hub_url):
        for name, kind in (
            ("no-op call", NOOP_KIND),
            (f"Hub job, {_LOG_LINES} lines", str(JobKind.HUB_JOB)),
        ):
            load = JobLoad(servers, servers.create_database(f"bench_{kind}"), kind, hub_url)
            rounds |= asyncio.run(_measure_kind(run, load, name, jobs, hub))
        for name, stage, groups in (
            ("poll of runs that wait", "SCHEDULING", _WAITING_GROUPS[run.size]),
            ("poll of runs that print", "RUNNING", _RUNNING_GROUPS[run.size]),
        ):
            run.report(f"{groups:,} times: {name}")
            url = servers.create_database(f"bench_{stage.lower()}")
            rounds[name] = [_measure_polls(servers, url, groups, stage)]
        run.report("wake-ups")
        rounds["wake-up"] = [asyncio.run(_measure_wakeups(servers, jobs))]
    return rounds


class JobLoad:
    """Jobs of one kind, submitted as the service does, and carried out by one worker."""

    def __init__(self, servers: BenchServers, url: str, kind: str, hub_url: str) -> None:
        self._servers = servers
        self.url = url
        self._kind = kind
        self._hub_url = hub_url
        self._submitted = 0

    def make_meter(self) -> TableMeter:
        """Return what reads the database of these jobs."""
        return TableMeter(self.url, self._servers.postgres_log)

    async def lend_tokens(self) -> None:
        """Give each subject a token, once."""
        subject_ids = [f"subject-{number}" for number in range(_SUBJECTS)]
        async with self._open_database(_WORKER, DatabaseRole.WORKER) as database:
            await lend_tokens(database, self._servers.make_vault(), subject_ids)

    async def submit(self, count: int) -> None:
        """Submit jobs one after the other."""
        async with self._open_database(_SERVICE, DatabaseRole.TENANT) as database:
            for _ in range(count):
                number = self._submitted = self._submitted + 1
                subject = f"subject-{number % _SUBJECTS}"
                async with database.transaction() as tx:
                    await act_as_subject(tx, subject)
                    await lifecycle.submit_job(
                        tx,
                        subject_id=subject,
                        kind=self._kind,
                        namespace=subject,
                        title="python:3.12 python -c print()",
                        spec=_make_spec(self._kind, number),
                        labels={},
                        max_open_jobs=_MAX_OPEN_JOBS,
                        idempotency_key=f"5f0c9a3e-7a55-4d0e-9f6b-{number:012}",
                        rate=_RATE,
                    )

    async def run_to_end(self) -> None:
        """Run one worker with all its loops until every job is over."""
        settings = Settings.model_validate(
            {
                "HOLDFAST_DATABASE_URL": self.url,
                "HOLDFAST_REDIS_URL": self._servers.redis_url,
                "vault_keys": self._servers.make_environment()["HOLDFAST_VAULT_KEYS"],
            }
        )
        vault = self._servers.make_vault()
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(
                self._open_database(_WORKER, DatabaseRole.WORKER)
            )
            hub = await stack.enter_async_context(
                open_hub_jobs_client(self._hub_url, self._hub_url)
            )
            executors: dict[str, Executor] = {
                **discover_executors(ExecutorDeps(hub, database, settings, vault)),
                NOOP_KIND: NoopExecutor(),
            }
            worker = Worker("bench", settings, database, vault, hub, executors)
            stop = anyio.Event()
            loops = asyncio.create_task(engine.run_loops(worker, stop))
            engine.wake_loops(worker)
            try:
                await self._wait_until_over()
            finally:
                stop.set()
                await loops

    async def _wait_until_over(self) -> None:
        connection = await asyncpg.connect(
            self.url, server_settings={"application_name": "watcher"}
        )

        async def count_open_jobs() -> int:
            count: int = await connection.fetchval(
                "SELECT count(*) FROM job WHERE finished_at IS NULL"
            )
            return count

        try:
            await eventually(count_open_jobs, lambda count: count == 0, timeout=_TIMEOUT)
            states = await connection.fetch("SELECT DISTINCT state, message FROM job")
            if {row["state"] for row in states} != {JobState.SUCCEEDED}:
                raise AssertionError(f"not every job has succeeded: {states}")
        finally:
            await connection.close()

    def _open_database(self, program: str, role: DatabaseRole) -> Database:
        return Database(self.url, application_name=program, role=role, max_connections=_CONNECTIONS)


def _make_spec(kind: str, number: int) -> dict[str, Any]:
    if kind == NOOP_KIND:
        return {"key": None, "number": number}
    return {
        "image": "python:3.12",
        "command": ["python", "-c", f"print('a command of the usual length', {number})"],
        "flavor": "cpu-basic",
        "timeout": 1800,
    }


async def _measure_kind(
    run: BenchRun, load: JobLoad, name: str, jobs: int, hub: FinishingHub
) -> Rounds:
    meter = load.make_meter()
    await meter.start_log()
    await load.lend_tokens()
    empty = await meter.read_tables()
    await meter.write_checkpoint()
    rounds: Rounds = {}
    for moment in ("after a checkpoint", "later"):
        run.report(f"{jobs:,} times: {name}, {moment}")
        listings = hub.requests["list"]
        before = await meter.read_server()
        await load.submit(jobs)
        submitted = await meter.read_server()
        await load.run_to_end()
        ended = await meter.read_server()
        counts = meter.count_statements(before)
        rounds[f"{name}, {moment}"] = [
            {
                **_measure_wal(before, submitted, ended, jobs),
                **{
                    f"{program}_{measure}": getattr(counts[program], measure) / jobs
                    for program in (_SERVICE, _WORKER)
                    for measure in _COUNT_MEASURES
                },
                "listings": (hub.requests["list"] - listings) / jobs,
            }
        ]
        full = await meter.read_tables()
    tables = _measure_tables(empty, full, 2 * jobs)
    rounds[f"{name}, at rest"] = [
        {
            measure: sum(each[measure] for each in tables.values())
            for measure in ("bytes", "heap_bytes", "index_bytes", "toast_bytes")
        }
    ]
    return rounds | {
        f"{name}, table {table}": [measures]
        for table, measures in tables.items()
        if any(measures.values())
    }


def _measure_wal(
    before: ServerReading, submitted: ServerReading, ended: ServerReading, jobs: int
) -> dict[str, float]:
    return {
        "wal_bytes": (ended.wal_bytes - before.wal_bytes) / jobs,
        "wal_bytes_of_submit": (submitted.wal_bytes - before.wal_bytes) / jobs,
        "wal_full_pages": (ended.full_pages - before.full_pages) / jobs,
    }


def _measure_tables(
    empty: dict[str, TableSize], full: dict[str, TableSize], jobs: int
) -> dict[str, dict[str, float]]:
    """Return what each table has grown by, and how it was updated, for one job."""
    measured: dict[str, dict[str, float]] = {}
    for table, after in full.items():
        before = empty[table]
        updates = after.updates - before.updates
        hot_updates = after.hot_updates - before.hot_updates
        parts = {
            part: (getattr(after, part) - getattr(before, part)) / jobs
            for part in ("heap_bytes", "index_bytes", "toast_bytes")
        }
        measured[table] = {
            "bytes": sum(parts.values()),
            **parts,
            "updates": updates / jobs,
            **({"hot_percent": 100 * hot_updates / updates} if updates else {}),
        }
    return measured


def _measure_polls(servers: BenchServers, url: str, groups: int, stage: str) -> dict[str, float]:
    """Poll every group once; each has `RUNS_PER_GROUP` runs, and none has changed."""
    meter = TableMeter(url, servers.postgres_log)
    asyncio.run(fill_open_runs(servers, url, groups, stage))
    asyncio.run(meter.start_log())
    before = asyncio.run(meter.read_server())
    with run_simulated_hub(jobs=RUNS_PER_GROUP, stage=stage) as hub_url:
        asyncio.run(measure_pass(servers, url, hub_url))
    after = asyncio.run(meter.read_server())
    counts = meter.count_statements(before)[APPLICATION_NAME]
    return {
        "wal_bytes": (after.wal_bytes - before.wal_bytes) / groups,
        "wal_full_pages": (after.full_pages - before.full_pages) / groups,
        **{
            f"{_WORKER}_{measure}": getattr(counts, measure) / groups for measure in _COUNT_MEASURES
        },
    }


async def _measure_wakeups(servers: BenchServers, count: int) -> dict[str, float]:
    """Send wake-ups that no worker takes, and count what Redis has done and holds."""
    redis: Redis = Redis.from_url(servers.redis_url)  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
    try:
        async with open_wakeup_sender(servers.redis_url) as wakeups:
            await wakeups.send(_make_handle())  # connects
            before = await _read_redis(redis)
            for _ in range(count):
                await wakeups.send(_make_handle())
            after = await _read_redis(redis)
    finally:
        await redis.aclose()
    return {f"redis_{measure}": (after[measure] - before[measure]) / count for measure in before}


def _make_handle() -> str:
    return ids.format_handle(ids.HandleKind.JOB, ids.new_id())


async def _read_redis(redis: Redis) -> dict[str, float]:
    information: dict[str, Any] = await redis.info("everything")  # pyright: ignore[reportUnknownMemberType]  # redis 5 leaves its kwargs untyped
    return {
        "commands": information["total_commands_processed"],
        "bytes_received": information["total_net_input_bytes"],
        "bytes_sent": information["total_net_output_bytes"],
        "bytes_held": information["used_memory"],
    }
