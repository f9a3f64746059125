"""The MCP server: tools, tasks, resources, prompts, completions, subscriptions."""
