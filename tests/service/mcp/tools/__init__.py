"""Tests of service/mcp/tools."""
