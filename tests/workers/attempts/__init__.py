"""Tests of workers/attempts."""
