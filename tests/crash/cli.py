"""The command that runs every crash case, several at a time, and writes a report."""

import argparse
import asyncio
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from schema.db import revisions
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests.crash.crash_matrix import POLICIES, CrashCase, build_matrix, find_failpoints
from tests.crash.faulty_hub import Fault
from tests.crash.processes import run_fork_server
from tests.crash.report import write_report
from tests.crash.scenario import ScenarioResult, run_scenario
from tests.crash.soak import SOAK, run_soak

_DEFAULT_LANES: Final = 4
_REPORT_FOLDER: Final = Path(".holdfast/crash")


async def run_cases(
    cases: Sequence[CrashCase], folder: Path, *, lanes: int, console: Console
) -> list[ScenarioResult]:
    """Run cases on a few lanes side by side, each with servers of its own."""
    remaining = list(reversed(cases))
    results: list[ScenarioResult] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with ExitStack() as servers, Progress(*columns, console=console) as progress:
        task = progress.add_task("cases", total=len(cases))

        async def lane(number: int) -> None:
            home = folder / f"lane-{number}"
            home.mkdir()
            postgres, valkey = (
                Postgres(home / "postgres", durable=True),
                Valkey(home / "valkey", durable=False),
            )
            servers.callback(postgres.stop)
            servers.callback(valkey.stop)
            template, redis = postgres.start(), valkey.start()
            await asyncio.to_thread(revisions.upgrade_to_revision, template)
            async with run_fork_server(home) as processes:
                while remaining:
                    case = remaining.pop()
                    if case.point == SOAK:
                        result = await run_soak(processes, postgres, template, redis, progress)
                    else:
                        result = await run_scenario(case, processes, postgres, template, redis)
                    results.append(result)
                    progress.advance(task)
                    for violation in result.violations:
                        console.print(f"[red]{case}[/] {violation}", highlight=False)

        async with asyncio.TaskGroup() as group:
            for number in range(lanes):
                group.create_task(lane(number))
    return results


def main() -> int:
    """Run the cases that the command line names."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.crash", description=__doc__)
    parser.add_argument(
        "--point", action="append", choices=find_failpoints(), help="only this failpoint"
    )
    parser.add_argument(
        "--fault", action="append", type=Fault, choices=list(Fault), help="only this fault"
    )
    parser.add_argument("--unknown", choices=POLICIES, help="only this policy")
    parser.add_argument(
        "--times", type=int, default=1, help="how often each case is run, to find what is rare"
    )
    parser.add_argument(
        "--soak", action="store_true", help="many launches and kills instead of the cases"
    )
    parser.add_argument(
        "--lanes", type=int, default=_DEFAULT_LANES, help="how many cases run side by side"
    )
    parser.add_argument(
        "--report", type=Path, default=_REPORT_FOLDER, help="the folder of the report"
    )
    options = parser.parse_args()
    cases = [
        case
        for case in build_matrix() * options.times
        if (not options.point or case.point in options.point)
        and (not options.fault or case.fault in options.fault)
        and (not options.unknown or case.unknown == options.unknown)
    ]
    if options.soak:
        cases = [CrashCase(SOAK, Fault.NONE)]
    console = Console()
    started = time.monotonic()
    with TemporaryDirectory(prefix="holdfast-crash-") as folder:
        results = asyncio.run(
            run_cases(cases, Path(folder), lanes=min(options.lanes, len(cases)), console=console)
        )
    path = write_report(results, options.report, seconds=time.monotonic() - started)
    broken = sum(bool(result.violations) for result in results)
    console.print(
        f"{len(results)} cases, {broken} with violations. Report: {path}", highlight=False
    )
    return 1 if broken else 0
