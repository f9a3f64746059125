"""Tests of workers/executors."""
