"""Tests of schema/batches."""
