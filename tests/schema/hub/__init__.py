"""Tests of schema/hub."""
