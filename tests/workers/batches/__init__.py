"""Tests of workers/batches."""
