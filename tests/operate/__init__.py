"""Faults that an operator meets, each against real servers and processes."""
