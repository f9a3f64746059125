"""The command of the soak: it runs the deployment, the load and the disturbances, and judges."""

import argparse
import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from tests.e2e.secret_canary import Canary
from tests.operate.releases import make_next_release
from tests.soak import load
from tests.soak.deployment import Deployment, run_deployment
from tests.soak.disturbances import DisturbanceLog, Disturbances
from tests.soak.load import Caller, Ledger, Session
from tests.soak.report import SoakResult, write_report
from tests.soak.samples import Samples, take_samples
from tests.soak.users import make_users
from tests.soak.verdict import judge, wait_until_settled
from tests.support.paths import REPOSITORY

_DEFAULT_MINUTES: Final = 30.0
_CALLERS_PER_USER: Final = 2
_TOKEN_MARGIN: Final = timedelta(minutes=5)
_PROGRESS_SECONDS: Final = 1.0
_REPORT_FOLDER: Final = Path(".holdfast/soak")


async def run_soak(
    folder: Path, *, duration: timedelta, console: Console, releases: list[Path]
) -> SoakResult:
    """Run one soak in an empty folder."""
    canary = Canary()
    users = make_users(canary, duration=duration + _TOKEN_MARGIN)
    seconds = duration.total_seconds()
    is_over = asyncio.Event()
    ledger = Ledger()
    async with run_deployment(folder, users) as deployment:
        started_at = time.monotonic()
        samples, log = Samples(started_at), DisturbanceLog(started_at)
        urls = [service.url or "" for service in deployment.services]
        callers = [
            Caller(user, urls, ledger, is_over) for user in users for _ in range(_CALLERS_PER_USER)
        ]
        actions = _choose_actions(canary, callers)
        disturbances = Disturbances(deployment, log, is_over, seconds=seconds, releases=releases)
        async with asyncio.TaskGroup() as group:
            group.create_task(take_samples(deployment, samples, is_over))
            group.create_task(disturbances.run())
            for caller in callers:
                group.create_task(caller.run(actions))
            group.create_task(_show_progress(console, ledger, log, duration, is_over))
            await asyncio.sleep(seconds / 2)  # the first half of the run, without the waiters
            waiters_since = time.monotonic() - started_at
            group.create_task(_wait_in_crowd(callers[0], is_over))
            await asyncio.sleep(seconds / 2)  # the second half, with them
            is_over.set()
        settle_seconds = await _settle(deployment, callers, console)
        verdict = await judge(
            deployment,
            ledger,
            log,
            samples,
            canary,
            settle_seconds=settle_seconds,
            waiters_since=waiters_since,
        )
    return SoakResult(duration, ledger, log, samples, verdict)


def _choose_actions(
    canary: Canary, callers: Sequence[Caller]
) -> list[tuple[int, Callable[[Session], Awaitable[None]]]]:
    return [
        (8, load.launch_short_job),
        (2, load.launch_failing_job),
        (4, load.launch_and_cancel),
        (2, load.launch_chain),
        (4, load.ask_model),
        (1, load.launch_batch),
        (2, load.launch_with_secret(canary)),
        (1, load.spend_in_workspace),
        (2, load.spy_on(callers)),
        (6, load.look_around),
    ]


async def _wait_in_crowd(caller: Caller, is_over: asyncio.Event) -> None:
    """Let many wait for one long job until the run is over, and call it off then."""
    session = Session(caller, caller.urls)
    handle = await load.launch_long_job(session)

    async def wait() -> None:
        own_session = Session(caller, caller.urls)
        while not is_over.is_set():
            await load.wait_for_job(own_session, handle)

    async with asyncio.TaskGroup() as group:
        for _ in range(load.WAITER_COUNT):
            group.create_task(wait())
        await is_over.wait()
        await load.cancel(session, handle)


async def _settle(deployment: Deployment, callers: Sequence[Caller], console: Console) -> float:
    """Let everybody call once more, as whoever comes back does, and the workers finish."""
    console.print("The load is over. Waiting until nothing is owed any more.", highlight=False)
    for caller in callers[::_CALLERS_PER_USER]:
        session = Session(caller, caller.urls)
        await session.call("list_jobs", limit=1)
    return await wait_until_settled(deployment)


async def _show_progress(
    console: Console,
    ledger: Ledger,
    log: DisturbanceLog,
    duration: timedelta,
    is_over: asyncio.Event,
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("soak", total=duration.total_seconds())
        while not is_over.is_set():
            progress.update(
                task,
                completed=time.monotonic() - log.started_at,
                description=(
                    f"{len(ledger.handles)} handles, {ledger.calls.total()} calls, "
                    f"{log.counts.total()} disturbances, {len(ledger.violations)} violations"
                ),
            )
            await asyncio.sleep(_PROGRESS_SECONDS)  # how often the line is drawn


def main() -> int:
    """Run the soak that the command line asks for, and write its report."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.soak", description=__doc__)
    parser.add_argument(
        "--minutes", type=float, default=_DEFAULT_MINUTES, help="how long the load lasts"
    )
    parser.add_argument(
        "--report", type=Path, default=_REPORT_FOLDER, help="the folder of the report"
    )
    options = parser.parse_args()
    console = Console()
    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # outages are counted, not printed
    with (
        TemporaryDirectory(prefix="holdfast-soak-") as folder,
        TemporaryDirectory(prefix="holdfast-next-") as release,
    ):
        result = asyncio.run(
            run_soak(
                Path(folder),
                duration=timedelta(minutes=options.minutes),
                console=console,
                releases=[make_next_release(Path(release)), REPOSITORY],
            )
        )
    page = write_report(result, options.report)
    for violation in result.verdict.violations[:50]:
        console.print(f"[red]violation[/] {violation}", highlight=False)
    console.print(
        f"{len(result.ledger.handles)} handles, {len(result.verdict.violations)} violations. "
        f"Report: {page}",
        highlight=False,
    )
    return 1 if result.verdict.violations else 0
