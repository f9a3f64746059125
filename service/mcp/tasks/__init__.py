"""The tasks extension of MCP: each task is the row of a job."""
