"""The service process: the MCP server, its web surface and the command line."""
