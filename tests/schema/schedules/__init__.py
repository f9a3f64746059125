"""Tests of schema/schedules."""
