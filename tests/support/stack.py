"""One local stack for all tests of a process, and a caller of it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from service.local.hub_emulator.spaces.routes import SPACE_PROXY_PATH
from service.local.hub_emulator.users import load_users
from service.local.stack import Stack
from service.web.client_config import Connection
from tests.support.http_clients import AsyncHttpClient, get_once
from tests.support.polling import DEFAULT_TIMEOUT, HTTP_TIMEOUT_SECONDS, POLL_INTERVAL, eventually


@dataclass(frozen=True, slots=True)
class McpCaller:
    """A signed-in user of the service."""

    connection: Connection

    async def call_tool(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its structured result."""
        async with (
            AsyncHttpClient(headers=self.connection.headers, timeout=HTTP_TIMEOUT_SECONDS) as http,
            Client(streamable_http_client(self.connection.endpoint, http_client=http)) as client,
        ):
            result = await client.call_tool(tool, arguments)
        assert not result.is_error, result.content
        answer: dict[str, Any] | None = result.structured_content
        assert answer is not None
        return answer

    async def launch(self, *command: str, **overrides: Any) -> str:
        """Launch a job and return its handle."""
        launched = await self.call_tool(
            "launch_job", image="python:3.12", command=list(command), **overrides
        )
        return str(launched["job_id"])

    async def read_job(self, handle: str) -> dict[str, Any]:
        """Return the view of one job."""
        answer = await self.call_tool("job_status", job_ids=[handle])
        view: dict[str, Any] = answer["jobs"][0]
        return view

    async def wait_until(
        self,
        handle: str,
        predicate: Callable[[dict[str, Any]], bool],
        *,
        timeout: timedelta = DEFAULT_TIMEOUT,
    ) -> dict[str, Any]:
        """Poll a job until something holds of its view, and return that view."""
        return await eventually(lambda: self.read_job(handle), predicate, timeout=timeout)

    async def wait_until_finished(self, handle: str) -> dict[str, Any]:
        """Wait for a job to be over."""
        return await self.wait_until(handle, lambda view: view["finished_at"] is not None)

    async def read_log(self, handle: str) -> list[str]:
        """Return the lines of a job's log."""
        answer = await self.call_tool("job_logs", job_id=handle)
        return [line["text"] for line in answer["lines"]]


@contextmanager
def without_worker(stack: Stack) -> Generator[None]:
    """Stop the stack's worker for the length of a block."""
    stack.stop_worker()
    try:
        yield
    finally:
        stack.start_worker()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    """The local stack, as `holdfast up` runs it."""
    folder = tmp_path_factory.mktemp("stack")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HOLDFAST_CALLS_PER_MINUTE", "0")  # tests poll faster than people
        environment.setenv("HOLDFAST_OUTPUTS_PATIENCE", "3s")  # the local Hub is quick
        with Stack(folder, report=print, durable=False) as running:
            yield running


@pytest.fixture(scope="session")
def space_url(stack: Stack) -> str:
    """The address of the stack's Gradio Space, once it is awake."""
    address = f"{stack.hub_url}{SPACE_PROXY_PATH}/local-tiny"
    for _ in range(1000):
        if get_once(f"{address}/config").is_success:
            return address
        time.sleep(POLL_INTERVAL.total_seconds())  # between two looks at what another process does
    pytest.fail("the Space never woke")


@pytest.fixture
def alice(stack: Stack) -> McpCaller:
    """A user who may launch jobs."""
    return McpCaller(Connection(stack.url, load_users(stack.folder / "hub")[0].token))
