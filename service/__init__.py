"""The service process: the MCP server, its HTTP endpoints and the command line."""
