"""Tests of e2e/jobs."""
