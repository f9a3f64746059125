"""A client of the revision 2026-07-28 as it is on the wire, and what it hears while it listens."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx2

from tests.service.attack import META, MODERN_META
from tests.service.stand_in import ADAS, post

TASKS: Final = "io.modelcontextprotocol/tasks"
ABLE: Final[dict[str, Any]] = {f"{META}/clientCapabilities": {"extensions": {TASKS: {}}}}
"""What a request says whose answer may be a task."""
SUBSCRIPTION: Final = f"{META}/subscriptionId"
SOON: Final = 15


async def ask(
    url: str,
    method: str,
    *,
    by: str = ADAS,
    able: bool = True,
    header: str | None = "",
    **params: Any,
) -> httpx2.Response:
    """Send one request; `header` is what Mcp-Name says, if not what it should, and none is none."""
    meta = {**MODERN_META, **(ABLE if able else {})}
    headers = {"mcp_protocol_version": "2026-07-28", "mcp_method": method}
    if header is not None:
        headers["mcp_name"] = header or params.get("taskId") or params["name"]
    sent = {**params, "_meta": meta}
    return await post(url, method, sent, authorization=f"Bearer {by}", **headers)


async def task(url: str, method: str, task_id: str, **params: Any) -> dict[str, Any]:
    """Ask about a task that there is."""
    answer = await ask(url, f"tasks/{method}", taskId=task_id, **params)
    result: dict[str, Any] = answer.json()["result"]
    return result


class Heard:
    """The messages of one stream, in order."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        """Return the next one.

        Raises:
            StopAsyncIteration: the stream has ended.
        """
        with anyio.fail_after(SOON):
            while True:
                line = await anext(self._lines)
                if line.startswith("data: "):
                    message: dict[str, Any] = json.loads(line.removeprefix("data: "))
                    return message

    async def told(self, method: str) -> dict[str, Any]:
        """Return what the next message tells, which is a notification of that kind."""
        message = await self.next()
        assert message.get("method") == f"notifications/{method}", message
        assert message["params"]["_meta"] == {SUBSCRIPTION: 1}
        params: dict[str, Any] = message["params"]
        return params

    async def acknowledged(self) -> dict[str, Any]:
        """Return what the server says it will tell of."""
        honoured: dict[str, Any] = (await self.told("subscriptions/acknowledged"))["notifications"]
        return honoured

    async def refusal(self) -> dict[str, Any]:
        """Return the error that came instead of a stream."""
        assert self.response.headers["content-type"] == "application/json"
        await self.response.aread()
        error: dict[str, Any] = self.response.json()["error"]
        return error

    async def end(self) -> None:
        """See the server end it, as it is meant to be ended."""
        message = await self.next()
        assert message.get("result", {}).get("resultType") == "complete", message
        assert message["result"]["_meta"][SUBSCRIPTION] == 1
        assert [each async for each in _rest(self._lines)] == []


async def _rest(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith("data: "):
            yield line


@asynccontextmanager
async def listening(
    url: str, *, by: str = ADAS, able: bool = True, **wanted: Any
) -> AsyncGenerator[Heard]:
    """Open a stream: `resourceSubscriptions`, `taskIds`."""
    method = "subscriptions/listen"
    headers = {
        "authorization": f"Bearer {by}",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2026-07-28",
        "mcp-method": method,
    }
    params = {"notifications": wanted, "_meta": {**MODERN_META, **(ABLE if able else {})}}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=SOON) as http,
        http.stream("POST", f"{url}/mcp", json=message) as response,
    ):
        yield Heard(response)
