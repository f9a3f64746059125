"""A client of the revision 2026-07-28 as it is on the wire, and the notifications it receives."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx2

from tests.support.http_clients import AsyncHttpClient
from tests.support.mcp.client import post_message
from tests.support.mcp.observed_answers import META_PREFIX, MODERN_REQUEST_META
from tests.support.subjects import ADA_TOKEN

TASKS_EXTENSION: Final = "io.modelcontextprotocol/tasks"
TASK_CAPABLE_META: Final[dict[str, Any]] = {
    f"{META_PREFIX}/clientCapabilities": {"extensions": {TASKS_EXTENSION: {}}}
}
"""What a request says whose answer may be a task."""
SUBSCRIPTION_ID_KEY: Final = f"{META_PREFIX}/subscriptionId"
TIMEOUT_SECONDS: Final = 15


async def send_modern_request(
    url: str,
    method: str,
    *,
    caller_token: str = ADA_TOKEN,
    supports_tasks: bool = True,
    mcp_name_header: str | None = "",
    **params: Any,
) -> httpx2.Response:
    """Send one request; `header` is what Mcp-Name says, if not what it should, and none is none."""
    meta = {**MODERN_REQUEST_META, **(TASK_CAPABLE_META if supports_tasks else {})}
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": method}
    if mcp_name_header is not None:
        headers["mcp_name"] = mcp_name_header or params.get("taskId") or params["name"]
    sent = {**params, "_meta": meta}
    return await post_message(url, method, sent, authorization=f"Bearer {caller_token}", **headers)


async def call_task_method(url: str, method: str, task_id: str, **params: Any) -> dict[str, Any]:
    """Ask about a task that there is."""
    answer = await send_modern_request(url, f"tasks/{method}", taskId=task_id, **params)
    result: dict[str, Any] = answer.json()["result"]
    return result


class NotificationStream:
    """The messages of one stream, in order."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next_message(self) -> dict[str, Any]:
        """Return the next one.

        Raises:
            StopAsyncIteration: the stream has ended.
        """
        with anyio.fail_after(TIMEOUT_SECONDS):
            while True:
                line = await anext(self._lines)
                if line.startswith("data: "):
                    message: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return message

    async def next_notification(self, method: str) -> dict[str, Any]:
        """Return what the next message tells, which is a notification of that kind."""
        message = await self.next_message()
        assert message.get("method") == f"notifications/{method}", message
        assert message["params"]["_meta"] == {SUBSCRIPTION_ID_KEY: 1}
        params: dict[str, Any] = message["params"]
        return params

    async def read_acknowledgement(self) -> dict[str, Any]:
        """Return what the server says it will tell of."""
        honoured: dict[str, Any] = (await self.next_notification("subscriptions/acknowledged"))[
            "notifications"
        ]
        return honoured

    async def read_error(self) -> dict[str, Any]:
        """Return the error that came instead of a stream."""
        assert self.response.headers["content-type"] == "application/json"
        await self.response.aread()
        error: dict[str, Any] = self.response.json()["error"]
        return error

    async def expect_end(self) -> None:
        """See the server end it, as it is meant to be ended."""
        message = await self.next_message()
        assert message.get("result", {}).get("resultType") == "complete", message
        assert message["result"]["_meta"][SUBSCRIPTION_ID_KEY] == 1
        assert [each async for each in _remaining_messages(self._lines)] == []


async def _remaining_messages(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith("data: "):
            yield line


@asynccontextmanager
async def open_notification_stream(
    url: str, *, caller_token: str = ADA_TOKEN, supports_tasks: bool = True, **subscriptions: Any
) -> AsyncGenerator[NotificationStream]:
    """Open a stream: `resourceSubscriptions`, `taskIds`."""
    method = "subscriptions/listen"
    headers = {
        "authorization": f"Bearer {caller_token}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
    }
    params = {
        "notifications": subscriptions,
        "_meta": {**MODERN_REQUEST_META, **(TASK_CAPABLE_META if supports_tasks else {})},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with (
        AsyncHttpClient(headers=headers, timeout=TIMEOUT_SECONDS) as http,
        http.stream("POST", f"{url}/mcp", json=message) as response,
    ):
        yield NotificationStream(response)
