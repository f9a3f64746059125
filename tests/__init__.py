"""Promises, each proved on real servers."""
