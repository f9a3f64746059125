"""A FastMCP server with one empty tool: `python fastmcp_server.py PORT`, where FastMCP lives."""

import logging
import sys

import uvicorn
from fastmcp import FastMCP

server = FastMCP("bare")


@server.tool
async def empty() -> str:
    """Do nothing."""
    return ""


if __name__ == "__main__":
    logging.disable(logging.INFO)  # a line for each call would be most of its cost
    app = server.http_app(stateless_http=True, json_response=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error", access_log=False)
