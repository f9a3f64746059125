"""Tests of service/local/processes."""
