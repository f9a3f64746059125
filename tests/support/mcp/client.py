"""The calls of the service's tools that tests make."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from service.runtime.call_observer import ERROR_META_KEY
from tests.support.http_clients import AsyncHttpClient
from tests.support.polling import HTTP_TIMEOUT_SECONDS
from tests.support.subjects import ADA_TOKEN


@asynccontextmanager
async def open_mcp_client(
    url: str, token: str = ADA_TOKEN, **options: Any
) -> AsyncGenerator[Client]:
    """Open the SDK's client, as a person would."""
    async with (
        AsyncHttpClient(
            headers={"authorization": f"Bearer {token}"}, timeout=HTTP_TIMEOUT_SECONDS
        ) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), **options) as client,
    ):
        yield client


async def call_tool(
    url: str, tool: str, *, caller_token: str = ADA_TOKEN, **arguments: Any
) -> CallToolResult:
    """Call one tool."""
    async with open_mcp_client(url, caller_token) as client:
        return await client.call_tool(tool, arguments)


async def call_for_result(
    url: str, tool: str, *, caller_token: str = ADA_TOKEN, **arguments: Any
) -> dict[str, Any]:
    """Call one tool that must succeed; return its structured result."""
    answer = await call_tool(url, tool, caller_token=caller_token, **arguments)
    assert not answer.is_error, answer_text(answer)
    view: dict[str, Any] = answer.structured_content
    return view


def answer_text(answer: CallToolResult) -> str:
    """Return the text of an answer."""
    return "\n".join(part.text for part in answer.content if isinstance(part, TextContent))


def read_refusal(answer: CallToolResult) -> dict[str, str]:
    """Return the machine-readable half of a refusal, which has no other structure."""
    assert answer.is_error
    assert answer.structured_content is None
    assert answer.meta is not None
    error: dict[str, str] = answer.meta["holdfast/error"]
    return error


def refusal_code(response: httpx2.Response) -> str:
    """Return the code of the JSON-RPC error with which a request was refused before any tool."""
    code: str = response.json()["error"]["data"][ERROR_META_KEY]["code"]
    return code


async def post_message(
    url: str, method: str, params: dict[str, Any] | None = None, **headers: str
) -> httpx2.Response:
    """Send one message of the legacy protocol: no handshake, no version, no session."""
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    defaults = {
        "authorization": f"Bearer {ADA_TOKEN}",
        "accept": "application/json, text/event-stream",
    }
    sent = {name.replace("_", "-"): value for name, value in (defaults | headers).items() if value}
    async with AsyncHttpClient(headers=sent, timeout=HTTP_TIMEOUT_SECONDS) as http:
        return await http.post(f"{url}/mcp", json=message)
