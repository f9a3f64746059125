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
from tests.crash.crash_matrix import CrashCase, build_matrix, find_failpoints
from tests.crash.faulty_hub import Fault
from tests.crash.processes import run_fork_server
from tests.crash.report import write_report
from tests.crash.scenario import ScenarioResult, run_scenario
from tests.crash.soak import SOAK, run_soak

_DEFAULT_LANES: Final = 4
_REPORT_FOLDER: Final = Path(".holdfast/crash")


async def run_cases(
    scenes: Sequence[CrashCase], folder: Path, *, lanes: int, console: Console
) -> list[ScenarioResult]:
    """Play scenes on a few lanes side by side, each with servers of its own."""
    waiting = list(reversed(scenes))
    verdicts: list[ScenarioResult] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with ExitStack() as servers, Progress(*columns, console=console) as progress:
        played = progress.add_task("scenes", total=len(scenes))

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
                while waiting:
                    scene = waiting.pop()
                    if scene.point == SOAK:
                        verdict = await run_soak(processes, postgres, template, redis, progress)
                    else:
                        verdict = await run_scenario(scene, processes, postgres, template, redis)
                    verdicts.append(verdict)
                    progress.advance(played)
                    for violation in verdict.violations:
                        console.print(f"[red]{scene}[/] {violation}", highlight=False)

        async with asyncio.TaskGroup() as group:
            for number in range(lanes):
                group.create_task(lane(number))
    return verdicts


def main() -> int:
    """Play what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.crash", description=__doc__)
    parser.add_argument(
        "--point", action="append", choices=find_failpoints(), help="only this place"
    )
    parser.add_argument(
        "--fault", action="append", type=Fault, choices=list(Fault), help="only this fault"
    )
    parser.add_argument("--unknown", choices=["fail", "relaunch"], help="only this policy")
    parser.add_argument("--soak", action="store_true", help="not places: many launches and kills")
    parser.add_argument(
        "--lanes", type=int, default=_DEFAULT_LANES, help="scenes played side by side"
    )
    parser.add_argument(
        "--report", type=Path, default=_REPORT_FOLDER, help="the folder of the report"
    )
    chosen = parser.parse_args()
    scenes = [
        scene
        for scene in build_matrix()
        if (not chosen.point or scene.point in chosen.point)
        and (not chosen.fault or scene.fault in chosen.fault)
        and (not chosen.unknown or scene.unknown == chosen.unknown)
    ]
    if chosen.soak:
        scenes = [CrashCase(SOAK, Fault.NONE)]
    console = Console()
    started = time.monotonic()
    with TemporaryDirectory(prefix="holdfast-crash-") as folder:
        verdicts = asyncio.run(
            run_cases(scenes, Path(folder), lanes=min(chosen.lanes, len(scenes)), console=console)
        )
    path = write_report(verdicts, chosen.report, seconds=time.monotonic() - started)
    broken = sum(bool(verdict.violations) for verdict in verdicts)
    console.print(
        f"{len(verdicts)} scenes, {broken} with violations. Report: {path}", highlight=False
    )
    return 1 if broken else 0
