"""The command `stdio`: MCP on standard input and output, for clients that only start programs."""
