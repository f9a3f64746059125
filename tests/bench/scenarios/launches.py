"""The scenario of launches over HTTP: `launch_job` beside a constant tool of the same service.

No worker runs, and what was launched is cancelled after each measurement, so that every one begins
with an empty queue.
"""

import asyncio
import json
import secrets
import statistics
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

import pytest

from schema.accounts.row_security import DatabaseRole
from schema.db.database import Database
from schema.jobs import lifecycle
from service.local.data_dir import HUB_FOLDER
from service.local.hub_emulator.users import LocalTokenKind, LocalUser
from service.local.stack import Stack
from tests.bench.comparison import Rounds, collect
from tests.bench.raw_http import LEGACY, ToolCall, measure_calls
from tests.bench.scenario import BenchRun, Size
from tests.support.stack import without_worker

_CALLS: Final = {Size.TINY: 40, Size.QUICK: 300, Size.FULL: 2000}
_CALLERS: Final = 16
_USERS: Final = 20
_WARM_UP_CALLS: Final = 20


def measure_launches(run: BenchRun) -> Rounds:
    """Measure launches by one caller and by several, of one person and of several."""
    results: list[tuple[str, dict[str, float]]] = []
    with ExitStack() as servers:
        environment = servers.enter_context(pytest.MonkeyPatch.context())
        # Both limits would be reached within seconds.
        environment.setenv("HOLDFAST_CALLS_PER_MINUTE", "0")
        environment.setenv("HOLDFAST_OPEN_JOBS", "1000000")
        tokens = _create_users(run.folder)
        stack = servers.enter_context(Stack(run.folder, report=run.report))
        servers.enter_context(without_worker(stack))  # the service alone is measured
        launches = LaunchLoad(f"{stack.url}/mcp", stack.database_url, tokens)
        for token in tokens:
            launches.warm_up(token)
        for number in range(run.rounds):
            names = sorted(launches.scenarios, reverse=bool(number % 2))
            for name in names:
                run.report(f"round {number + 1} of {run.rounds}: {name}")
                results.append((name, launches.measure(name, _CALLS[run.size])))
    return collect(results)


class LaunchLoad:
    """Calls of the service by its users."""

    def __init__(self, endpoint: str, database_url: str, tokens: list[str]) -> None:
        self._endpoint = endpoint
        self._database_url = database_url
        self._tokens = tokens
        self._launches = 0
        self.scenarios: dict[str, tuple[str, int, list[str]]] = {
            "list_hardware (constant)": ("list_hardware", 1, tokens[:1]),
            "launch_job": ("launch_job", 1, tokens[:1]),
            f"list_hardware, {_CALLERS} callers": ("list_hardware", _CALLERS, tokens[:1]),
            f"launch_job, {_CALLERS} callers": ("launch_job", _CALLERS, tokens[:1]),
            f"launch_job, {_CALLERS} callers of {_USERS} people": ("launch_job", _CALLERS, tokens),
        }
        """By name: the tool, how many call it at a time, and by which tokens in turn."""

    def warm_up(self, token: str) -> None:
        """Let the service know a token, and open its connections."""
        for tool in ("list_hardware", "launch_job"):
            calls = [self._make_call(tool, token) for _ in range(_WARM_UP_CALLS)]
            asyncio.run(measure_calls(calls, connections=2))
        self._cancel_queued_jobs()

    def measure(self, name: str, count: int) -> dict[str, float]:
        """Make so many calls, no two of them the same launch."""
        tool, callers, tokens = self.scenarios[name]
        calls = [self._make_call(tool, tokens[number % len(tokens)]) for number in range(count)]
        started_at = time.perf_counter()
        durations = asyncio.run(measure_calls(calls, connections=callers))
        seconds = time.perf_counter() - started_at
        self._cancel_queued_jobs()
        return {
            "p50_ms": statistics.median(durations),
            "p95_ms": statistics.quantiles(durations, n=20)[-1],
            "calls_per_second": count / seconds,
        }

    def _make_call(self, tool: str, token: str) -> ToolCall:
        if tool != "launch_job":
            return ToolCall(self._endpoint, tool, {}, LEGACY, token)
        self._launches += 1
        arguments = {
            "image": "python:3.12",
            "command": ["echo", str(self._launches)],
            "flavor": "cpu-basic",
        }
        return ToolCall(self._endpoint, tool, arguments, LEGACY, token)

    def _cancel_queued_jobs(self) -> None:
        asyncio.run(_cancel_queued_jobs(self._database_url))


async def _cancel_queued_jobs(url: str) -> None:
    """Cancel all queued jobs, in one transaction: their number is part of every status."""
    async with (
        Database(url, application_name="bench", role=DatabaseRole.WORKER) as database,
        database.transaction() as tx,
    ):
        for job in await tx.fetch("SELECT id, subject_id FROM job WHERE state = 'queued'"):
            await lifecycle.cancel_job(tx, job["id"], subject_id=job["subject_id"])


def _create_users(folder: Path) -> list[str]:
    """Create the users of a Hub that has not started yet; return a token of each."""
    users = [
        LocalUser(
            id=secrets.token_hex(12),
            name=f"person-{number}",
            kind=LocalTokenKind.WRITE,
            token=f"hf_bench_{number}_{secrets.token_urlsafe(24)}",
            pays=True,
            orgs=[],
            expires_at=None,
        )
        for number in range(_USERS)
    ]
    hub = folder / HUB_FOLDER
    hub.mkdir(mode=0o700)
    (hub / "users.json").write_text(json.dumps([asdict(user) for user in users]), "utf-8")
    return [user.token for user in users]
