"""Crashes: processes are killed at every step, under every fault, and the books are checked."""
