"""The scenario of an idle worker: its CPU, and its statements, while there is nothing to do.

The worker is a process with the settings of production. Postgres writes down every statement, and
BEGIN, COMMIT and ROLLBACK do not count.
"""

import asyncio
import re
import time
from pathlib import Path
from typing import Final

import asyncpg
import psutil

from tests.bench.comparison import Rounds
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.servers import (
    BenchServers,
    read_cpu_seconds,
    run_servers,
    run_worker_process,
)

_SECONDS: Final = {Size.TINY: 3, Size.QUICK: 20, Size.FULL: 60}
_SETTLE_SECONDS: Final = {Size.TINY: 2, Size.QUICK: 5, Size.FULL: 10}
_STATEMENT: Final = re.compile(
    r"LOG:  (?:statement|execute [^:]*): (?!BEGIN|COMMIT|ROLLBACK)", re.MULTILINE
)


def measure_idle(run: BenchRun) -> Rounds:
    """Watch a worker that has nothing to do."""
    with run_servers(run.folder) as servers:
        asyncio.run(_log_statements(servers))
        with run_worker_process(servers, servers.make_environment()) as worker:
            time.sleep(_SETTLE_SECONDS[run.size])  # until its first looks at everything are over
            run.report(f"{_SECONDS[run.size]} s")
            measures = _watch(worker, servers.postgres_log, _SECONDS[run.size])
    return {"idle worker": [measures]}


async def _log_statements(servers: BenchServers) -> None:
    connection = await asyncpg.connect(servers.database_url)
    try:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE \"{name}\" SET log_statement = 'all'")
    finally:
        await connection.close()


def _watch(process: psutil.Process, log: Path, seconds: int) -> dict[str, float]:
    offset, cpu_before, started_at = (
        log.stat().st_size,
        read_cpu_seconds(process),
        time.perf_counter(),
    )
    time.sleep(seconds)  # the stretch of time that is measured
    elapsed, cpu = time.perf_counter() - started_at, read_cpu_seconds(process) - cpu_before
    written = log.read_bytes()[offset:].decode(errors="replace")
    return {
        "cpu_percent": 100 * cpu / elapsed,
        "statements_per_second": len(_STATEMENT.findall(written)) / elapsed,
        "memory_megabytes": process.memory_info().rss / 1e6,
    }
