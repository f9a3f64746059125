"""The scenario of tool calls over HTTP: ours beside the empty tools of the SDK and of FastMCP.

Ours checks the token of each call, limits the caller, and reads with row-level security; the empty
tools do nothing. A bare route of Starlette does not even speak MCP, and no call can be quicker. All
are served by one uvicorn process on the loopback address.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import httpx2
import pytest

from service.local.hub_emulator.users import load_users
from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.bench import bare_server
from tests.bench.comparison import Rounds, collect
from tests.bench.raw_http import LEGACY, MODERN, ToolCall, measure_calls
from tests.bench.scenario import BenchRun, Size
from tests.bench.scenarios.queues import PEERS_FOLDER, PEERS_LOCK
from tests.interop.python_environments import install_interpreter
from tests.support.paths import REPOSITORY
from tests.support.polling import wait_until
from tests.support.stack import without_worker

CONNECTIONS: Final = 8
_WARM_UP_CALLS: Final = 50
_CALLS: Final = {Size.TINY: 20, Size.QUICK: 300, Size.FULL: 2000}
_MANY_HANDLES: Final = 50
"""As many as `job_status` takes in one call."""
JOB: Final[dict[str, Any]] = {"image": "python:3.12", "command": ["true"], "flavor": "cpu-basic"}


def measure_tool_calls(run: BenchRun) -> Rounds:
    """Measure every tool in both eras of the protocol, in every round."""
    results: list[tuple[str, dict[str, float]]] = []
    with ExitStack() as servers:
        # The limit of calls a minute would be reached in a second.
        environment = servers.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("HOLDFAST_CALLS_PER_MINUTE", "0")
        stack = servers.enter_context(Stack(run.folder, report=run.report))
        servers.enter_context(without_worker(stack))  # the service alone is measured
        python = install_interpreter(PEERS_LOCK)
        fastmcp = [python, str(PEERS_FOLDER / "fastmcp_server.py")]
        bare = [sys.executable, "-m", bare_server.__name__]
        urls = {
            "bare SDK": servers.enter_context(_run_server([*bare, "sdk"])),
            "FastMCP": servers.enter_context(_run_server(fastmcp)),
        }
        route = servers.enter_context(_run_server([*bare, "starlette"]))
        token = load_users(stack.folder / "hub")[0].token
        endpoint = f"{stack.url}/mcp"
        launch = ToolCall(endpoint, "launch_job", JOB, LEGACY, token)
        handles = [launch_one(launch) for _ in range(_MANY_HANDLES)]
        for number in range(run.rounds):
            for version in (LEGACY, MODERN):
                chosen = _choose_calls(endpoint, token, handles, version) | {
                    name: ToolCall(f"{url}/mcp", "empty", {}, version) for name, url in urls.items()
                }
                if version == LEGACY:  # the route knows no versions
                    chosen["bare Starlette"] = ToolCall(f"{route}/mcp", "empty", {}, version)
                for name in sorted(chosen, reverse=bool(number % 2)):
                    run.report(f"round {number + 1} of {run.rounds}: {name}, {version}")
                    measures = _measure(chosen[name], _CALLS[run.size])
                    results.append((_name(name, version), measures))
    return collect(results)


def _name(name: str, version: str) -> str:
    """Name a measurement: the era of most clients of today has no suffix."""
    return name if version == LEGACY else f"{name}, {version}"


def _choose_calls(
    endpoint: str, token: str, handles: list[str], version: str
) -> dict[str, ToolCall]:
    def ours(tool: str, **arguments: Any) -> ToolCall:
        return ToolCall(endpoint, tool, arguments, version, token)

    return {
        "job_status": ours("job_status", job_ids=handles[:1]),
        "job_status of 50": ours("job_status", job_ids=handles),
        "list_jobs": ours("list_jobs", limit=20),
        "list_hardware": ours("list_hardware"),
        "dry_run": ours("launch_job", **JOB, dry_run=True),
    }


def launch_one(call: ToolCall) -> str:
    """Launch a job, and return its handle."""
    head, _, body = call.encode().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in lines if not line.startswith("Content-Length"))
    answer = httpx2.post(call.url, content=body, headers=headers).raise_for_status()
    text = answer.text.rpartition("data: ")[2] or answer.text
    handle: str = httpx2.Response(200, text=text).json()["result"]["structuredContent"]["job_id"]
    return handle


def _measure(call: ToolCall, calls: int) -> dict[str, float]:
    asyncio.run(measure_calls([call] * _WARM_UP_CALLS, connections=CONNECTIONS))
    started_at = time.perf_counter()
    durations = asyncio.run(measure_calls([call] * calls, connections=CONNECTIONS))
    return {
        "calls_per_second": calls / (time.perf_counter() - started_at),
        "p50_ms": statistics.median(durations),
        "p95_ms": statistics.quantiles(durations, n=20)[-1],
    }


@contextmanager
def _run_server(command: list[str]) -> Generator[str]:
    url = f"http://127.0.0.1:{(port := find_free_port())}"
    process = subprocess.Popen([*command, str(port)], cwd=REPOSITORY)
    try:
        wait_until(lambda: is_answering(url))
        yield url
    finally:
        process.terminate()
        process.wait()


def is_answering(url: str) -> bool:
    """Say whether a server takes connections."""
    try:
        httpx2.get(url)
    except httpx2.TransportError:
        return False
    return True
