"""Tests of schema/workspaces."""
