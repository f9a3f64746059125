"""Clients of other makers, against the same service."""
