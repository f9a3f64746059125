"""Tests of workers/artifacts."""
