"""A rolling deploy under load: nothing is lost, and nothing is launched twice."""

import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx2
import pytest

from service.local.hub_emulator.users import load_users
from service.local.ports import find_free_port
from service.local.stack import Stack
from service.web.client_config import Connection
from tests.support.http_clients import AsyncHttpClient, get_once
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.programs import run_program
from tests.support.stack import McpCaller, without_worker

pytestmark = pytest.mark.xdist_group("stack")

LAUNCHES = 16
LAUNCH_INTERVAL = 5
"""After so many launches the new version starts; after twice as many the old one is told to end."""
GRACE = 10
"""Seconds a supervisor waits before it kills."""


@contextmanager
def run_version(stack: Stack, port: int) -> Generator[list[subprocess.Popen[bytes]]]:
    """Run a service and a worker of their own beside whatever runs already."""
    environment = stack.environment
    with (
        run_program("service", "serve", "--port", str(port), environment=environment) as service,
        run_program("service", "worker", environment=environment) as worker,
    ):
        yield [service, worker]


async def is_ready(url: str) -> bool:
    try:
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as client:
            return (await client.get(f"{url}/health/ready")).is_success
    except httpx2.TransportError:
        return False


def hub_jobs(stack: Stack, name: str) -> list[dict[str, Any]]:
    token = load_users(stack.folder / "hub")[0].token
    answer = get_once(
        f"{stack.hub_url}/api/jobs/alice",
        params={"label": f"deploy={name}"},
        headers={"Authorization": f"Bearer {token}"},
    )
    jobs: list[dict[str, Any]] = answer.raise_for_status().json()
    return jobs


async def test_a_new_version_takes_over_under_load(stack: Stack) -> None:
    """Old and new run side by side for a while; the old ones end by themselves, in time."""
    ports = find_free_port(), find_free_port()
    token = load_users(stack.folder / "hub")[0].token
    callers = [McpCaller(Connection(f"http://127.0.0.1:{port}", token)) for port in ports]
    with without_worker(stack), run_version(stack, ports[0]) as old:
        await eventually(lambda: is_ready(callers[0].connection.url), bool)
        handles: list[str] = []
        with run_version(stack, ports[1]):
            for number in range(LAUNCHES):
                if number == LAUNCH_INTERVAL:
                    await eventually(lambda: is_ready(callers[1].connection.url), bool)
                if number == 2 * LAUNCH_INTERVAL:
                    for process in old:
                        process.terminate()
                handles.append(await launch(callers, number))
            codes = [await anyio.to_thread.run_sync(wait_for_exit, process) for process in old]
            views = [await callers[-1].wait_until_finished(handle) for handle in handles]

    # uvicorn ends by the signal that told it to, once every call is answered.
    assert codes == [-signal.SIGTERM, 0]
    assert len(set(handles)) == LAUNCHES
    assert {view["state"] for view in views} == {"succeeded"}
    assert len(hub_jobs(stack, str(ports[0]))) == LAUNCHES


async def launch(callers: list[McpCaller], number: int) -> str:
    """Launch as a client behind a load balancer does: whoever hangs up, the next one is asked."""
    name = callers[0].connection.url.rpartition(":")[2]
    options = {"labels": {"deploy": name}, "idempotency_key": f"{name}-{number}"}
    for caller in callers:
        try:
            return await caller.launch("sleep", "0.3", **options)
        except* httpx2.TransportError:
            pass
    pytest.fail("neither version answers")


def wait_for_exit(process: subprocess.Popen[bytes]) -> int:
    return process.wait(timeout=GRACE)
