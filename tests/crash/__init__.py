"""Crash tests: processes are killed at every step, under every fault, and the rows are checked."""
