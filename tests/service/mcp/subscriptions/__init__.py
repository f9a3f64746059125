"""Tests of service/mcp/subscriptions."""
