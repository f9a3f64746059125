"""The service as a process of its own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import anyio
import httpx2

from schema.settings import Settings
from tests.service.stand_in import Whoami

SERVE = "from service.serve import serve; serve('127.0.0.1', {port})"


async def test_a_process_serves_until_it_is_told_to_stop(
    settings: Callable[..., Settings], hub: Whoami
) -> None:
    """A supervisor's TERM ends it in good time, also with a client connected."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = settings()
    environment = os.environ | {
        "HOLDFAST_DATABASE_URL": str(made.database_url),
        "HOLDFAST_REDIS_URL": str(made.redis_url),
        "HOLDFAST_VAULT_KEYS": made.vault_keys.get_secret_value(),
        "HOLDFAST_HUB_URL": hub.url,
    }
    command = [sys.executable, "-c", SERVE.format(port=port)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)  # noqa: ASYNC220  # started at once
    try:
        async with httpx2.AsyncClient() as http:
            with anyio.fail_after(20):
                while not await _is_up(http, f"http://127.0.0.1:{port}/health/ready"):
                    assert process.poll() is None, "it ended by itself"
            process.send_signal(signal.SIGTERM)
            _, said = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=9))
    finally:
        process.kill()

    assert process.returncode in (0, -signal.SIGTERM)
    assert b"service.started" in said


async def _is_up(http: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await http.get(url)).is_success
    except httpx2.TransportError:
        return False
