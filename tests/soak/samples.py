"""What the processes of a soak need over time: memory, threads, files, connections, requests."""

import asyncio
import re
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import asyncpg
import httpx2
import psutil

from tests.soak.deployment import METRICS_TOKEN, Deployment, Program

SAMPLE_SECONDS: Final = 2.0
_LISTINGS: Final = re.compile(
    r'^holdfast_hub_requests_total\{[^}]*route="([^"]*)"[^}]*\} ([0-9.e+]+)$', re.MULTILINE
)
_COUNTS: Final = """
SELECT (SELECT count(*) FROM job) AS jobs,
       (SELECT count(*) FROM job WHERE finished_at IS NULL) AS open_jobs,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                                                AND backend_type = 'client backend') AS connections
"""


@dataclass(frozen=True, slots=True)
class ProgramSample:
    """What one process needs at one moment."""

    seconds: float
    """Since the start of the run."""
    resident_bytes: int
    threads: int
    open_files: int


@dataclass(slots=True)
class Samples:
    """All that was measured."""

    started_at: float
    programs: dict[str, list[ProgramSample]] = field(
        default_factory=lambda: defaultdict[str, list[ProgramSample]](list)
    )
    """Of the programs that no disturbance ends, by name."""
    database: list[tuple[float, int, int, int]] = field(
        default_factory=list[tuple[float, int, int, int]]
    )
    """Seconds since the start, all jobs, open jobs, connections."""
    hub_requests: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Seconds since the start, and requests of the steady worker to the Hub until then."""

    def growth(self, name: str, field_name: str) -> tuple[float, float]:
        """Return the median of a measure in the second quarter of a run, and in the last one."""
        values = [getattr(sample, field_name) for sample in self.programs[name]]
        quarter = max(1, len(values) // 4)
        return median(values[quarter : 2 * quarter] or values), median(values[-quarter:])

    def request_rate(self, since: float, until: float) -> float:
        """Return the steady worker's requests to the Hub, per second, between two moments."""
        inside = [(at, count) for at, count in self.hub_requests if since <= at <= until]
        if len(inside) < 2:
            return 0.0
        (first_at, first), (last_at, last) = inside[0], inside[-1]
        return (last - first) / (last_at - first_at)


async def take_samples(deployment: Deployment, samples: Samples, is_over: asyncio.Event) -> None:
    """Measure again and again until the run is over."""
    while not is_over.is_set():
        elapsed = time.monotonic() - samples.started_at
        for program in deployment.steady_programs:
            with suppress(psutil.Error):
                samples.programs[program.name].append(_measure(program, elapsed))
        with suppress(asyncpg.PostgresError, OSError, TimeoutError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(deployment.database_url, timeout=SAMPLE_SECONDS)
            try:
                [row] = await connection.fetch(_COUNTS)
                samples.database.append(
                    (elapsed, row["jobs"], row["open_jobs"], row["connections"] - 1)
                )
            finally:
                await connection.close()
        with suppress(httpx2.TransportError):
            samples.hub_requests.append((elapsed, await _count_requests(deployment.workers[0])))
        with suppress(TimeoutError):
            await asyncio.wait_for(is_over.wait(), SAMPLE_SECONDS)


def _measure(program: Program, elapsed: float) -> ProgramSample:
    process = psutil.Process(program.pid)
    with process.oneshot():
        return ProgramSample(
            seconds=elapsed,
            resident_bytes=process.memory_info().rss,
            threads=process.num_threads(),
            open_files=process.num_fds(),
        )


async def _count_requests(worker: Program) -> float:
    assert worker.metrics_url is not None
    async with httpx2.AsyncClient(timeout=SAMPLE_SECONDS) as http:
        page = await http.get(
            worker.metrics_url, headers={"authorization": f"Bearer {METRICS_TOKEN}"}
        )
    return sum(float(count) for _, count in _LISTINGS.findall(page.text))
