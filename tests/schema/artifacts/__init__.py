"""Tests of schema/artifacts."""
