"""Tests of workers/spaces."""
