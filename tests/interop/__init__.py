"""Clients of other makers, against our service."""
