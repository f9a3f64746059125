"""FastMCP with other servers: `fastmcp_beside.py proxy URL`, or `config URL GRADIO_URL`.

It launches a job through a proxy of its own, or by a configuration that has both servers; and says
on standard output what it saw.
"""

import json
import os
import sys
from typing import Any

import anyio
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server import create_proxy

HEADERS = {"Authorization": f"Bearer {os.environ['HOLDFAST_TOKEN']}"}
LAUNCH = {"image": "python:3.12", "command": ["true"]}


async def through_proxy(url: str) -> dict[str, Any]:
    async with Client(create_proxy(StreamableHttpTransport(url, headers=HEADERS))) as client:
        tools = [tool.name for tool in await client.list_tools()]
        launched = await client.call_tool("launch_job", LAUNCH)
        resources = await client.list_resource_templates()
    return {
        "tools": tools,
        "job": launched.structured_content,
        "resources": [each.uriTemplate for each in resources],
    }


async def beside_gradio(url: str, gradio_url: str) -> dict[str, Any]:
    servers = {"holdfast": {"url": url, "headers": HEADERS}, "gradio": {"url": gradio_url}}
    async with Client({"mcpServers": servers}) as client:
        tools = [tool.name for tool in await client.list_tools()]
        (counts,) = [name for name in tools if "count_letters" in name]
        counted = await client.call_tool(counts, {"text": "a job"})
        launched = await client.call_tool("holdfast_launch_job", LAUNCH)
    return {"tools": tools, "job": launched.structured_content, "counted": counted.content[0].text}


mode, *urls = sys.argv[1:]
report = anyio.run(through_proxy if mode == "proxy" else beside_gradio, *urls)
sys.stdout.write(json.dumps(report))
