"""Stops of worker processes under load; `python3 -m tests.operate.stops` makes 200 of them.

Workers that share one queue are told to stop at random moments, and others take their place, while
jobs, model calls and a batch keep them busy.
"""

import argparse
import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID

from rich.console import Console

from schema.common.errors import Unavailable
from schema.db import revisions
from schema.jobs import lifecycle
from service.local.ports import find_free_port
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests.crash.batch import is_over, submit_batch
from tests.crash.crash_matrix import CrashCase
from tests.crash.faulty_hub import Fault
from tests.crash.processes import ForkedProcess, run_fork_server
from tests.crash.scenario import WORKLOAD, ScenarioContext, lend_token, open_context, submit_job

GRACE: Final = timedelta(seconds=10)
"""What supervisors wait for before they kill."""
_PATIENCE: Final = 3 * GRACE
"""How long a stop is watched, to tell a late one from one that never ends."""
_UPTIME_SECONDS: Final = (0.3, 2.0)
"""How long a worker runs before its stop, at random."""
_SUBMIT_INTERVAL: Final = timedelta(milliseconds=50)
_BATCH_ITEMS: Final = 1000


@dataclass(slots=True)
class StopReport:
    """How long the stops took, and how the processes ended."""

    seconds: list[float] = field(default_factory=list[float])
    exit_codes: Counter[int] = field(default_factory=Counter[int])

    @property
    def late_count(self) -> int:
        """How many stops took longer than a supervisor waits."""
        return sum(each > GRACE.total_seconds() for each in self.seconds)

    def __str__(self) -> str:
        ordered = sorted(self.seconds)
        quantiles = ", ".join(
            f"{name} {ordered[min(len(ordered) - 1, int(len(ordered) * share))]:.2f} s"
            for name, share in (("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("longest", 1.0))
        )
        codes = ", ".join(f"{count} x {code}" for code, count in sorted(self.exit_codes.items()))
        return (
            f"{len(ordered)} stops: {quantiles}; {self.late_count} over "
            f"{GRACE.total_seconds():g} s; exit codes: {codes}"
        )


@dataclass(frozen=True, slots=True)
class LoadedServers:
    """Servers of their own, with work for as many workers as are started."""

    stage: ScenarioContext
    postgres: Postgres
    valkey: Valkey


@asynccontextmanager
async def run_loaded_servers(folder: Path) -> AsyncGenerator[LoadedServers]:
    """Start Postgres, Valkey, a Hub and a router, and submit work until the block ends."""
    with ExitStack() as servers:
        postgres = Postgres(folder / "postgres", durable=False)
        valkey = Valkey(folder / "valkey", durable=False)
        servers.callback(postgres.stop)
        servers.callback(valkey.stop)
        template, redis = postgres.start(), valkey.start()
        await asyncio.to_thread(revisions.upgrade_to_revision, template)
        case = CrashCase("stops", Fault.NONE)
        async with (
            run_fork_server(folder) as processes,
            open_context(case, processes, postgres, template, redis) as stage,
        ):
            port = find_free_port()
            router = await processes.start(
                "router", str(folder / "hub"), port, str(folder / "prompts")
            )
            stage.environment["HOLDFAST_ROUTER_URL"] = f"http://127.0.0.1:{port}"
            await lend_token(stage)
            loading = asyncio.create_task(_submit_jobs(stage))
            try:
                yield LoadedServers(stage, postgres, valkey)
            finally:
                loading.cancel()
                await asyncio.wait([loading])
                await router.kill()


async def stop_workers(
    stage: ScenarioContext, report: StopReport, *, stops: int, lanes: int
) -> None:
    """Start and stop so many workers, a few of them side by side."""
    shares = [stops // lanes + (lane < stops % lanes) for lane in range(lanes)]
    async with asyncio.TaskGroup() as group:
        for share in shares:
            group.create_task(_stop_in_turn(stage, share, report))


async def _submit_jobs(stage: ScenarioContext) -> None:
    """Keep the workers busy with jobs of every kind, some of them cancelled as they start."""
    batch_id: UUID | None = None
    while True:
        if batch_id is None or await is_over(stage, batch_id):
            batch_id = await submit_batch(stage, _BATCH_ITEMS, "repeat")
        for name, (kind, spec) in WORKLOAD.items():
            with suppress(Unavailable):
                job_id = await submit_job(stage, kind, spec)
                if "cancelled" in name:
                    async with stage.database.transaction() as tx:
                        await lifecycle.cancel_job(tx, job_id, subject_id=stage.user.id)
            await asyncio.sleep(_SUBMIT_INTERVAL.total_seconds())  # the load: so many a second


async def _stop_in_turn(stage: ScenarioContext, stops: int, report: StopReport) -> None:
    for _ in range(stops):
        worker = await stage.fork_server.start("worker", environment=stage.environment)
        await asyncio.sleep(random.uniform(*_UPTIME_SECONDS))  # noqa: S311  # no secret
        await stop_process(worker, report)


async def stop_process(process: ForkedProcess, report: StopReport) -> None:
    """Tell a process to stop, and take down how long it took and how it ended."""
    stopped_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    await asyncio.wait([process.exit_code], timeout=_PATIENCE.total_seconds())
    report.seconds.append(time.monotonic() - stopped_at)
    await process.kill()
    report.exit_codes[process.exit_code.result()] += 1


async def _run_stops(stops: int, lanes: int) -> StopReport:
    report = StopReport()
    with TemporaryDirectory(prefix="holdfast-stops-") as folder:
        async with run_loaded_servers(Path(folder)) as servers:
            await stop_workers(servers.stage, report, stops=stops, lanes=lanes)
    return report


def main() -> int:
    """Make the stops that the command line asks for, and print how long they took."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.operate.stops", description=__doc__)
    parser.add_argument("--stops", type=int, default=200, help="how many workers are stopped")
    parser.add_argument("--lanes", type=int, default=4, help="how many of them run side by side")
    options = parser.parse_args()
    report = asyncio.run(_run_stops(options.stops, options.lanes))
    Console().print(str(report), highlight=False)
    return 1 if report.late_count else 0


if __name__ == "__main__":
    sys.exit(main())
