"""The scenario of observation: one pass over the open runs of many people.

A worker without loops polls every group once. The Hub answers at once, in a process of its own, so
the pass takes what ours takes.
"""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from typing import Final

import asyncpg

from schema.accounts.row_security import DatabaseRole
from schema.common.observability.metrics import HubRequest
from schema.settings import Settings
from tests.bench.comparison import Rounds
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.filled_tables import without_notices
from tests.bench.scenarios.servers import (
    APPLICATION_NAME,
    BenchServers,
    lend_tokens,
    run_servers,
)
from tests.bench.scenarios.simulated_hub import run_simulated_hub
from tests.support.polling import eventually
from workers.context import Worker
from workers.executor import ExecutorDeps
from workers.executors import discover_executors
from workers.hub.client import open_hub_jobs_client
from workers.loops.poll_runs import poll_runs

RUNS_PER_GROUP: Final = 50
_WAITING_GROUPS: Final = {Size.TINY: 4, Size.QUICK: 200, Size.FULL: 2000}
_RUNNING_GROUPS: Final = {Size.TINY: 4, Size.QUICK: 40, Size.FULL: 80}
"""Fewer: a worker waits a second for more lines of each log that it follows."""
_SCALE: Final = 100_000
"""Runs for which the time in the database is shown."""
_NO_SECOND_POLL: Final = timedelta(hours=1)

_FILL: Final = (
    """
INSERT INTO job (id, subject_id, kind, namespace, title, state, version, attempt, due_at,
                 started_at, created_at)
SELECT gen_random_uuid(), subject.id, 'hub_job', subject.id, number::text, 'running', 3, 1, NULL,
       now() - interval '1 hour', now() - interval '2 hours'
  FROM subject, generate_series(0, $1::int - 1) AS number
""",
    """
INSERT INTO remote_run (id, job_id, subject_id, namespace, kind, attempt, state, remote_id, due_at,
                        absent_after, stage, posted_at, seen_at, deadline_at)
SELECT gen_random_uuid(), id, subject_id, namespace, kind, 1, 'bound',
       namespace || '-' || title, NULL, now(), $1, now() - interval '1 hour', now(),
       now() + interval '1 day'
  FROM job
""",
    """
INSERT INTO job_payload (job_id, spec)
SELECT id, '{"image": "python:3.12", "command": ["true"], "timeout": 86400}' FROM job
""",
    """
INSERT INTO job_event (job_id, version, kind, state, actor, at)
SELECT id, event.version, event.kind, event.state, 'bench', created_at
  FROM job,
       (VALUES (1, 'created', 'queued'), (2, 'claimed', 'launching'), (3, 'bound', 'running'))
           AS event (version, kind, state)
""",
    """
INSERT INTO poll_group (subject_id, namespace, live, due_at)
SELECT subject_id, namespace, count(*), now() FROM remote_run GROUP BY 1, 2
""",
    "UPDATE subject SET active = (SELECT count(*) FROM job WHERE subject_id = subject.id)",
)

_READ_CONNECTION_TIME: Final = """
SELECT active_time + idle_in_transaction_time AS milliseconds
  FROM pg_stat_database
 WHERE datname = $1
"""


def measure_observation(run: BenchRun) -> Rounds:
    """Measure a pass over runs that wait for hardware, and one over runs whose logs are followed.

    Every pass has a database of its own.
    """
    rounds: Rounds = {}
    with run_servers(run.folder) as servers:
        for name, stage, groups in (
            ("runs that wait for hardware", "SCHEDULING", _WAITING_GROUPS[run.size]),
            ("runs that print", "RUNNING", _RUNNING_GROUPS[run.size]),
        ):
            run.report(f"{groups * RUNS_PER_GROUP:,} {name}, in {groups:,} groups")
            url = servers.create_database(f"bench_{stage.lower()}")
            asyncio.run(fill_open_runs(servers, url, groups, stage))
            with run_simulated_hub(jobs=RUNS_PER_GROUP, stage=stage) as hub_url:
                rounds[name] = [asyncio.run(measure_pass(servers, url, hub_url))]
    return rounds


async def fill_open_runs(servers: BenchServers, url: str, groups: int, stage: str) -> None:
    """Write open runs in one stage, and analyze the tables.

    Args:
        url: of an empty database.
        groups: how many people have `RUNS_PER_GROUP` of them each.
    """
    subject_ids = [f"s{number}" for number in range(groups)]
    async with servers.open_database(DatabaseRole.WORKER, url=url) as database:
        await lend_tokens(database, servers.make_vault(), subject_ids)
    connection = await asyncpg.connect(url)
    try:
        async with without_notices(connection):
            jobs, runs, *others = _FILL
            await connection.execute(jobs, RUNS_PER_GROUP)
            await connection.execute(runs, stage)
            for statement in others:
                await connection.execute(statement)
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def measure_pass(servers: BenchServers, url: str, hub_url: str) -> dict[str, float]:
    """Poll every group once."""
    requests: Counter[str] = Counter()

    def count(request: HubRequest) -> None:
        requests[request.route.rpartition("/")[2]] += 1

    settings = Settings.model_validate(
        {
            "HOLDFAST_DATABASE_URL": url,
            "HOLDFAST_REDIS_URL": servers.redis_url,
            "vault_keys": servers.make_environment()["HOLDFAST_VAULT_KEYS"],
            "observe_min": _NO_SECOND_POLL,
            "observe_max": _NO_SECOND_POLL,
        }
    )
    vault = servers.make_vault()
    before = await _read_connection_time(url)
    async with (
        servers.open_database(DatabaseRole.WORKER, url=url) as database,
        open_hub_jobs_client(hub_url, hub_url, on_request=count) as hub,
    ):
        executors = discover_executors(ExecutorDeps(hub, database, settings, vault))
        worker = Worker("bench", settings, database, vault, hub, executors)
        cpu_before, started_at = time.process_time(), time.perf_counter()
        while await poll_runs(worker):
            pass
        seconds, cpu = time.perf_counter() - started_at, time.process_time() - cpu_before
        async with database.transaction() as tx:
            runs: int = await tx.fetchval("SELECT count(*) FROM remote_run WHERE state = 'bound'")
            unpolled = await tx.fetchval("SELECT count(*) FROM poll_group WHERE due_at <= now()")
    assert unpolled == 0, f"{unpolled} groups were not polled"
    connection_seconds = (await _read_connection_time(url) - before) / 1000
    return {
        "runs": runs,
        "hub_calls_percent": 100 * requests.total() / runs,
        "log_calls_percent": 100 * requests["logs"] / runs,
        "pass_seconds": seconds,
        "cpu_seconds": cpu,
        "database_seconds": connection_seconds * _SCALE / runs,
    }


async def _read_connection_time(url: str) -> float:
    """Return for how many milliseconds connections have been in transactions, all added.

    Statistics are complete when the connections that they are of are closed.
    """
    server, _, name = url.rpartition("/")
    connection = await asyncpg.connect(f"{server}/postgres")

    async def count_connections() -> int:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = $2",
            name,
            APPLICATION_NAME,
        )
        return count

    try:
        await eventually(count_connections, lambda count: count == 0)
        milliseconds: float = await connection.fetchval(_READ_CONNECTION_TIME, name)
    finally:
        await connection.close()
    return milliseconds
