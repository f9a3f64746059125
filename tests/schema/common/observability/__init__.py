"""Tests of schema/common."""
