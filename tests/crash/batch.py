"""A batch whose worker is killed again and again; `python3 -m tests.crash.batch` plays a long one.

The router writes down each prompt as it comes, in a process that nobody kills: what the database
says of the items is compared with what was really sent.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from uuid import UUID

from rich.console import Console

from schema.batches import store as batch_store
from schema.common import ids
from schema.db import revisions
from schema.jobs import lifecycle
from schema.jobs.tables import FINAL_STATES, JobKind, JobState
from schema.specs.batch import ItemRequest
from service.local.ports import find_free_port
from service.local.servers.postgres import Postgres
from service.local.servers.valkey import Valkey
from tests.crash.crash_matrix import CrashCase
from tests.crash.faulty_hub import Fault
from tests.crash.processes import ForkServer, run_fork_server
from tests.crash.scenario import ScenarioContext, lend_token, open_context

CONCURRENCY: Final = 8
_POLL_SECONDS: Final = 0.01
_TIMEOUT_SECONDS: Final = 60.0
_FAILPOINTS: Final = ("", "batch.marked", "", "batch.written")
"""Where the workers are killed in turn; the empty name is a random moment."""


@dataclass(slots=True)
class BatchReport:
    """The end of a batch, and of the requests that were sent for it."""

    items: int
    on_unknown: str
    kill_count: int = 0
    states: Counter[str] = field(default_factory=Counter[str])
    request_counts: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list[str])

    @property
    def repeated(self) -> int:
        """How many requests were sent for items that one had been sent for."""
        return sum(times - 1 for times in self.request_counts.values())

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.states.items()))
        return (
            f"{self.items} items, on_unknown={self.on_unknown}, {self.kill_count} kills, "
            f"{self.seconds:.1f} s: {states}; {self.request_counts.total()} requests, "
            f"{self.repeated} of them repeated"
        )


async def run_batch(
    fork_server: ForkServer,
    postgres: Postgres,
    template: str,
    valkey_url: str,
    *,
    items: int,
    kills: int,
    on_unknown: str,
) -> BatchReport:
    """Run a batch, kill its workers, and compare its rows with what was sent."""
    report, started = BatchReport(items, on_unknown), time.monotonic()
    case = CrashCase("batch", Fault.NONE)
    async with open_context(case, fork_server, postgres, template, valkey_url) as stage:
        port, ledger = find_free_port(), fork_server.folder / f"ledger-{started}"
        ledger.touch()
        router = await fork_server.start(
            "router", str(fork_server.folder / "hub"), port, str(ledger)
        )
        stage.environment["HOLDFAST_ROUTER_URL"] = f"http://127.0.0.1:{port}"
        await lend_token(stage)
        job_id = await submit_batch(stage, items, on_unknown)
        snapshots = list[tuple[set[str], int]]()
        for kill in range(kills):
            place = _FAILPOINTS[kill % len(_FAILPOINTS)]
            await _run_worker_until_killed(stage, job_id, ledger, place, items, kills)
            report.kill_count += 1
            snapshots.append((await _read_done_items(stage, job_id), len(_read_prompts(ledger))))
        await _run_worker_to_end(stage, job_id)
        await router.kill()
        report.seconds = time.monotonic() - started
        await _check_report(report, stage, job_id, _read_prompts(ledger), snapshots)
    return report


async def submit_batch(stage: ScenarioContext, items: int, on_unknown: str) -> UUID:
    """Put a batch of so many items in the queue."""
    spec: dict[str, Any] = {
        "model": "local/echo",
        "timeout": 30,
        "concurrency": CONCURRENCY,
        "on_unknown": on_unknown,
        "max_tries": 10,
        "items": {"count": items, "origin": "crash"},
    }
    requests = [
        ItemRequest(f"item-{number}", {"inputs": f"item-{number}", "parameters": {}})
        for number in range(items)
    ]
    async with stage.database.transaction() as tx:
        job = await lifecycle.submit_job(
            tx,
            job_id=ids.new_id(),
            subject_id=stage.user.id,
            kind=JobKind.BATCH,
            namespace="alice",
            title="crash",
            spec=spec,
            labels={},
            max_open_jobs=10,
        )
        await batch_store.add_items(tx, job.id, stage.user.id, requests)
    return job.id


async def _run_worker_until_killed(
    stage: ScenarioContext,
    job_id: UUID,
    ledger: Path,
    failpoint_name: str,
    items: int,
    kills: int,
) -> None:
    """Run a worker until some more items were sent, and end it."""
    failpoint = f"{failpoint_name}:{random.randint(2, 4)}:kill" if failpoint_name else ""  # noqa: S311  # no secret
    environment = stage.environment | {"HOLDFAST_FAILPOINT": failpoint}
    worker = await stage.fork_server.start("worker", environment=environment)
    share = max(1, items // (kills + 1))
    # Never more than there are: a quick machine may have sent nearly all of them by now.
    enough = min(
        len(_read_prompts(ledger)) + random.randint(1, share),  # noqa: S311  # as above
        items - CONCURRENCY,
    )
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while not worker.exit_code.done():
        assert not await is_over(stage, job_id), "too few items for so many kills"
        assert time.monotonic() < deadline, "the worker sends no more items"
        if not failpoint_name and len(_read_prompts(ledger)) >= enough:
            await asyncio.sleep(random.uniform(0, 0.05))  # noqa: S311  # as above
            await worker.kill()
            return
        await asyncio.sleep(_POLL_SECONDS)  # between two looks at what others do


async def _run_worker_to_end(stage: ScenarioContext, job_id: UUID) -> None:
    worker = await stage.fork_server.start("worker", environment=stage.environment)
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        await asyncio.sleep(10 * _POLL_SECONDS)  # between two looks at what others do
        if await is_over(stage, job_id):
            break
    await worker.kill()


async def is_over(stage: ScenarioContext, job_id: UUID) -> bool:
    """Tell whether a job is in a final state."""
    async with stage.database.transaction() as tx:
        state = await tx.fetchval("SELECT state FROM job WHERE id = $1", job_id)
    return JobState(state) in FINAL_STATES


async def _read_done_items(stage: ScenarioContext, job_id: UUID) -> set[str]:
    async with stage.database.transaction() as tx:
        rows = await tx.fetch(
            "SELECT custom_id FROM batch_item WHERE job_id = $1 AND state = 'done'", job_id
        )
    return {row["custom_id"] for row in rows}


async def _check_report(
    report: BatchReport,
    stage: ScenarioContext,
    job_id: UUID,
    sent_prompts: list[str],
    snapshots: list[tuple[set[str], int]],
) -> None:
    async with stage.database.transaction() as tx:
        state = await tx.fetchval("SELECT state FROM job WHERE id = $1", job_id)
        rows = await tx.fetch("SELECT custom_id, state FROM batch_item WHERE job_id = $1", job_id)
    states = {row["custom_id"]: str(row["state"]) for row in rows}
    report.states, report.request_counts = Counter(states.values()), Counter(sent_prompts)
    in_doubt = report.kill_count * CONCURRENCY
    unsettled = report.states.keys() - {"done", "unknown"}
    unsent = [
        name
        for name, item_state in states.items()
        if item_state == "done" and name not in report.request_counts
    ]
    again = [name for done, upto in snapshots for name in sent_prompts[upto:] if name in done]
    repeating = report.on_unknown == "repeat"
    for broken, words in (
        (state != "succeeded", f"the batch is {state}"),
        (len(states) != report.items, f"there are {len(states)} items"),
        (unsettled, f"items were left {unsettled}"),
        (unsent, f"items are done that were never sent: {unsent[:5]}"),
        (again, f"items were sent again after they were done: {again[:5]}"),
        (report.states["unknown"] > in_doubt, "more items are unknown than were under way"),
        (repeating and report.states["unknown"], "items are unknown that were to be repeated"),
        (not repeating and report.repeated, f"{report.repeated} items were sent twice"),
        (report.repeated > in_doubt, "more items were sent twice than were under way"),
    ):
        if broken:
            report.violations.append(words)


def _read_prompts(ledger: Path) -> list[str]:
    return ledger.read_text("utf-8").split()


async def run_batches(folder: Path, *batches: tuple[int, int, str]) -> list[BatchReport]:
    """Start servers, and run batches of given numbers of items and kills, and a policy."""
    with ExitStack() as servers:
        postgres = Postgres(folder / "postgres", durable=True)
        valkey = Valkey(folder / "valkey", durable=False)
        servers.callback(postgres.stop)
        servers.callback(valkey.stop)
        template, redis = postgres.start(), valkey.start()
        await asyncio.to_thread(revisions.upgrade_to_revision, template)
        async with run_fork_server(folder) as processes:
            return [
                await run_batch(
                    *(processes, postgres, template, redis),
                    items=items,
                    kills=kills,
                    on_unknown=on_unknown,
                )
                for items, kills, on_unknown in batches
            ]


def main() -> int:
    """Run both policies with the options of the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.crash.batch", description=__doc__)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--kills", type=int, default=10)
    options = parser.parse_args()
    plays = [(options.items, options.kills, policy) for policy in ("report", "repeat")]
    with TemporaryDirectory(prefix="holdfast-crash-") as folder:
        reports = asyncio.run(run_batches(Path(folder), *plays))
    console = Console()
    for report in reports:
        console.print(str(report), highlight=False)
        for violation in report.violations:
            console.print(f"[red]{violation}[/]", highlight=False)
    return 1 if any(report.violations for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())
