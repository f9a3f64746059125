"""FastMCP's client: `fastmcp4.py URL legacy|auto`."""

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from stdio_server import run, talk


async def main(url: str, headers: dict[str, str], mode: str) -> None:
    async with Client(StreamableHttpTransport(url, headers=headers), mode=mode) as client:
        tools = await client.list_tools()
        await talk(client.protocol_version, client.server_info.name, tools, client.call_tool_mcp)


run(main)
