"""Databases of tests: states, row-level security, statement counts."""
