"""Tests of workers/hub."""
