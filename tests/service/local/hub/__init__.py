"""Tests of service/local/hub."""
