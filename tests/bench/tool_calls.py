"""The scenario of tool calls over HTTP: ours beside the empty tools of the SDK and of FastMCP.

Ours checks the token of each call, limits the caller, and reads with row-level security; the empty
tools do nothing. All are served by one uvicorn process on the loopback address.
"""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from service.local.hub_emulator.users import load_users
from service.local.ports import find_free_port
from service.local.stack import Stack
from tests.bench import bare_server
from tests.bench.comparison import Rounds, collect
from tests.bench.queues import PEERS_FOLDER, PEERS_LOCK
from tests.bench.raw_http import LEGACY, MODERN, ToolCall, measure_calls
from tests.interop.python_environments import install_interpreter
from tests.support.paths import REPOSITORY
from tests.support.polling import wait_until
from tests.support.stack import without_worker

CONNECTIONS: Final = 8
_WARM_UP_CALLS: Final = 50
_JOB: Final[dict[str, Any]] = {"image": "python:3.12", "command": ["true"], "flavor": "cpu-basic"}


def measure_tool_calls(
    folder: Path, *, rounds: int, calls: int, report: Callable[[str], None]
) -> Rounds:
    """Measure every tool in both eras of the protocol, in every round."""
    results: list[tuple[str, dict[str, float]]] = []
    with ExitStack() as servers:
        # The limit of calls a minute would be reached in a second.
        environment = servers.enter_context(pytest.MonkeyPatch.context())
        environment.setenv("HOLDFAST_CALLS_PER_MINUTE", "0")
        stack = servers.enter_context(Stack(folder, report=report))
        servers.enter_context(without_worker(stack))  # the service alone is measured
        python = install_interpreter(PEERS_LOCK)
        fastmcp = [python, str(PEERS_FOLDER / "fastmcp_server.py")]
        bare = [sys.executable, "-m", bare_server.__name__]
        urls = {
            "bare SDK": servers.enter_context(_run_server(bare)),
            "FastMCP": servers.enter_context(_run_server(fastmcp)),
        }
        token = load_users(stack.folder / "hub")[0].token
        for number in range(rounds):
            for version in (LEGACY, MODERN):
                chosen = _choose_calls(stack.url, token, urls, version)
                for name in sorted(chosen, reverse=bool(number % 2)):
                    report(f"round {number + 1} of {rounds}: {name}, {version}")
                    results.append((_name(name, version), _measure(chosen[name], calls)))
    return collect(results)


def _name(name: str, version: str) -> str:
    """Name a measurement: the era of most clients of today has no suffix."""
    return name if version == LEGACY else f"{name}, {version}"


def _choose_calls(url: str, token: str, urls: dict[str, str], version: str) -> dict[str, ToolCall]:
    endpoint = f"{url}/mcp"

    def ours(tool: str, **arguments: Any) -> ToolCall:
        return ToolCall(endpoint, tool, arguments, version, token)

    handle = _launch(ours("launch_job", **_JOB))
    return {
        **{name: ToolCall(f"{each}/mcp", "empty", {}, version) for name, each in urls.items()},
        "job_status": ours("job_status", job_ids=[handle]),
        "list_jobs": ours("list_jobs", limit=20),
        "list_hardware": ours("list_hardware"),
        "dry_run": ours("launch_job", **_JOB, dry_run=True),
    }


def _launch(call: ToolCall) -> str:
    head, _, body = call.encode().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in lines if not line.startswith("Content-Length"))
    answer = httpx2.post(call.url, content=body, headers=headers).raise_for_status()
    text = answer.text.rpartition("data: ")[2] or answer.text
    handle: str = httpx2.Response(200, text=text).json()["result"]["structuredContent"]["job_id"]
    return handle


def _measure(call: ToolCall, calls: int) -> dict[str, float]:
    asyncio.run(measure_calls(call, connections=CONNECTIONS, calls=_WARM_UP_CALLS))
    started_at = time.perf_counter()
    durations = asyncio.run(measure_calls(call, connections=CONNECTIONS, calls=calls))
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
        wait_until(lambda: _is_answering(url))
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_answering(url: str) -> bool:
    try:
        httpx2.get(url)
    except httpx2.TransportError:
        return False
    return True
