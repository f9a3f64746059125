"""Tests of service/mcp/tasks."""
