"""Tests of schema/messaging."""
