"""The Python SDK's client, version 2: `mcp2.py URL legacy|auto`."""

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from stdio_server import run, talk


async def main(url: str, headers: dict[str, str], mode: str) -> None:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=20) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        tools = (await client.list_tools()).tools
        await talk(client.protocol_version, client.server_info.name, tools, client.call_tool)


run(main)
