"""Tests of schema/billing."""
