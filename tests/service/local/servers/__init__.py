"""Tests of service/local/servers."""
