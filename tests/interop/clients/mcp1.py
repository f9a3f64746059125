"""The Python SDK's client, version 1, which most frameworks still pin: `mcp1.py URL legacy`."""

import httpx
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from stdio_server import run, talk


async def main(url: str, headers: dict[str, str], _mode: str) -> None:
    async with (
        httpx.AsyncClient(headers=headers, timeout=20) as http,
        streamable_http_client(url, http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        greeting = await session.initialize()
        # Listed before the calls: only then does it check a result against its output schema.
        tools = (await session.list_tools()).tools
        version = str(greeting.protocolVersion)
        await talk(version, greeting.serverInfo.name, tools, session.call_tool)


run(main)
