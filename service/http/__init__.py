"""HTTP around the MCP server: middleware, rate limit, health, downloads."""
