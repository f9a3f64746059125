"""Tests of schema/db."""
