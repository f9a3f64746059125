"""Tests of schema/specs."""
