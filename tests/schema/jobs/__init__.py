"""Tests of schema/jobs."""
