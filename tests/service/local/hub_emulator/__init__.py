"""Tests of the local Hub, driven with the real client library."""
