"""The tasks extension of MCP, on the rows of jobs."""
