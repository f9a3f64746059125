"""A server of the MCP SDK with one empty tool: the floor of what a tool call can cost.

python -m tests.bench.bare_server PORT
"""

import logging
import sys

import uvicorn
from mcp.server import MCPServer


async def empty() -> str:
    """Do nothing."""
    return ""


if __name__ == "__main__":
    logging.disable(logging.INFO)  # a line for each call would be most of its cost
    server = MCPServer("bare")
    server.add_tool(empty)
    app = server.streamable_http_app(stateless_http=True, json_response=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
