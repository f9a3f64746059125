"""Servers that do nothing: the floors of what a tool call can cost.

    python -m tests.bench.bare_server {sdk,starlette} PORT

One is a server of the MCP SDK with one empty tool, the other a route of Starlette that reads the
JSON of the request and answers as such a tool does, without the protocol.
"""

import logging
import sys
from typing import Final

import uvicorn
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_RESULT: Final = {"content": [{"type": "text", "text": ""}], "isError": False}


async def empty() -> str:
    """Do nothing."""
    return ""


def build_sdk_app() -> Starlette:
    """Build an MCP server with one empty tool."""
    server = MCPServer("bare")
    server.add_tool(empty)
    return server.streamable_http_app(stateless_http=True, json_response=True)


def build_starlette_app() -> Starlette:
    """Build one route that answers each message as an empty tool does."""

    async def answer(request: Request) -> Response:
        message = await request.json()
        return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": _RESULT})

    return Starlette(routes=[Route("/mcp", answer, methods=["POST"])])


BUILDERS: Final = {"sdk": build_sdk_app, "starlette": build_starlette_app}


if __name__ == "__main__":
    logging.disable(logging.INFO)  # a line for each call would be most of its cost
    _, name, port = sys.argv
    uvicorn.run(
        BUILDERS[name](), host="127.0.0.1", port=int(port), log_level="error", access_log=False
    )
