"""MCP clients, users and attacks."""
