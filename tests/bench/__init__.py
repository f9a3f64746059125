"""Measurements of speed and of timing leaks: commands, not tests."""
