"""The MCP surface: tools, tasks, resources, prompts, completions, subscriptions."""
