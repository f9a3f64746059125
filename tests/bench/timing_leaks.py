"""A measurement: does a foreign handle take as long to refuse as one that does not exist.

    python3 -m tests.bench.timing_leaks [--calls N] [--seed N]

Bob asks for jobs of Ada's and for jobs of nobody's, in turns whose order is drawn. For each tool
and each way of speaking MCP it prints both medians, and how likely so great a difference of the
pairs is by chance (Wilcoxon's signed ranks). Nothing is judged here: a machine that is busy
spreads the times, less so the differences of pairs, but only N says how small a one would show.
"""

import argparse
import base64
import os
import random
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import anyio
import httpx2
from rich.console import Console
from rich.table import Table

from schema.common import ids
from schema.common.ids import HandleKind
from schema.db import revisions
from schema.settings import Settings
from service.app import create_app
from tests.support.database.servers import run_postgres, run_valkey
from tests.support.http_server import serve_app
from tests.support.hub.fake_hub import run_fake_hub
from tests.support.mcp.observed_answers import MODERN_REQUEST_META
from tests.support.subjects import ADA_TOKEN, BOB_TOKEN

TOOLS: Final = {
    "job_status": "job_ids",
    "job_logs": "job_id",
    "job_result": "job_id",
    "cancel_job": "job_id",
    "list_jobs": "workspace_id",
}
_WARMUP_CALLS: Final = 50
_FOREIGN_HANDLE_COUNT: Final = 50
"""How many handles of Ada's are asked for; an unknown one is another each time."""


@dataclass
class CallTimes:
    """What the same call took, in microseconds."""

    foreign: list[float] = field(default_factory=list[float])
    unknown: list[float] = field(default_factory=list[float])


def p_value(first: Sequence[float], second: Sequence[float]) -> float:
    """Return how likely differences so lopsided are by chance: Wilcoxon's signed ranks, two-sided.

    Pairs, for two calls in a row share what the machine was doing, which a test that ignores it
    takes for spread: it then finds nothing, whatever there is. Good from about 20 pairs on.
    """
    differences = [a - b for a, b in zip(first, second, strict=True) if a != b]
    positive, ties, before = 0.0, 0, 0
    for _, group in groupby(sorted(differences, key=abs), key=abs):
        same = list(group)
        positive += sum(each > 0 for each in same) * (before + (len(same) + 1) / 2)
        ties += len(same) ** 3 - len(same)
        before += len(same)
    n = len(differences)
    spread = (n * (n + 1) * (2 * n + 1) / 24 - ties / 48) ** 0.5
    if not spread:
        return 1.0
    distance = max(0.0, abs(positive - n * (n + 1) / 4) - 0.5) / spread
    return 2 * (1 - statistics.NormalDist().cdf(distance))


@dataclass
class Attacker:
    """Somebody with a token, and one connection that is kept."""

    http: httpx2.AsyncClient
    url: str

    async def call_tool(
        self,
        tool: str,
        arguments: dict[str, Any],
        *,
        caller_token: str = BOB_TOKEN,
        modern: bool = False,
    ) -> tuple[httpx2.Response, float]:
        """Call a tool; return the answer, and what it took in microseconds."""
        params: dict[str, Any] = {"name": tool, "arguments": arguments}
        headers = {
            "authorization": f"Bearer {caller_token}",
            "accept": "application/json, text/event-stream",
        }
        if modern:
            params["_meta"] = MODERN_REQUEST_META
            headers |= {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}
            headers["mcp-name"] = tool
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        started = time.perf_counter_ns()
        response = await self.http.post(f"{self.url}/mcp", json=message, headers=headers)
        return response, (time.perf_counter_ns() - started) / 1000

    async def create(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Make something of Ada's."""
        response, _ = await self.call_tool(tool, arguments, caller_token=ADA_TOKEN)
        view: dict[str, Any] = response.json()["result"]["structuredContent"]
        return view

    async def compare(
        self, tool: str, foreign: Sequence[str], draw: random.Random, *, calls: int, modern: bool
    ) -> CallTimes:
        """Ask `calls` times for each of the two, in turns."""
        times = CallTimes()
        kind = HandleKind.JOB if foreign[0].startswith(HandleKind.JOB) else HandleKind.WORKSPACE
        for number in range(_WARMUP_CALLS + calls):
            turns: list[tuple[str, list[float]]] = [
                (draw.choice(foreign), times.foreign),
                (ids.format_handle(kind, ids.new_id()), times.unknown),
            ]
            draw.shuffle(turns)
            for handle, samples in turns:
                response, took = await self.call_tool(tool, {TOOLS[tool]: handle}, modern=modern)
                assert b'"code":"NotFound"' in response.content, response.text
                if number >= _WARMUP_CALLS:
                    samples.append(took)
        return times


@asynccontextmanager
async def open_attacker(folder: Path) -> AsyncGenerator[Attacker]:
    """Run a service that counts nobody's calls, and open a connection to it."""
    (folder / "postgres").mkdir()
    (folder / "valkey").mkdir()
    with (
        run_postgres(folder / "postgres") as database_url,
        run_valkey(folder / "valkey") as redis_url,
        run_fake_hub() as hub,
    ):
        await anyio.to_thread.run_sync(revisions.upgrade_to_revision, database_url)
        values = {
            "HOLDFAST_DATABASE_URL": database_url,
            "HOLDFAST_REDIS_URL": redis_url,
            "vault_keys": f"1:{base64.b64encode(os.urandom(32)).decode()}",
            "hub_url": hub.url,
            "data_dir": str(folder),
            "calls_per_minute": 0,
        }
        with serve_app(create_app(Settings.model_validate(values))) as url:
            async with httpx2.AsyncClient(timeout=30) as http:
                yield Attacker(http, url)


async def measure_tools(
    calls: int, seed: int, report_times: Callable[[str, str, CallTimes], None]
) -> None:
    """Measure every tool both ways."""
    draw = random.Random(seed)  # noqa: S311  # an order, not a secret
    with TemporaryDirectory(prefix="hf-") as folder:
        async with open_attacker(Path(folder)) as bob:
            jobs, groups = list[str](), list[str]()
            for number in range(_FOREIGN_HANDLE_COUNT):
                group = await bob.create("create_workspace", name=f"group {number}")
                groups.append(group["workspace_id"])
                job = await bob.create("launch_job", image="python:3.12", command=["true"])
                jobs.append(job["job_id"])
            for tool, argument in TOOLS.items():
                for modern in (False, True):
                    foreign = groups if argument == "workspace_id" else jobs
                    times = await bob.compare(tool, foreign, draw, calls=calls, modern=modern)
                    report_times(tool, "modern" if modern else "legacy", times)


def main() -> None:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=1000, help="of each of the two, each time")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    console = Console()
    table = Table("tool", "era", "foreign µs", "unknown µs", "difference", "p")
    for column in table.columns[2:]:
        column.justify = "right"

    def show(tool: str, era: str, times: CallTimes) -> None:
        medians = [statistics.median(each) for each in (times.foreign, times.unknown)]
        numbers = [*(f"{each:.0f}" for each in medians), f"{medians[0] - medians[1]:+.1f}"]
        table.add_row(tool, era, *numbers, f"{p_value(times.foreign, times.unknown):.3f}")

    anyio.run(measure_tools, arguments.calls, arguments.seed, show)
    console.print(table)
    console.print(f"Medians of {arguments.calls} calls each, in turns; p by Wilcoxon.")


if __name__ == "__main__":
    main()
