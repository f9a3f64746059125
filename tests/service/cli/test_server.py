"""The service as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2

from schema.messaging.redis import open_redis
from schema.settings import Settings
from service.cli.server import serve
from tests.support.factories import JobFactory
from tests.support.http_clients import AsyncHttpClient
from tests.support.hub.fake_hub import FakeHub
from tests.support.jobs.handles import job_handle, job_uri
from tests.support.mcp.client import call_for_result, post_message
from tests.support.mcp.notification_stream import open_notification_stream
from tests.support.polling import HTTP_TIMEOUT_SECONDS, eventually
from tests.support.subjects import ADA_ID

PROMPT_SECONDS = 2
"""Seconds; supervisors kill after ten."""
SERVE_SCRIPT = f"from {serve.__module__} import serve; serve('127.0.0.1', {{port}})"


async def test_a_process_serves_until_it_is_told_to_stop(
    make_settings: Callable[..., Settings], fake_hub: FakeHub
) -> None:
    """A supervisor's TERM ends it in good time, also with a client connected."""
    async with (
        run_service(make_settings(), fake_hub) as (running, url),
        AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as connected,
    ):
        await connected.get(url)
        running.send_signal(signal.SIGTERM)
        _, log_output = await anyio.to_thread.run_sync(lambda: running.communicate(timeout=9))

    assert running.returncode in (0, -signal.SIGTERM)
    assert b"service.started" in log_output


async def test_clients_are_told_the_port_that_the_process_has(
    make_settings: Callable[..., Settings], fake_hub: FakeHub
) -> None:
    """Without HOLDFAST_PUBLIC_URL they would sign in for a service on the default port."""
    async with (
        run_service(make_settings(), fake_hub) as (_, url),
        AsyncHttpClient() as http,
    ):
        metadata = (await http.get(f"{url}/.well-known/oauth-protected-resource")).json()
        refused = await http.post(f"{url}/mcp", json={})

    assert metadata["resource"] == f"{url}/mcp"
    assert f'resource_metadata="{url}/' in refused.headers["www-authenticate"]


async def test_who_waits_is_answered_when_the_process_is_told_to_stop(
    make_settings: Callable[..., Settings], fake_hub: FakeHub, make_job: JobFactory, valkey_url: str
) -> None:
    """A rolling deploy neither waits for them nor cuts them off; they wait on elsewhere."""
    job_id = job_handle((await make_job()).id)
    views: list[dict[str, Any]] = []
    async with (
        run_service(make_settings(), fake_hub) as (running, url),
        open_redis(valkey_url) as redis,
    ):

        async def waits() -> int:
            return int(await redis.zcard(f"holdfast:waits:{ADA_ID}"))  # pyright: ignore[reportUnknownMemberType]

        async def wait() -> None:
            params = {"name": "wait_for_jobs", "arguments": {"job_ids": job_id}}
            answer = await post_message(url, "tools/call", params)
            views.append(answer.json()["result"]["structuredContent"])

        async with anyio.create_task_group() as calls:
            calls.start_soon(wait)
            await eventually(waits, bool)
            running.send_signal(signal.SIGTERM)
            with anyio.fail_after(5):
                await anyio.to_thread.run_sync(running.wait)

    assert (views[0]["timed_out"], views[0]["done"]) == (True, False)
    assert "wait_for_jobs(" in views[0]["next_step"]


async def test_who_listens_is_let_go_when_the_process_is_told_to_stop(
    make_settings: Callable[..., Settings], fake_hub: FakeHub, make_job: JobFactory
) -> None:
    """An open stream holds nobody up, and ends as one that is over: they listen on elsewhere."""
    job = job_uri((await make_job()).id)
    async with run_service(make_settings(), fake_hub) as (running, url):
        made = await call_for_result(url, "create_workspace", name="mine")
        workspace = f"workspace://{made['workspace_id']}"
        async with (
            open_notification_stream(url, resourceSubscriptions=[job]) as one,
            open_notification_stream(url, resourceSubscriptions=[workspace]) as other,
        ):
            streams = [one, other]
            for heard in streams:
                await heard.read_acknowledgement()
            running.send_signal(signal.SIGTERM)
            for heard in streams:
                await heard.expect_end()
        with anyio.fail_after(PROMPT_SECONDS):
            await anyio.to_thread.run_sync(running.wait)


@asynccontextmanager
async def run_service(
    settings: Settings, hub: FakeHub
) -> AsyncGenerator[tuple[subprocess.Popen[bytes], str]]:
    """Run a service that is up."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = os.environ | {
        "HOLDFAST_DATABASE_URL": str(settings.database_url),
        "HOLDFAST_REDIS_URL": str(settings.redis_url),
        "HOLDFAST_VAULT_KEYS": settings.vault_keys.get_secret_value(),
        "HOLDFAST_HUB_URL": hub.url,
        "HOLDFAST_CALLS_PER_MINUTE": "0",
    }
    command = [sys.executable, "-c", SERVE_SCRIPT.format(port=port)]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)  # noqa: ASYNC220  # started at once
    try:
        async with AsyncHttpClient(timeout=HTTP_TIMEOUT_SECONDS) as http:
            with anyio.fail_after(20):
                while not await _is_up(http, f"http://127.0.0.1:{port}/health/ready"):
                    assert running.poll() is None, "it ended by itself"
        yield running, f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        running.wait()
        if running.stderr is not None:
            running.stderr.close()


async def _is_up(http: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx2.TransportError:
        return False
