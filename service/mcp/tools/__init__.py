"""The MCP tools: one module for each subject, one function for each tool."""
