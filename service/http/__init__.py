"""What stands around the tools: middleware, rate limit, health, downloads."""
